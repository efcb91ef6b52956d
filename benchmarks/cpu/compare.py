"""Compare mfer-edge with the paper's system as people run it, and with decoding alone.

`python -m benchmarks.cpu.compare [CLIP...] [--bundle DIR]... [--skip-still LEVELS] [--rounds N]
[--json PATH]` reads the clips with the compact bundle that ships, and stands that beside decoding
every frame of them, as nothing of its kind exists elsewhere. Bundles of the full size are named
with `--bundle`; they stand beside `benchmarks.cpu.reference`, whose weights are theirs where both
are random. With `--skip-still` each of them also reads the clips without embedding faces anew that
hold still. Every system runs in a process of its own, on all cores that this process may use, PyTorch in
none but the reference's. Let nothing else run: PyTorch's threads wait for each other, and on a busy
machine it loses several times what ONNX Runtime does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.processes import (
    MB,
    Series,
    Spread,
    Work,
    machine_line,
    publish,
    ratio,
    read_options,
    run_script,
    take_turns,
    tell,
)
from benchmarks.harness.systems import (
    HOW_TO_EXPORT,
    SAMPLES,
    System,
    levels,
    systems_of,
    write_weights,
)
from benchmarks.harness.third_party import VERSIONS
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError
from mfer_edge.sources.clip import Clip
from mfer_edge.stopwatch import STAGES

REFERENCE = "reference (PyTorch)"
DECODE = "decode every frame"
DECODE_AS_WE_DO, DECODE_BY_OPENCV = "decode as mfer-edge does", "decode by OpenCV"


@dataclass(frozen=True)
class Target:
    """What a ratio is to be."""

    limit: float
    at_least: bool  # otherwise: at most

    def verdict(self, ratio: float) -> str:
        """Say what it is, and whether a ratio meets it."""
        met = ratio >= self.limit if self.at_least else ratio <= self.limit
        wanted = f"at {'least' if self.at_least else 'most'} {self.limit:g}"
        return f"{wanted}: {'met' if met else 'missed'}"


# All are meant for 720p clips and two cores. The first two are the reference's time over that of an
# int8 bundle of its size, the last is compact's over that of decoding every frame.
AGAINST_REFERENCE = Target(3.0, at_least=True)
APPROXIMATE_AGAINST_REFERENCE = Target(5.0, at_least=True)
AGAINST_DECODING = Target(1.6, at_least=False)


def target_of(system: System) -> Target | None:
    """Say what a system's ratio is to be, if anything was aimed at."""
    if not system.full_size:
        return None if system.approximate else AGAINST_DECODING
    if "int8" not in system.bundle.manifest.precision:
        return None
    return APPROXIMATE_AGAINST_REFERENCE if system.approximate else AGAINST_REFERENCE


@dataclass(frozen=True)
class Comparison:
    """Two systems' times, divided: of a whole pass, and of stages that both tell of."""

    what: str
    ratio: Spread
    target: Target | None = None
    stages: Mapping[str, Spread] = field(default_factory=dict)

    def row(self) -> str:
        """Give a line of the table."""
        verdict = self.target.verdict(self.ratio.median) if self.target else ""
        spread = f"{self.ratio.low:.2f} to {self.ratio.high:.2f}"
        return f"| {self.what} | {self.ratio.median:.2f} | {spread} | {verdict} |"

    def stages_row(self) -> str:
        """Give a line of the table of stages."""
        medians = [f"{self.stages[s].median:.1f}" if s in self.stages else "" for s in STAGES]
        return f"| {self.what} | {' | '.join(medians)} |"


@dataclass(frozen=True)
class Agreement:
    """How far a bundle's scores of a clip are from the reference's."""

    bundle: str
    clip: str
    difference: float  # the largest of any label
    spread: float  # between the reference's highest and lowest score
    same_label: bool

    def row(self) -> str:
        """Give a line of the table."""
        same = "yes" if self.same_label else "no"
        return (
            f"| {self.bundle} | {self.clip} | {self.difference:.4f} | {self.spread:.4f} | {same} |"
        )


@dataclass(frozen=True)
class Report:
    """All that was measured."""

    machine: Machine
    clips: list[str]
    systems: list[Series]
    comparisons: list[Comparison]
    agreements: list[Agreement]


