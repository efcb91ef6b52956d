"""Compare mfer-edge with the paper's system in PyTorch, and with decoding alone.

`python -m benchmarks.cpu.compare [CLIP...] [--bundle DIR]... [--skip-still LEVELS] [--rounds N]
[--json PATH]` analyses the clips with the compact bundle that ships, which is compared with
decoding every frame of them. Bundles of the full size are named with `--bundle`; they are compared
with `benchmarks.cpu.reference`, which has the same weights where both are random. With
`--skip-still` each of them also runs with still faces skipped. Every system runs in a process of
its own, on all cores that this process may use; only the reference's process has PyTorch. Run
nothing else beside it: PyTorch's threads wait for each other, and a busy machine slows it several
times as much as it slows ONNX Runtime.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpu.score_differences import Agreement, agreement_table, agreements
from benchmarks.cpu.time_ratios import (
    DECODERS,
    REFERENCE,
    TimeRatio,
    decoding_ratios,
    ratio_tables,
    reference_ratios,
    target_of,
)
from benchmarks.harness import script
from benchmarks.harness.processes import Job
from benchmarks.harness.rounds import JobSeries, run_rounds
from benchmarks.harness.systems import (
    HOW_TO_EXPORT,
    grey_levels,
    open_systems,
    write_reference_weights,
)
from benchmarks.harness.tables import MB, document, markdown_table
from benchmarks.harness.third_party import VERSIONS
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError
from mfer_edge.samples import CLIPS
from mfer_edge.sources.clip import Clip


@dataclass(frozen=True)
class CompareResult:
    """Times of all systems, their ratios, and how far scores agree."""

    machine: Machine
    clips: list[str]
    systems: list[JobSeries]
    ratios: list[TimeRatio]
    agreements: list[Agreement]


def compare(
    clips: Sequence[Path], bundles: Sequence[Path], skip_still: float, rounds: int
) -> CompareResult:
    """Time all systems in turn.

    Args:
        bundles: besides the shipped one.
        skip_still: grey levels at which each of them is measured once more, or 0.

    Raises:
        MferError: a clip, a bundle or a package can't be used.
    """
    for path in clips:
        with Clip(path):
            pass  # it opens
    names = tuple(map(str, clips))
    systems = open_systems(bundles, skip_still)
    jobs = [Job(name, f"benchmarks.harness.decoding:{of}", names) for name, of in DECODERS.items()]
    jobs += [system.job(names) for system in systems]
    with tempfile.TemporaryDirectory() as folder:
        if any(system.full_size for system in systems):
            script.log("writing random weights for the reference")
            weights = str(Path(folder) / "weights")
            write_reference_weights(weights)
            opener = "benchmarks.cpu.reference:analyze_with_reference"
            jobs.append(Job(REFERENCE, opener, (weights, *names)))
        series = {one.name: one for one in run_rounds(jobs, rounds, script.log)}
    for one in series.values():
        if one.failure is not None:
            raise MferError(f"{one.name}: {one.failure}")
    ratios: list[TimeRatio] = []
    agreed: list[Agreement] = []
    for system in systems:
        of_system, target = series[system.name], target_of(system)
        if system.full_size:
            ratios += reference_ratios(series, of_system, target)
            agreed += agreements(series[REFERENCE], of_system, [path.name for path in clips])
        else:
            ratios += decoding_ratios(series, of_system, target)
    described = [f"{path.name} ({frame_size(path)})" for path in clips]
    return CompareResult(describe_machine(), described, list(series.values()), ratios, agreed)


def frame_size(path: Path) -> str:
    """Read width and height of a clip's video."""
    with Clip(path) as clip:
        return f"{clip.video.width}x{clip.video.height}" if clip.video else "no video"


def markdown(result: CompareResult) -> str:
    """Format the tables."""
    summary = (
        f"Clips: {', '.join(result.clips)}; {len(result.systems[0].runs)} rounds. Seconds for all "
        "clips together; `start` is a process's first pass, with imports and loading. Targets are "
        "for 720p clips and two cores.\n"
        + script.machine_line(result.machine, ["torch", *VERSIONS])
    )
    headings = "system | median s | fastest to slowest | start s | peak memory MB"
    times = [
        (
            one.name,
            f"{one.pass_s.median:.2f}",
            str(one.pass_s),
            f"{one.start_s.median:.2f}",
            f"{one.peak_bytes / MB:.0f}",
        )
        for one in result.systems
    ]
    return document(
        summary,
        markdown_table(headings, times),
        *ratio_tables(result.ratios),
        agreement_table(result.agreements),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write the JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP", default=CLIPS)
    parser.add_argument("--bundle", type=Path, action="append", default=[], dest="bundles")
    parser.add_argument("--skip-still", type=grey_levels, default=0.0, metavar="LEVELS")
    options = script.parse(parser, arguments)
    if options.skip_still and not options.bundles:
        parser.error("--skip-still is for bundles named with --bundle")
    result = compare(options.clips, options.bundles, options.skip_still, options.rounds)
    text = document(markdown(result), "" if options.bundles else HOW_TO_EXPORT)
    script.publish(text, result, options.json)


if __name__ == "__main__":
    script.run(main)
