"""Precisions, threads and batch sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mfer_edge.bench.stats import LatencyStats, RunBudget
from mfer_edge.bench.sweep import END_TO_END, Setting, SweepResult, sweep, verdicts
from mfer_edge.bundle import Bundle


def sweep_result(
    network: str, p50_s: float, threads: int = 2, batch: int = 1, **other: str
) -> SweepResult:
    setting = Setting(other.get("bundle", "a"), other.get("kind", "fp32"), threads, network, batch)
    return SweepResult(setting, LatencyStats.of([p50_s * (1 + 0.001 * run) for run in range(20)]))


class TestSweep:
    def test_every_engine_and_the_clip(self, moment: Path) -> None:
        steps: list[str] = []
        cells = sweep((None,), "cpu", moment, (1,), RunBudget(1, 1), steps.append)
        found = {(cell.setting.network, cell.setting.batch): cell.times for cell in cells}
        names = {*Bundle.open().manifest.engines, END_TO_END} - {"face"}
        assert set(found) == {(name, 1) for name in names} | {("face", n) for n in (1, 5, 20)}
        assert {len(times.runs_s) for times in found.values()} == {2}  # one in each round
        assert {cell.setting.bundle for cell in cells} == {"compact"}
        # Per face; by the best against the worst run, as the machine may be busy.
        assert min(found["face", 20].runs_s) < 5 * max(found["face", 1].runs_s)
        assert max(found[END_TO_END, 1].runs_s) > min(found["audio", 1].runs_s)
        assert steps == ["round 1 of 2: compact, 1 thread", "round 2 of 2: compact, 1 thread"]

    def test_verdicts_come_from_the_numbers(self) -> None:
        cells = [
            sweep_result(END_TO_END, 1.7, threads=1),
            sweep_result(END_TO_END, 1.0),
            sweep_result("face", 0.002),
            sweep_result("face", 0.001, batch=20),
            sweep_result(END_TO_END, 1.7, threads=1, bundle="b", kind="int8"),
            sweep_result(END_TO_END, 0.97, bundle="b", kind="int8"),
        ]
        assert verdicts(cells) == (
            "int8 (b) against fp32 (a), 2 threads: not worth it here "
            "(1.03x as fast end to end, within noise)",
            "2 threads against 1: worth it (1.70x as fast end to end)",
            "20 faces in a call against 1: worth it (2.00x as fast for each face)",
        )

    def test_a_slowdown_is_a_loss(self) -> None:
        cells = [
            sweep_result(END_TO_END, 1.0),
            sweep_result(END_TO_END, 2.0, bundle="b", kind="int8"),
        ]
        [verdict] = verdicts(cells)
        assert verdict.endswith("a loss here (0.50x as fast end to end)")

    def test_too_few_runs_give_no_verdict(self) -> None:
        few = replace(sweep_result(END_TO_END, 1.0), times=LatencyStats.of([1.0]))
        [verdict] = verdicts([few, sweep_result(END_TO_END, 2.0, bundle="b")])
        assert verdict.endswith("too few runs to tell")
