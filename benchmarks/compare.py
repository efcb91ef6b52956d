"""Compare mfer-edge with the paper's system as people run it, and with decoding alone.

`python -m benchmarks.compare [CLIP...] [--bundle DIR]... [--rounds N] [--json PATH]` reads the
clips with the compact bundle that ships, and stands that beside decoding them: the floor, as
nothing of its kind exists elsewhere. Bundles of the full size are named with `--bundle`; they stand
beside `benchmarks.reference`, whose weights are theirs where both are random. Every system runs in
a process of its own, on all cores that this process may use, PyTorch in none but the reference's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.packages import VERSIONS
from benchmarks.rounds import MB, Pass, Series, Spread, Work, machine_line, ratio, take_turns
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from mfer_edge.machine import Machine, describe_machine
from mfer_edge.media import Clip
from mfer_edge.output import check_output
from mfer_edge.session import STAGES

SAMPLES = sorted((Path(__file__).resolve().parent.parent / "samples").glob("*.mp4"))
ROUNDS = 5
REFERENCE, DECODE, OPENCV = "reference (PyTorch)", "decode alone", "decode alone, OpenCV"
HOW_TO_EXPORT = (
    "The full size was not compared: mfer-edge export --preset paper --random-init --int8 "
    "--out paper-int8, then add --bundle paper-int8."
)


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


# Both are meant for 720p clips and two cores.
AGAINST_REFERENCE = Target(3.0, at_least=True)  # its time over that of an int8 bundle of its size
AGAINST_DECODING = Target(1.6, at_least=False)  # compact's time over that of decoding the clip


@dataclass(frozen=True)
class Comparison:
    """Two systems' times, divided."""

    what: str
    ratio: Spread
    target: Target | None = None

    def row(self) -> str:
        """Give a line of the table."""
        verdict = self.target.verdict(self.ratio.median) if self.target else ""
        spread = f"{self.ratio.low:.2f} to {self.ratio.high:.2f}"
        return f"| {self.what} | {self.ratio.median:.2f} | {spread} | {verdict} |"


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


# What runs in processes of its own.


def read_with_bundle(bundle: str, *clips: str) -> Callable[[], Pass]:
    """Open a bundle, the shipped one where none is named, on all cores."""
    from mfer_edge.pipeline import Pipeline

    pipeline = Pipeline.open(bundle or None, device="cpu")

    def one_pass() -> Pass:
        analyses = [pipeline.analyze(clip) for clip in clips]
        stages = [analysis.timing.stages_s for analysis in analyses]
        # The reference takes a clip as one sequence, which longer ones are not here.
        scores = [a.overall.scores if a.overall and len(a.windows) == 1 else None for a in analyses]
        return Pass(added(stages), scores)

    return one_pass


def read_with_reference(weights: str, *clips: str) -> Callable[[], Pass]:
    """Load the reference."""
    from benchmarks.reference import Reference

    reference = Reference(Path(weights))

    def one_pass() -> Pass:
        results = [reference.analyze(clip) for clip in clips]
        return Pass(added([r.stages_s for r in results]), [r.scores for r in results])

    return one_pass


def decode(*clips: str) -> Callable[[], None]:
    """Decode clips as mfer-edge does, pictures and sound."""

    def one_pass() -> None:
        for path in clips:
            with Clip(path) as clip:
                for _ in clip:
                    pass

    return one_pass


def decode_with_opencv(*clips: str) -> Callable[[], None]:
    """Decode the pictures of clips by OpenCV, every one of them."""
    import cv2

    def one_pass() -> None:
        for path in clips:
            capture = cv2.VideoCapture(path)
            while capture.read()[0]:
                pass

    return one_pass


def picture_size(path: Path) -> str:
    """Tell width and height of a clip's pictures."""
    import av

    with av.open(os.fspath(path)) as container:
        video = container.streams.video[0] if container.streams.video else None
        return f"{video.width}x{video.height}" if video else "no video"


