"""Synthetic times of jobs, and readings."""

from __future__ import annotations

from benchmarks.cpu.time_ratios import DECODERS, REFERENCE
from benchmarks.harness.processes import JobRun
from benchmarks.harness.rounds import JobSeries
from mfer_edge.results import Reading
from mfer_edge.stopwatch import STAGES

DECODE_ALL, DECODE_SAMPLED, DECODE_OPENCV = DECODERS


def series(
    name: str, pass_s: float, stages_s: dict[str, float] | None = None,
    scores: list[dict[str, float] | None] | None = None,
) -> JobSeries:  # fmt: skip
    return JobSeries(name, [JobRun(3 * pass_s, pass_s, 200_000_000, stages_s or {}, scores or [])])


def synthetic_series() -> dict[str, JobSeries]:
    return {
        DECODE_ALL: series(DECODE_ALL, 0.5),
        DECODE_SAMPLED: series(DECODE_SAMPLED, 0.3),
        DECODE_OPENCV: series(DECODE_OPENCV, 0.4),
        "compact": series("compact", 0.6),
        "paper int8": series("paper int8", 2.0, dict.fromkeys(STAGES, 0.25)),
        "paper fp32": series("paper fp32", 4.0, {"visual": 2.0, "detect": 0.0}),
        REFERENCE: series(REFERENCE, 10.0, dict.fromkeys(STAGES, 1.0)),
    }


def reading(angry: float, reused: int = 0) -> Reading:
    scores = {"calm": 1 - angry, "angry": angry}
    return Reading(0.0, 4.0, 0, True, scores, scores, None, 20, 2, 0.0, reused)
