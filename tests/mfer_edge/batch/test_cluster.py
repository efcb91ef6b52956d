"""A batch on a real Ray cluster on this machine, whose worker is killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness.children import command_line, descendants
from mfer_edge.batch.cluster import ClusterOptions, cluster_records, import_ray
from mfer_edge.batch.records import ClipRecord, TaskMaker
from mfer_edge.errors import BatchError
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Timing
from tests.mfer_edge.batch.conftest import Words

SETUP = WorkerSetup(device="cpu", threads=1)

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: extra `ray`"
)


@needs_ray
def test_a_lost_worker_s_clips_are_done_again(
    pipeline: Pipeline, anger: Path, fear: Path, moment: Path, words: Words, tmp_path: Path
) -> None:
    (tmp_path / "bad.mp4").write_text("no clip")
    clips = [words("a.wav", 0.4), anger, tmp_path / "bad.mp4", fear, moment, words("b.wav", 1.0)]
    maker = TaskMaker(pipeline.bundle, pipeline.options())
    tasks = [maker.task(clip, None) for clip in clips]
    records: list[ClipRecord] = []
    killed: list[int] = []
    notes: list[str] = []
    options = ClusterOptions(workers=1)
    for record in cluster_records(iter(tasks), SETUP, options, notes.append):
        records.append(record)
        if not killed:
            pids = descendants(os.getpid())
            killed = [pid for pid in pids if "MapWorker" in command_line(pid)]
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
    assert len(killed) == 1
    assert len(notes) == 1 and notes[0].startswith("a worker was lost")
    assert sorted(one.key for one in records) == sorted(task.key for task in tasks)
    made = {one.key: one for one in records}
    for task in tasks:
        record = made[task.key]
        if task.job.path.name == "bad.mp4":
            assert record.failure is not None and record.failure.error == "MediaError"
            continue
        here = pipeline.analyze(task.job.path)
        assert record.analysis is not None
        untimed = [replace(one, timing=Timing(0, 0, 0)) for one in (record.analysis, here)]
        assert untimed[0] == untimed[1]


@needs_ray
def test_an_address_where_nothing_answers(pipeline: Pipeline, moment: Path) -> None:
    task = TaskMaker(pipeline.bundle, pipeline.options()).task(moment, None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(BatchError, match=f"--ray {address}: no answer"):
        list(cluster_records(iter([task]), SETUP, ClusterOptions(address)))


def test_without_tasks_no_cluster_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # it is not even imported
    assert list(cluster_records(iter([]), SETUP, ClusterOptions())) == []


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BatchError, match="extra ray: pip install"):
        import_ray()