def added(stages: Sequence[dict[str, float]]) -> dict[str, float]:
    """Add up the stages of several clips."""
    return {name: sum(clip[name] for clip in stages) for name in STAGES}


# What becomes of it.


def compare(
    clips: Sequence[Path], bundles: Sequence[Path], rounds: int, tell: Callable[[str], None]
) -> Report:
    """Measure.

    Args:
        bundles: besides the shipped one.
        tell: called with a line before each step.

    Raises:
        MferError: a clip, a bundle or a package can't be used.
    """
    for path in clips:
        with Clip(path):
            pass  # it opens
    names = tuple(map(str, clips))
    opened = {"": Bundle.open(), **{str(path): Bundle.open(path) for path in bundles}}
    shown = {folder: _shown(bundle, folder) for folder, bundle in opened.items()}
    full = [shown[f] for f, bundle in opened.items() if bundle.manifest.name == "paper"]
    with tempfile.TemporaryDirectory() as work:
        weights = str(Path(work) / "weights")
        works = [
            Work(DECODE, "benchmarks.compare:decode", names),
            Work(OPENCV, "benchmarks.compare:decode_with_opencv", names),
        ]
        for folder, name in shown.items():
            works.append(Work(name, "benchmarks.compare:read_with_bundle", (folder, *names)))
        if full:
            tell("writing random weights for the reference")
            write_weights(weights)
            arguments = (weights, *names)
            works.append(Work(REFERENCE, "benchmarks.compare:read_with_reference", arguments))
        series = {one.name: one for one in take_turns(works, rounds, tell)}
    for one in series.values():
        if one.failure is not None:
            raise MferError(f"{one.name}: {one.failure}")
    comparisons: list[Comparison] = []
    agreements: list[Agreement] = []
    for name in shown.values():
        if name in full:
            comparisons += against_reference(series, name)
            agreements += agreement(series[REFERENCE], series[name], [p.name for p in clips])
        else:
            comparisons += against_decoding(series, name)
    described = [f"{path.name} ({picture_size(path)})" for path in clips]
    systems = list(series.values())
    return Report(describe_machine(), described, systems, comparisons, agreements)


def write_weights(folder: str) -> None:
    """Let another process write the reference's weights: it needs PyTorch.

    Raises:
        MferError: it can't.
    """
    command = [sys.executable, "-m", "benchmarks.reference", "--weights", folder]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise MferError(f"no weights for the reference: {result.stderr.strip().splitlines()[-1]}")


def against_decoding(series: dict[str, Series], name: str) -> list[Comparison]:
    """Divide a system's time by that of decoding."""
    ours, theirs = (ratio(series[name], series[by]) for by in (DECODE, OPENCV))
    if ours is None or theirs is None:
        return []
    return [
        Comparison(f"{name} over {DECODE}", ours, AGAINST_DECODING),
        Comparison(f"{name} over {OPENCV}", theirs),
    ]


def against_reference(series: dict[str, Series], name: str) -> list[Comparison]:
    """Divide the reference's time by a system's: the whole, and stage by stage."""
    reference, ours = series[REFERENCE], series[name]
    found = []
    if whole := ratio(reference, ours):
        target = AGAINST_REFERENCE if "int8" in name else None
        found.append(Comparison(f"reference over {name}", whole, target))
    for stage in STAGES:
        if part := ratio(reference, ours, stage):
            found.append(Comparison(f"its {stage}", part))
    return found


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


def _shown(bundle: Bundle, folder: str) -> str:
    name = f"{bundle.manifest.name} {bundle.manifest.precision}"
    return f"{name} ({Path(folder).name})" if folder else name


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
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.json:
        check_output(options.json)
    report = compare(
        options.clips,
        options.bundles,
        options.rounds,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(table(report))
    if not options.bundles:
        print(f"\n{HOW_TO_EXPORT}")
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except MferError as error:
        sys.exit(f"error: {error}")
