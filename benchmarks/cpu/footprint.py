"""Measure whole processes: start-up, `mfer-edge infer` from start to exit, and peak memory.

`python -m benchmarks.cpu.footprint CLIP [--bundle DIR]... [--rounds N] [--json PATH]` starts the
program anew for every run and prints the median, fastest and slowest time, and the largest resident
set that the operating system reports. A process that decodes every frame of the clip by PyAV is the
floor; `weights` is the size of the bundle's engines.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import plain_decoding, script
from benchmarks.harness.processes import time_command
from benchmarks.harness.tables import MB, document, markdown_table
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.sources.clip import Clip

MFER_EDGE = [sys.executable, "-m", "mfer_edge"]
DECODE = [sys.executable, str(Path(plain_decoding.__file__))]


@dataclass(frozen=True)
class Footprint:
    """Times and memory of one command."""

    name: str
    seconds: list[float]  # wall time of each run
    peak_bytes: int  # largest resident set of any run
    weights_bytes: int | None  # of the bundle

    def cells(self) -> tuple[str, ...]:
        """Format a row of the table."""
        seconds = (statistics.median(self.seconds), min(self.seconds), max(self.seconds))
        times = (f"{value:.2f}" for value in seconds)
        weights = f"{self.weights_bytes / MB:.0f}" if self.weights_bytes else ""
        return self.name, *times, f"{self.peak_bytes / MB:.0f}", weights


@dataclass(frozen=True)
class FootprintResult:
    """Footprints of all commands."""

    machine: Machine
    clip: str
    rows: list[Footprint]


def footprint(name: str, command: Sequence[str], rounds: int, bundle: Bundle | None) -> Footprint:
    """Time a command, and note the size of the bundle that it uses.

    Raises:
        MferError: it failed.
    """
    runs = time_command(name, command, rounds)
    weights_bytes = bundle.manifest.weights_bytes if bundle else None
    return Footprint(name, runs.seconds, runs.peak_bytes, weights_bytes)


def measure(clip: Path, bundles: Sequence[Path], rounds: int) -> FootprintResult:
    """Time all commands on a clip.

    Raises:
        MferError: the clip or a bundle can't be used, or a command failed.
    """
    with Clip(clip):
        pass  # it opens
    opened = [Bundle.open(folder) for folder in bundles]
    infer = [*MFER_EDGE, "infer", str(clip)]
    rows = [
        footprint("`mfer-edge --help`", [*MFER_EDGE, "--help"], rounds, None),
        footprint("decode every frame", [*DECODE, str(clip)], rounds, None),
        footprint("`mfer-edge infer CLIP`", infer, rounds, Bundle.open()),
        footprint("the same, `--threads 1`", [*infer, "--threads", "1"], rounds, None),
    ]
    for bundle in opened:
        command = [*infer, "--bundle", str(bundle.folder)]
        rows.append(footprint(f"`--bundle {bundle.folder.name}`", command, rounds, bundle))
    return FootprintResult(describe_machine(), clip.name, rows)


def markdown(result: FootprintResult) -> str:
    """Format the table."""
    rounds = len(result.rows[0].seconds)
    summary = f"Clip: {result.clip}; {rounds} runs of each; wall time."
    headings = "whole process | median s | fastest | slowest | peak memory MB | weights MB"
    table = markdown_table(headings, [row.cells() for row in result.rows])
    return document(f"{summary}\n{script.machine_line(result.machine)}", table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--bundle", type=Path, action="append", default=[], dest="bundles")
    options = script.parse(parser, arguments)
    result = measure(options.clip, options.bundles, options.rounds)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
