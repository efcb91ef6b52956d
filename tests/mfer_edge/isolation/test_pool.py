"""Pools of worker processes: what a lost worker costs, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.errors import (
    AdaptationError,
    BundleError,
    CrashError,
    HangError,
    IsolationError,
    MediaError,
    MemoryLimitError,
)
from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.isolation.worker import ClipJob, WorkerSetup, error_of
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis, Timing

ONE_THREAD = WorkerSetup(device="cpu", threads=1)
LIMIT_S = 60.0  # for what takes a moment, on a machine that others use

ORPHAN = """
import os, signal, sys, time
from pathlib import Path
from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.isolation.worker import ClipJob, WorkerSetup

def stop_it(_):
    os.kill(pool.pids[0], signal.SIGSTOP)
    print(pool.pids[0], flush=True)

pool = IsolatedPool(WorkerSetup(device="cpu", threads=1))
pool.submit(ClipJob(Path(sys.argv[1])), progress=stop_it)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[IsolatedPool]:
    with IsolatedPool(ONE_THREAD) as opened:
        yield opened


def untimed(analysis: Analysis) -> Analysis:
    return replace(analysis, timing=Timing(0, 0, 0))


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


class TestResults:
    def test_are_those_of_the_pipeline(
        self, pool: IsolatedPool, pipeline: Pipeline, anger: Path, moment: Path
    ) -> None:
        options = pipeline.options(window_s=2, hop_s=0.5, faces="all")
        job = ClipJob(anger, options, keep_detections=True)
        futures = [pool.submit(job), pool.submit(ClipJob(moment))]
        expected = [
            pipeline.analyze(anger, options, keep_detections=True),
            pipeline.analyze(moment),
        ]
        made = [future.result() for future in futures]
        assert [untimed(one) for one in made] == [untimed(one) for one in expected]
        assert made[0].detections and made[0].timing.stages_s.keys()

    def test_progress(self, pool: IsolatedPool, anger: Path) -> None:
        seen: list[float] = []
        pool.submit(ClipJob(anger), progress=seen.append).result()
        assert seen == sorted(seen) and seen
        assert seen[0] >= 0 and seen[-1] <= 1

    def test_errors_are_those_of_the_pipeline(self, pool: IsolatedPool, tmp_path: Path) -> None:
        before = pool.pids
        (tmp_path / "bad.mp4").write_text("no clip")
        with pytest.raises(MediaError, match=r"bad\.mp4: not a video"):
            pool.submit(ClipJob(tmp_path / "bad.mp4")).result()
        with pytest.raises(AdaptationError, match=r"bad\.mp4: "):
            job = ClipJob(tmp_path / "bad.mp4", adaptation=tmp_path / "bad.mp4")
            pool.submit(job).result()
        assert pool.pids == before

    def test_adaptation_of_one_clip(self, adaptable: Pipeline, moment: Path, anger: Path) -> None:
        adaptation = adaptable.collect(anger).adaptation()
        file = adaptable.bundle.folder.parent / "place.npz"
        adaptation.save(file)
        setup = replace(ONE_THREAD, bundle=adaptable.bundle.folder)
        with IsolatedPool(setup) as pool:
            first = pool.submit(ClipJob(moment, adaptation=file)).result()
            plain = pool.submit(ClipJob(moment)).result()
        with IsolatedPool(replace(setup, adaptation=file)) as pool:
            second = pool.submit(ClipJob(moment)).result()
        assert plain.adaptation is None and first.adaptation is not None
        assert untimed(first) == untimed(second) != untimed(plain)

    def test_a_fault_of_ours_costs_the_clip(self, pool: IsolatedPool, moment: Path) -> None:
        """An error that is not one of the tree: the process is not trusted any longer."""
        before = pool.pids
        with pytest.raises(CrashError, match=r"moment\.mp4: failed: "):
            pool.submit(ClipJob(moment, options="none")).result()  # type: ignore[arg-type]
        assert pool.submit(ClipJob(moment)).result().windows
        assert pool.pids != before

    def test_no_error_of_another_kind_is_made(self) -> None:
        error = error_of({"kind": "annotations", "error": "x"})
        assert type(error) is CrashError and str(error) == "x"


