"""Measure what a user feels: start-up, a whole `mfer-edge infer`, and its peak memory.

`python -m benchmarks.cpu.footprint CLIP [--bundle DIR]... [--rounds N] [--json PATH]` starts the
program anew for every run and prints the median, fastest and slowest time, and the largest resident
set that the operating system saw. A process that decodes every frame of the clip by PyAV stands
beside it as the floor; `weights` is the size of the bundle's networks.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.processes import MB, machine_line, publish, read_options, run_script
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from mfer_edge.sources.clip import Clip

WATCH = str(Path(__file__).parents[1] / "harness" / "watch.py")
MODULE = [sys.executable, "-m", "mfer_edge"]
DECODE = """
import sys, av
clip = av.open(sys.argv[1])
for video in clip.streams.video:
    video.thread_type = "AUTO"
for frame in clip.decode(*clip.streams.video, *clip.streams.audio):
    pass
"""


@dataclass(frozen=True)
class Runs:
    """What several runs of one command took."""

    name: str
    seconds: list[float]
    peak_bytes: int  # largest resident set of any run
    weights_bytes: int | None = None  # of the bundle

    def row(self) -> str:
        """Give a line of the table."""
        times = (statistics.median(self.seconds), min(self.seconds), max(self.seconds))
        weights = f"{self.weights_bytes / MB:.0f}" if self.weights_bytes else ""
        return (
            f"| {self.name} | {' | '.join(f'{value:.2f}' for value in times)} "
            f"| {self.peak_bytes / MB:.0f} | {weights} |"
        )


@dataclass(frozen=True)
class Report:
    """All that was measured."""

    machine: Machine
    clip: str
    rows: list[Runs]


def measure(
    name: str, command: Sequence[str], rounds: int, weights_bytes: int | None = None
) -> Runs:
    """Run a command several times, each in a process of its own.

    Raises:
        MferError: it failed.
    """
    seconds, peak_kib = [], 0
    for _ in range(rounds):
        # A process in between: the system keeps one peak for all of a process's children.
        watched = [sys.executable, WATCH, *command]
        result = subprocess.run(watched, capture_output=True, text=True)
        if result.returncode:
            raise MferError(f"{name}: {result.stderr.strip().splitlines()[-1]}")
        wall_s, kib = result.stdout.split()
        seconds.append(float(wall_s))
        peak_kib = max(peak_kib, int(kib))
    return Runs(name, seconds, peak_kib * 1024, weights_bytes)


def table(report: Report) -> str:
    """Give the report in Markdown."""
    return "\n".join(
        [
            f"Clip: {report.clip}; {len(report.rows[0].seconds)} runs of each; wall time.",
            machine_line(report.machine, []),
            "",
            "| whole process | median s | fastest | slowest | peak memory MB | weights MB |",
            "|---|---|---|---|---|---|",
            *(row.row() for row in report.rows),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--bundle", type=Path, action="append", default=[], dest="bundles")
    options = read_options(parser, arguments)
    with Clip(options.clip):
        pass  # it opens
    clip, rounds = str(options.clip), options.rounds
    bundles = [Bundle.open(folder) for folder in options.bundles]
    infer = [*MODULE, "infer", clip]
    rows = [
        measure("`mfer-edge --help`", [*MODULE, "--help"], rounds),
        measure("decode every frame", [sys.executable, "-c", DECODE, clip], rounds),
        measure("`mfer-edge infer CLIP`", infer, rounds, Bundle.open().manifest.weights_bytes),
        measure("the same, `--threads 1`", [*infer, "--threads", "1"], rounds),
    ]
    for bundle in bundles:
        name, command = f"`--bundle {bundle.folder.name}`", [*infer, "--bundle", str(bundle.folder)]
        rows.append(measure(name, command, rounds, bundle.manifest.weights_bytes))
    report = Report(describe_machine(), options.clip.name, rows)
    publish(table(report), report, options.json)


if __name__ == "__main__":
    run_script(main)
