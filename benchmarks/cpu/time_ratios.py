"""Ratios of the compared systems' times, and their targets, for 720p clips and two cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.harness.rounds import JobSeries, Spread, time_ratio
from benchmarks.harness.systems import System
from benchmarks.harness.tables import markdown_table
from mfer_edge.stopwatch import STAGES

REFERENCE = "reference (PyTorch)"
DECODE_ALL = "decode every frame"
DECODERS = {
    DECODE_ALL: "decode_all",
    "decode as mfer-edge does": "decode_sampled",
    "decode by OpenCV": "decode_opencv",
}


@dataclass(frozen=True)
class Target:
    """A limit of a ratio."""

    limit: float
    at_least: bool  # otherwise: at most

    def verdict(self, ratio: float) -> str:
        """State the target, and whether a ratio meets it."""
        met = ratio >= self.limit if self.at_least else ratio <= self.limit
        bound = f"at {'least' if self.at_least else 'most'} {self.limit:g}"
        return f"{bound}: {'met' if met else 'missed'}"


# The reference's time over that of an int8 bundle of its size, exact and approximate.
REFERENCE_OVER_EXACT = Target(3.0, at_least=True)
REFERENCE_OVER_APPROXIMATE = Target(5.0, at_least=True)
# The compact bundle's time over that of decoding every frame.
COMPACT_OVER_DECODING = Target(1.6, at_least=False)


def target_of(system: System) -> Target | None:
    """Find the target of a system's ratio, if there is one."""
    if not system.full_size:
        return None if system.approximate else COMPACT_OVER_DECODING
    if "int8" not in system.bundle.manifest.precision:
        return None
    return REFERENCE_OVER_APPROXIMATE if system.approximate else REFERENCE_OVER_EXACT


@dataclass(frozen=True)
class TimeRatio:
    """Ratio of two systems' times: of a whole pass, and of the stages that both report."""

    what: str
    ratio: Spread
    target: Target | None = None
    stages: Mapping[str, Spread] = field(default_factory=dict)


def decoding_ratios(
    series: Mapping[str, JobSeries], system: JobSeries, target: Target | None
) -> list[TimeRatio]:
    """Divide a system's time by that of each decoder; the target is for decoding every frame."""
    found = []
    for name in DECODERS:
        if whole := time_ratio(system, series[name]):
            wanted = target if name == DECODE_ALL else None
            found.append(TimeRatio(f"{system.name} over {name}", whole, wanted))
    return found


def reference_ratios(
    series: Mapping[str, JobSeries], system: JobSeries, target: Target | None
) -> list[TimeRatio]:
    """Divide the reference's time by a system's: the whole, and stage by stage."""
    reference = series[REFERENCE]
    whole = time_ratio(reference, system)
    stages = {name: part for name in STAGES if (part := time_ratio(reference, system, name))}
    return [TimeRatio(f"reference over {system.name}", whole, target, stages)] if whole else []


def ratio_tables(ratios: Sequence[TimeRatio]) -> list[str]:
    """Format the ratios, and those of stages where there are any."""
    whole = [
        (
            one.what,
            f"{one.ratio.median:.2f}",
            str(one.ratio),
            one.target.verdict(one.ratio.median) if one.target else "",
        )
        for one in ratios
    ]
    tables = [markdown_table("ratio of times | median | of the rounds | target", whole)]
    stages = [
        (one.what, *(f"{one.stages[s].median:.1f}" if s in one.stages else "" for s in STAGES))
        for one in ratios
        if one.stages
    ]
    if stages:
        tables.append(markdown_table(f"its stages, medians | {' | '.join(STAGES)}", stages))
    return tables
