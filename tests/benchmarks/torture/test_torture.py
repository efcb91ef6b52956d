"""The quick part of the torture set, and that its judge sees a fault."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.torture.__main__ import Torture
from benchmarks.torture.damage import cut_cases, mutants, mutated, write_wholes
from benchmarks.torture.judge import Outcome, Verdict, judge
from benchmarks.torture.report import TortureResult, report
from benchmarks.torture.variants import Case, all_cases
from mfer_edge.bench.machine import describe_machine
from mfer_edge.errors import CrashError, HangError, MediaError
from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis
from mfer_edge.samples import FEAR

QUICK = {
    "variable, .mp4", "240", "1 x 1", "127 x 255", "9000 x 8000, over the limit",
    "ffv1 yuva444p16le in .mkv", "png monob in .mov", "mpeg2video", "192000 Hz flac",
    "7.1 pcm_f32le", "16 channels pcm_s16le", "all 1 h late in .mkv", "all 1 s below zero in .mp4",
    "jump of 100 s at 0.8 s in .ts", "audio +0.4 s, late, in .mp4", "none: .h264",
}  # fmt: skip


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    names = ("mp4 faststart", "ts", "ogg")
    return write_wholes(tmp_path_factory.mktemp("wholes"), names)


def test_nothing_breaks_it(wholes: dict[str, Path], tmp_path: Path) -> None:
    chosen: list[Case] = [case for case in all_cases() if case.name in QUICK]
    assert len(chosen) == len(QUICK)
    cases = [*chosen, *islice(cut_cases(wholes), 1, None, 6), *mutants(wholes, 24, seed=13)]
    result = TortureResult(describe_machine(), 13, timeout_s=300.0, memory_mb=2000)
    setup = WorkerSetup(device="cpu", threads=1, max_memory_bytes=2_000_000_000)
    with IsolatedPool(setup) as pool:
        Torture(pool, tmp_path, result).run(iter(cases), 4)
    assert len(result.verdicts) == len(cases)
    assert result.faults == []
    by_name = {verdict.name: verdict for verdict in result.verdicts}
    assert by_name["9000 x 8000, over the limit"].outcome == Outcome.LINE.value
    assert all(by_name[name].outcome == Outcome.SAME.value for name in QUICK if "over" not in name)


def test_mutants_are_the_same_again(wholes: dict[str, Path], tmp_path: Path) -> None:
    first, again = (
        [case.make(tmp_path / "clip").read_bytes() for case in mutants(wholes, 9, seed=2)]
        for _ in range(2)
    )
    assert first == again
    assert len(set(first)) == 9


def test_mutants_of_a_few_bytes() -> None:
    for seed in range(200):
        mutated(b"RIFF....", random.Random(seed))


def test_a_run_goes_on(wholes: dict[str, Path], tmp_path: Path) -> None:
    """What is in the file is not tried again; another seed is not taken for the same run."""
    cases = list(mutants(wholes, 6, seed=2))
    first = TortureResult(describe_machine(), 2, timeout_s=300.0, memory_mb=2000)
    first.verdicts += [Verdict("mutant", case.name, "as the twin") for case in cases[:4]]
    path = tmp_path / "result.json"
    first.save(path)
    again = TortureResult(describe_machine(), 2, timeout_s=300.0, memory_mb=2000)
    again.go_on(path)
    assert again.verdicts == first.verdicts
    setup = WorkerSetup(device="cpu", threads=1, max_memory_bytes=2_000_000_000)
    (tmp_path / "cases").mkdir()
    with IsolatedPool(setup) as pool:
        Torture(pool, tmp_path / "cases", again, save_to=path).run(iter(cases), 4)
    assert [verdict.name for verdict in again.verdicts] == [case.name for case in cases]
    other = TortureResult(describe_machine(), 3, timeout_s=300.0, memory_mb=2000)
    with pytest.raises(ValueError, match="of seed 2"):
        other.go_on(path)
    other.go_on(tmp_path / "absent.json")
    assert other.verdicts == []


def test_report() -> None:
    silent, uncovered = Outcome.SILENT.value, Outcome.UNCOVERED.value
    result = TortureResult(describe_machine(), 2, timeout_s=60.0, memory_mb=2000)
    result.verdicts += [
        Verdict("mutant", "mp4 faststart 2-1", silent, may_differ=True),
        Verdict("mutant", "wav 2-12", uncovered, may_differ=True),
        Verdict("cut off", "ts at 50%", silent, may_differ=True),
        Verdict("cut off", "wav at 50%", silent),
    ]
    text = report(result)
    columns = [outcome.value for outcome in Outcome]
    of_mutants = {
        row.split(" | ")[0]: row.strip("| ").split(" | ")[2:]
        for row in text.partition("mutants of")[2].splitlines()
    }
    assert of_mutants["| wav"][columns.index(uncovered)] == "1"
    assert of_mutants["| mp4 faststart"][columns.index(silent)] == "1"
    assert "- mutant, mp4 faststart: 2-1" in text
    assert [verdict.name for verdict in result.faults] == ["wav at 50%"]


class TestJudge:
    @pytest.fixture(scope="class")
    @staticmethod
    def twin() -> Analysis:
        return Pipeline.open(device="cpu", threads=1).analyze(FEAR)

    def test_the_same(self, twin: Analysis) -> None:
        assert judge(twin, twin) == (Outcome.SAME, "")

    def test_other_scores(self, twin: Analysis) -> None:
        assert twin.overall is not None
        scores = {label: score + 0.03 for label, score in twin.overall.scores.items()}
        other = replace(twin, overall=replace(twin.overall, scores=scores))
        assert judge(other, twin) == (Outcome.SILENT, "scores differ by 0.030")
        told = replace(other, warnings=("1 damaged packet could not be decoded",))
        assert judge(told, twin)[0] is Outcome.TOLD

    def test_less_to_read(self, twin: Analysis) -> None:
        assert twin.overall is not None
        voice = replace(twin, overall=replace(twin.overall, modalities=("audio",)))
        assert judge(voice, twin)[0] is Outcome.SILENT
        assert judge(replace(twin, overall=None), twin) == (Outcome.SILENT, "no reading")

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (MediaError("clip.mp4: the file is empty"), Outcome.LINE),
            (MediaError("clip.mp4: \n  a second line"), Outcome.WRONG_LINE),
            (CrashError("clip.mp4: the process that analysed it crashed (SIGSEGV)"), Outcome.CRASH),
            (HangError("clip.mp4: stopped as it was not done in 60 s"), Outcome.HANG),
            (None, Outcome.LOST),
        ],
    )
    def test_errors(self, twin: Analysis, error: MediaError | None, outcome: Outcome) -> None:
        assert judge(error, twin)[0] is outcome
