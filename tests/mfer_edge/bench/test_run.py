"""Measuring: on real clips, with the real networks, few runs each."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.bench import run as bench_module
from mfer_edge.bench.latency import time_clip, time_offline, time_starts, time_updates
from mfer_edge.bench.machine import peak_memory
from mfer_edge.bench.report import read_bench
from mfer_edge.bench.run import Bench, bench
from mfer_edge.bench.stats import LatencyStats, RunBudget
from mfer_edge.bench.streams import Trial, most_streams, try_streams
from mfer_edge.bench.sweep import WHOLE, Setting, SweepResult, sweep, verdicts
from mfer_edge.bundle import Bundle, save_bundle
from mfer_edge.cli.main import main
from mfer_edge.engines.base import Engine
from mfer_edge.errors import MferError
from mfer_edge.model import Model, load_engines
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.clip import read_audio
from mfer_edge.sources.replay import Replay
from mfer_edge.speech.vad import SAMPLE_RATE
from mfer_edge.stopwatch import STAGES
from tests.support.clips import write_clip
from tests.support.footage import filmed, images_of

TWICE = RunBudget(2, 2)
RATE = 5.0


@pytest.fixture(scope="module")
def brisk() -> Pipeline:
    """The package's bundle with windows that are soon over."""
    bundle = Bundle.open()
    manifest = replace(bundle.manifest, window_s=0.8, hop_s=0.4)
    return Pipeline(Model.of(replace(bundle, manifest=manifest), load_engines(bundle)))