def compare(
    clips: Sequence[Path],
    bundles: Sequence[Path],
    skip_still: float,
    rounds: int,
    tell: Callable[[str], None],
) -> Report:
    """Measure.

    Args:
        bundles: besides the shipped one.
        skip_still: grey levels at which each of them is measured once more, or 0.
        tell: called with a line before each step.

    Raises:
        MferError: a clip, a bundle or a package can't be used.
    """
    for path in clips:
        with Clip(path):
            pass  # it opens
    names = tuple(map(str, clips))
    systems = systems_of(bundles, skip_still)
    full_size = any(system.full_size for system in systems)
    with tempfile.TemporaryDirectory() as work:
        weights = str(Path(work) / "weights")
        works = [
            Work(DECODE, "benchmarks.harness.systems:decode", names),
            Work(DECODE_AS_WE_DO, "benchmarks.harness.systems:decode_as_we_do", names),
            Work(DECODE_BY_OPENCV, "benchmarks.harness.systems:decode_by_opencv", names),
            *(system.work(names) for system in systems),
        ]
        if full_size:
            tell("writing random weights for the reference")
            write_weights(weights)
            arguments = (weights, *names)
            works.append(
                Work(REFERENCE, "benchmarks.harness.systems:read_with_reference", arguments)
            )
        series = {one.name: one for one in take_turns(works, rounds, tell)}
    for one in series.values():
        if one.failure is not None:
            raise MferError(f"{one.name}: {one.failure}")
    comparisons: list[Comparison] = []
    agreements: list[Agreement] = []
    for system in systems:
        ours, target = series[system.name], target_of(system)
        if system.full_size:
            comparisons += against_reference(series, ours, target)
            agreements += agreement(series[REFERENCE], ours, [p.name for p in clips])
        else:
            comparisons += against_decoding(series, ours, target)
    described = [f"{path.name} ({picture_size(path)})" for path in clips]
    return Report(describe_machine(), described, list(series.values()), comparisons, agreements)


def against_decoding(
    series: Mapping[str, Series], ours: Series, target: Target | None
) -> list[Comparison]:
    """Divide a system's time by that of decoding, in three ways; the target is for the first."""
    targets = {DECODE: target, DECODE_AS_WE_DO: None, DECODE_BY_OPENCV: None}
    found = []
    for name, wanted in targets.items():
        if whole := ratio(ours, series[name]):
            found.append(Comparison(f"{ours.name} over {name}", whole, wanted))
    return found


def against_reference(
    series: Mapping[str, Series], ours: Series, target: Target | None
) -> list[Comparison]:
    """Divide the reference's time by a system's: the whole, and stage by stage."""
    reference = series[REFERENCE]
    whole = ratio(reference, ours)
    stages = {name: part for name in STAGES if (part := ratio(reference, ours, name))}
    return [Comparison(f"reference over {ours.name}", whole, target, stages)] if whole else []


def agreement(reference: Series, ours: Series, clips: Sequence[str]) -> list[Agreement]:
    """Compare scores, clip by clip, where a clip is one window."""
    found = []
    pairs = zip(clips, reference.runs[0].scores, ours.runs[0].scores, strict=True)
    for clip, theirs, mine in pairs:
        if theirs is None or mine is None:
            continue
        found.append(
            Agreement(
                bundle=ours.name,
                clip=clip,
                difference=max(abs(theirs[label] - mine[label]) for label in theirs),
                spread=max(theirs.values()) - min(theirs.values()),
                same_label=max(theirs, key=theirs.__getitem__) == max(mine, key=mine.__getitem__),
            )
        )
    return found


def picture_size(path: Path) -> str:
    """Tell width and height of a clip's pictures."""
    import av

    with av.open(f"file:{path}") as container:
        video = container.streams.video[0] if container.streams.video else None
        return f"{video.width}x{video.height}" if video else "no video"


def table(report: Report) -> str:
    """Give the report in Markdown."""
    rounds = len(report.systems[0].runs)
    lines = [
        f"Clips: {', '.join(report.clips)}; {rounds} rounds. Seconds for all clips together; "
        "`start` is a process's first pass, with imports and loading. Targets are for 720p clips "
        "and two cores.",
        machine_line(report.machine, ["torch", *VERSIONS]),
        "",
        "| system | median s | fastest to slowest | start s | peak memory MB |",
        "|---|---|---|---|---|",
    ]
    for system in report.systems:
        taken = system.pass_s
        lines.append(
            f"| {system.name} | {taken.median:.2f} | {taken.low:.2f} to {taken.high:.2f} "
            f"| {system.start_s.median:.2f} | {system.peak_bytes / MB:.0f} |"
        )
    lines += ["", "| ratio of times | median | of the rounds | target |", "|---|---|---|---|"]
    lines += [comparison.row() for comparison in report.comparisons]
    staged = [comparison for comparison in report.comparisons if comparison.stages]
    if staged:
        lines += [
            "",
            f"| its stages, medians | {' | '.join(STAGES)} |",
            "|---" * (1 + len(STAGES)) + "|",
        ]
        lines += [comparison.stages_row() for comparison in staged]
    if report.agreements:
        lines += [
            "",
            "| bundle | clip | largest difference of a score | reference's highest less lowest "
            "| same label |",
            "|---|---|---|---|---|",
            *(agreed.row() for agreed in report.agreements),
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP", default=SAMPLES)
    parser.add_argument("--bundle", type=Path, action="append", default=[], dest="bundles")
    parser.add_argument("--skip-still", type=levels, default=0.0, metavar="LEVELS")
    options = read_options(parser, arguments)
    if options.skip_still and not options.bundles:
        parser.error("--skip-still is for bundles named with --bundle")
    report = compare(options.clips, options.bundles, options.skip_still, options.rounds, tell)
    text = table(report) if options.bundles else f"{table(report)}\n\n{HOW_TO_EXPORT}"
    publish(text, report, options.json)


if __name__ == "__main__":
    run_script(main)