class TestLosses:
    @pytest.mark.parametrize(
        ("number", "fact"),
        [
            (signal.SIGSEGV, r"crashed \(SIGSEGV\)"),
            (signal.SIGABRT, r"crashed \(SIGABRT\)"),
            (signal.SIGKILL, r"killed \(SIGKILL\), by someone or as memory ran out"),
        ],
    )
    def test_a_crash_costs_the_clip(
        self, pool: IsolatedPool, anger: Path, moment: Path, number: signal.Signals, fact: str
    ) -> None:
        before = pool.pids
        lost = pool.submit(ClipJob(anger), progress=lambda _: os.kill(pool.pids[0], number))
        following = pool.submit(ClipJob(moment))
        with pytest.raises(CrashError, match=rf"{anger}: the process that analysed it .*{fact}"):
            lost.result()
        assert following.result().overall is not None
        assert len(pool.pids) == 1 and pool.pids != before

    def test_a_hang_costs_the_clip(self, pool: IsolatedPool, anger: Path, moment: Path) -> None:
        """A stopped process runs nothing at all, as one that hangs in native code."""
        stopped = ClipJob(anger, timeout_s=1.5)
        lost = pool.submit(stopped, progress=lambda _: os.kill(pool.pids[0], signal.SIGSTOP))
        following = pool.submit(ClipJob(moment, timeout_s=LIMIT_S))
        with pytest.raises(HangError, match=rf"{anger}: stopped as it was not done in 1.5 s"):
            lost.result()
        assert following.result().overall is not None

    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory needs /proc")
    def test_memory_over_the_bound_costs_the_clip(self, anger: Path) -> None:
        with IsolatedPool(replace(ONE_THREAD, max_memory_bytes=80_000_000)) as pool:
            for _ in range(2):
                with pytest.raises(MemoryLimitError, match=rf"{anger}: .* 80 MB of memory"):
                    pool.submit(ClipJob(anger)).result()

    def test_an_idle_worker_that_dies_costs_nothing(self, pool: IsolatedPool, moment: Path) -> None:
        pool.submit(ClipJob(moment)).result()
        os.kill(pool.pids[0], signal.SIGKILL)
        assert pool.submit(ClipJob(moment)).result().windows

    def test_others_go_on(self, anger: Path, moment: Path) -> None:
        with IsolatedPool(ONE_THREAD, workers=2) as pool:
            before = pool.pids

            def kill_its_worker(_: float) -> None:
                number = int(threading.current_thread().name.removeprefix("worker-"))
                os.kill(pool.pids[number], signal.SIGKILL)

            lost = pool.submit(ClipJob(anger), progress=kill_its_worker)
            others = [pool.submit(ClipJob(moment)) for _ in range(3)]
            assert [len(other.result().windows) for other in others] == [1, 1, 1]
            assert isinstance(lost.exception(), CrashError)
            assert len(set(before) & set(pool.pids)) == 1


class TestLifetime:
    def test_nothing_is_left(self, moment: Path) -> None:
        with IsolatedPool(ONE_THREAD, workers=2) as pool:
            futures = [pool.submit(ClipJob(moment)) for _ in range(3)]
            pids = pool.pids
            assert len(set(pids)) == 2
        assert all(future.result().windows for future in futures)  # closing waits for them
        assert not any(map(running, pids))
        with pytest.raises(RuntimeError, match="closed"):
            pool.submit(ClipJob(moment))
        pool.close()

    def test_an_error_in_the_block_drops_what_runs_and_waits(self, anger: Path) -> None:
        futures, pids = [], []
        with pytest.raises(KeyboardInterrupt), IsolatedPool(ONE_THREAD) as pool:
            stop = lambda _: os.kill(pids[0], signal.SIGSTOP)  # noqa: E731
            pids += pool.pids
            futures = [pool.submit(ClipJob(anger), progress=stop), pool.submit(ClipJob(anger))]
            while not futures[0].running():
                time.sleep(0.01)
            raise KeyboardInterrupt
        assert futures[1].cancelled()
        assert isinstance(futures[0].exception(), IsolationError)
        assert not running(pids[0])

    def test_a_bundle_that_does_not_open_is_told_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=f"{tmp_path}: not a bundle"):
            IsolatedPool(WorkerSetup(bundle=tmp_path), workers=2)

    @pytest.mark.skipif(sys.platform != "linux", reason="a stopped child: prctl, Linux only")
    def test_a_hanging_worker_ends_with_a_killed_parent(self, anger: Path, tmp_path: Path) -> None:
        script = tmp_path / "orphan.py"
        script.write_text(ORPHAN)
        with subprocess.Popen(
            [sys.executable, script, anger], stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert running(pid)
            parent.kill()
        end = time.monotonic() + LIMIT_S
        while running(pid) and time.monotonic() < end:
            time.sleep(0.02)
        assert not running(pid)

    def test_a_worker_prints_nothing_on_stdout(
        self, moment: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with IsolatedPool(ONE_THREAD) as pool:
            link = Path(f"/proc/{pool.pids[0]}/fd")
            if link.exists():
                assert os.readlink(link / "1") == os.readlink(link / "2")
            assert pool.submit(ClipJob(moment)).result().windows
        assert capfd.readouterr().out == ""


def test_scores_are_exact(pool: IsolatedPool, pipeline: Pipeline, moment: Path) -> None:
    """JSON keeps every bit of a float."""
    mine, theirs = pipeline.analyze(moment), pool.submit(ClipJob(moment)).result()
    assert mine.overall is not None and theirs.overall is not None
    values = [np.array(list(one.overall.scores.values())) for one in (mine, theirs)]  # type: ignore[union-attr]
    assert values[0].tobytes() == values[1].tobytes()