@pytest.fixture(scope="module")
def voice(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sound = read_audio(anger)[None, 22_400:48_000]
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    return write_clip(path, audio=sound, rate=SAMPLE_RATE, video=None)


@pytest.fixture(scope="module")
def face(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    return filmed(path, images_of(anger)[7:15], None)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Neither a face nor speech."""
    path = tmp_path_factory.mktemp("empty") / "empty.mp4"
    black = [np.zeros((48, 64, 3), np.uint8)] * 5
    return filmed(path, black, np.zeros(SAMPLE_RATE, np.float32))


class Slow:
    """A network that takes its time."""

    def __init__(self, network: Engine, seconds: float) -> None:
        self._network, self._seconds = network, seconds

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(self._seconds)
        return self._network(**arrays)


def slowed(pipeline: Pipeline, **seconds: float) -> Pipeline:
    networks = dict(load_engines(pipeline.bundle))
    for name, taken_s in seconds.items():
        networks[name] = Slow(networks[name], taken_s)
    return Pipeline(Model.of(pipeline.bundle, networks))


class TestClip:
    def test_every_stage_of_a_clip_with_face_and_voice(
        self, pipeline: Pipeline, moment: Path
    ) -> None:
        times = time_clip(pipeline, moment, TWICE)
        assert list(times) == [f"clip.{stage}" for stage in (*STAGES, "total")]
        assert all(len(of.runs_s) == 2 and of.p50_s > 0 for of in times.values())

    def test_measures_what_a_stage_takes(self, pipeline: Pipeline, moment: Path) -> None:
        usual = time_clip(pipeline, moment, TWICE)
        slow = time_clip(slowed(pipeline, audio=0.5), moment, TWICE)
        assert slow["clip.audio"].p50_s - usual["clip.audio"].p50_s == pytest.approx(0.5, abs=0.1)
        assert slow["clip.total"].p50_s >= 0.5

    def test_what_never_ran_is_not_there(
        self, pipeline: Pipeline, voice: Path, face: Path, empty: Path
    ) -> None:
        def ran(clip: Path) -> set[str]:
            return {
                name.removeprefix("clip.") for name in time_clip(pipeline, clip, RunBudget(1, 1))
            }

        assert ran(voice) == {"decode", "vad", "audio", "total"}
        assert ran(face) == {"decode", "detect", "visual", "total"}
        assert ran(empty) == {"decode", "vad", "detect", "total"}


class TestUpdates:
    def test_one_call_of_each_stage(self, brisk: Pipeline, moment: Path) -> None:
        times = time_updates(brisk, Replay.read(moment, RATE), RunBudget(5, 5))
        assert set(times) == {f"call.{stage}" for stage in (*STAGES[1:], "update")}
        assert len(times["call.update"].runs_s) == 5
        assert len(times["call.vad"].runs_s) == 5  # one for each window
        assert 9 <= len(times["call.detect"].runs_s) <= 11  # one for each picture, two a window

    def test_holds_all_that_happens_from_the_last_sample_on(
        self, brisk: Pipeline, moment: Path
    ) -> None:
        slow = slowed(brisk, audio=0.2, visual=0.1)
        update = time_updates(slow, Replay.read(moment, RATE), RunBudget(3, 3))["call.update"]
        assert min(update.runs_s) > 0.1  # some windows may hold no speech
        assert max(update.runs_s) > 0.3

    def test_of_the_voice_alone(self, brisk: Pipeline, voice: Path) -> None:
        times = time_updates(brisk, Replay.read(voice, RATE), RunBudget(4, 4))
        assert set(times) == {"call.vad", "call.audio", "call.update"}

    def test_the_first_reading_is_there_when_told(self, pipeline: Pipeline, moment: Path) -> None:
        session, footage = pipeline.session(), Replay.read(moment, RATE)
        waits = bench_module._waits(pipeline)
        arrived = []
        for due_s, item in footage.endless().timed():
            session.push(item)
            if session.readings():
                arrived.append(due_s)
            if len(arrived) == 2:
                break
        assert arrived[0] == pytest.approx(waits.first_s, abs=waits.picture_s)
        assert arrived[1] == pytest.approx(waits.window_s + waits.hop_s, abs=waits.picture_s)


class TestStarts:
    def test_parts_add_up_and_memory_is_the_processs_own(self, moment: Path) -> None:
        ours = np.ones(50_000_000)  # 400 MB, which are not the other process's
        times, memory = time_starts(None, "cpu", 1, moment, 2)
        parts = [times[f"start.{part}"].runs_s for part in ("import", "load", "first")]
        assert np.allclose(np.sum(parts, axis=0), times["start.total"].runs_s)
        assert all(seconds > 0 for runs_s in parts for seconds in runs_s)
        assert memory is not None
        assert 50e6 < memory < ours.nbytes < (peak_memory() or 0)

    def test_what_goes_wrong_there_is_told_here(self, moment: Path) -> None:
        with pytest.raises(MferError, match="no-such-bundle"):
            time_starts(Path("no-such-bundle"), "cpu", 1, moment, 1)


class TestStreams:
    def test_one_stream_in_real_time(self, brisk: Pipeline, moment: Path) -> None:
        start_s = time.perf_counter()
        trial = try_streams(brisk, Replay.read(moment, RATE), 1, updates=3)
        assert time.perf_counter() - start_s >= 0.8 + 3 * 0.4  # it was waited for
        assert (trial.streams, trial.updates, trial.lost) == (1, 3, False)
        assert trial.p50_s is not None and trial.p99_s is not None
        assert 0 < trial.p50_s <= trial.p99_s

    def test_latency_counts_from_the_sample_not_from_the_push(
        self, brisk: Pipeline, moment: Path
    ) -> None:
        """Pictures that take half their interval each leave the reading waiting for none."""
        slow = slowed(brisk, visual=0.25)
        trial = try_streams(slow, Replay.read(moment, RATE), 1, updates=3)
        assert trial.p50_s is not None and trial.p50_s > 0.25

    def test_too_many_are_given_up(self, brisk: Pipeline, moment: Path) -> None:
        start_s = time.perf_counter()
        hopeless = slowed(brisk, visual=0.9)  # a hop is 0.4 s
        trial = try_streams(hopeless, Replay.read(moment, RATE), 2, updates=50)
        assert trial.lost and not trial.holds
        assert time.perf_counter() - start_s < 15  # of the 21 s it was to last

    def test_an_error_in_one_ends_all(self, brisk: Pipeline, moment: Path) -> None:
        broken = dict(load_engines(brisk.bundle))
        broken["visual"] = broken["fusion"]
        start_s = time.perf_counter()
        with pytest.raises(MferError):
            failing = Pipeline(Model.of(brisk.bundle, broken))
            try_streams(failing, Replay.read(moment, RATE), 2, updates=100)
        assert time.perf_counter() - start_s < 20

    @given(limit=st.integers(0, 300), start=st.integers(0, 300))
    def test_the_search_ends_near_the_limit(self, limit: int, start: int) -> None:
        trials = most_streams(lambda n: made_trial(n, n <= limit), start)
        tried = [trial.streams for trial in trials]
        assert len(trials) <= 8
        assert min(tried) >= 1
        assert len(set(tried)) == len(tried)  # nothing is tried twice
        held = max((trial.streams for trial in trials if trial.holds), default=0)
        failed = min((trial.streams for trial in trials if not trial.holds), default=None)
        assert held <= limit
        if failed is not None and len(trials) < 8:
            assert failed - held <= max(1, 0.1 * held)

    @pytest.mark.parametrize(("limit", "start"), [(0, 3), (1, 1), (1, 9), (5, 3), (12, 8)])
    def test_the_search_finds_small_limits_exactly(self, limit: int, start: int) -> None:
        trials = most_streams(lambda n: made_trial(n, n <= limit), start)
        assert max((t.streams for t in trials if t.holds), default=0) == limit


def made_trial(streams: int, holds: bool) -> Trial:
    return Trial(streams, 10, 0.1, 0.5 if holds else 1.5, hop_s=1.0, lost=False)


class TestOffline:
    def test_workers_share_the_work(self, brisk: Pipeline, voice: Path) -> None:
        """Clips that mostly wait show how many are read at once."""
        slow = slowed(brisk, audio=0.3)
        one = time_offline(slow, voice, 1, RunBudget(1, 1))["offline.clip"].p50_s
        three = time_offline(slow, voice, 3, RunBudget(1, 1))["offline.clip"].p50_s
        assert one / three > 1.5


def made_cell(
    network: str, p50_s: float, threads: int = 2, batch: int = 1, **other: str
) -> SweepResult:
    setting = Setting(other.get("bundle", "a"), other.get("kind", "fp32"), threads, network, batch)
    return SweepResult(setting, LatencyStats.of([p50_s * (1 + 0.001 * run) for run in range(20)]))


class TestSweep:
    def test_every_network_and_the_clip(self, moment: Path) -> None:
        told: list[str] = []
        cells = sweep((None,), "cpu", moment, (1,), RunBudget(1, 1), told.append)
        found = {(cell.setting.network, cell.setting.batch): cell.times for cell in cells}
        names = {*Bundle.open().manifest.engines, WHOLE} - {"face"}
        assert set(found) == {(name, 1) for name in names} | {("face", n) for n in (1, 5, 20)}
        assert {len(times.runs_s) for times in found.values()} == {2}  # one in each round
        assert {cell.setting.bundle for cell in cells} == {"compact"}
        assert found["face", 20].p50_s < 5 * found["face", 1].p50_s  # for one face, not for all
        assert found[WHOLE, 1].p50_s > found["audio", 1].p50_s
        assert told == ["round 1 of 2: compact, 1 thread", "round 2 of 2: compact, 1 thread"]

    def test_verdicts_come_from_the_numbers(self) -> None:
        cells = [
            made_cell(WHOLE, 1.7, threads=1),
            made_cell(WHOLE, 1.0),
            made_cell("face", 0.002),
            made_cell("face", 0.001, batch=20),
            made_cell(WHOLE, 1.7, threads=1, bundle="b", kind="int8"),
            made_cell(WHOLE, 0.97, bundle="b", kind="int8"),
        ]
        assert verdicts(cells) == (
            "int8 (b) against fp32 (a), 2 threads: not worth it here "
            "(1.03x as fast end to end, within noise)",
            "2 threads against 1: worth it (1.70x as fast end to end)",
            "20 faces in a call against 1: worth it (2.00x as fast for each face)",
        )

    def test_a_loss_is_called_one(self) -> None:
        cells = [made_cell(WHOLE, 1.0), made_cell(WHOLE, 2.0, bundle="b", kind="int8")]
        [verdict] = verdicts(cells)
        assert verdict.endswith("a loss here (0.50x as fast end to end)")

    def test_too_few_runs_give_none(self) -> None:
        few = [replace(cell, times=LatencyStats.of([1.0])) for cell in (made_cell(WHOLE, 1.0),)]
        [verdict] = verdicts([*few, made_cell(WHOLE, 2.0, bundle="b")])
        assert verdict.endswith("too few runs to tell")


@pytest.fixture(scope="module")
def measured(moment: Path) -> Bench:
    return bench((), "cpu", moment, runs=2, threads=1)


class TestBench:
    def test_says_what_was_measured(self, measured: Bench, moment: Path) -> None:
        bundle = Bundle.open()
        assert (measured.scenario, measured.device, measured.threads) == ("single", "cpu", 1)
        assert measured.bundle.sha256 == bundle.sha256
        assert measured.bundle.precision == bundle.manifest.precision
        clip = measured.clip
        assert clip.sha256 == hashlib.sha256(moment.read_bytes()).hexdigest()
        assert clip.bytes == moment.stat().st_size
        assert (clip.width, clip.height, clip.video) == (640, 360, "h264")
        assert clip.duration_s == pytest.approx(1.6, abs=0.05)
        assert (measured.waits.window_s, measured.waits.hop_s) == (4, 1)
        assert measured.waits.vad_chunk_s == pytest.approx(0.032)
        assert measured.gpu_bytes is None

    def test_measures_start_clip_and_calls(self, measured: Bench) -> None:
        groups = {name.split(".")[0] for name in measured.times}
        assert groups == {"start", "clip", "call"}
        assert {len(of.runs_s) for name, of in measured.times.items() if name != "call.detect"} == {
            2
        }
        assert measured.memory_bytes is not None
        assert 50e6 < measured.memory_bytes < 400e6

    def test_of_streams_with_another_bundle(self, moment: Path, tmp_path: Path) -> None:
        bundle = Bundle.open()
        manifest = replace(bundle.manifest, window_s=0.8, hop_s=0.2)
        files = {file.file: bundle.folder / file.file for file in manifest.files}
        save_bundle(tmp_path / "brisk", manifest, files)
        found = bench((tmp_path / "brisk",), "cpu", moment, "streams", streams=2, threads=1)
        assert found.waits.hop_s == 0.2
        assert [trial.streams for trial in found.trials] == [2]
        assert found.streams == 2 * found.trials[0].holds
        assert not found.times

    def test_without_a_clip_takes_the_checkouts(self) -> None:
        assert bench_module._clip(None).name == "anger.mp4"

    def test_without_a_clip_or_a_checkout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bench_module, "SAMPLE", Path("gone.mp4"))
        with pytest.raises(MferError, match="name one with --clip"):
            bench()

    @pytest.mark.parametrize(("cores", "tried"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6])])
    def test_threads_that_a_sweep_tries(self, cores: int, tried: list[int]) -> None:
        assert bench_module._counts(cores) == tried


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["bench", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def refused(result: Result) -> tuple[int, str]:
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    return result.exit_code, line.removeprefix("error: ")


class TestCommand:
    def test_table_json_and_comparison(self, voice: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.json"
        options = ("--clip", voice, "--runs", 1, "--device", "cpu", "--threads", 1)
        first = run(*options, "--json", out)
        assert (first.exit_code, first.stderr) == (0, "")
        assert "clip.wav" not in first.stdout and "voice.wav: 1.60 s" in first.stdout
        assert "not run" in first.stdout  # there is no face
        assert read_bench(out).clip.name == "voice.wav"
        second = run(*options, "--json", "-", "--compare", out)
        assert json.loads(second.stdout)["schema"] == 1
        assert "too few runs" in second.stderr  # the comparison; stdout is the JSON's

    @pytest.mark.parametrize(
        ("arguments", "code", "why"),
        [
            (("--runs", 0), 2, "--runs"),
            (("--clip", "none.mp4"), 1, "none.mp4: No such file"),
            (("--bundle", "none"), 1, "none: no such folder"),
            (("--json", "no/such/out.json"), 1, "no folder"),
            (("--json", "out.mp4"), 2, "name of a clip"),
            (("--compare", "none.json"), 1, "none.json: No such file"),
            (("--streams", 2), 2, "--streams is for --scenario streams"),
            (("--sweep", "--scenario", "offline"), 2, "don't go together"),
            (("--bundle", "a", "--bundle", "b"), 2, "for --sweep"),
        ],
    )
    def test_wrong_use_is_told_in_a_line(
        self, arguments: tuple, code: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        found, line = refused(run(*arguments))
        assert found == code
        assert why in line

    def test_never_overwrites_the_clip_or_the_other(self, voice: Path, tmp_path: Path) -> None:
        assert "this is a source" in refused(run("--clip", voice, "--json", voice))[1]
        other = tmp_path / "other.json"
        other.write_text("{}")
        assert "this is a source" in refused(run("--compare", other, "--json", other))[1]

    def test_help_needs_none_of_it(self) -> None:
        code = (
            "import sys\n"
            "from mfer_edge.cli.main import main\n"
            "try: main(['bench', '--help'])\n"
            "except SystemExit: pass\n"
            "print(sorted({'numpy', 'mfer_edge.bench.run', 'av'} & set(sys.modules)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"
