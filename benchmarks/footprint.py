"""Measure what a user feels: start-up, a whole `mfer-edge infer`, and its peak memory.

`python -m benchmarks.footprint CLIP [--runs N] [--out FILE]` starts the program anew for every run
and prints a Markdown table: median, fastest, slowest, and the largest resident set that the
operating system saw. Decoding the clip alone stands beside it, as the floor.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

DECODE = "import sys; from mfer_edge.media import Clip; [None for _ in Clip(sys.argv[1])]"
MODULE = [sys.executable, "-m", "mfer_edge"]


@dataclass(frozen=True)
class Runs:
    """What several runs of one command took."""

    name: str
    seconds: list[float]
    peak_mb: float  # largest resident set of any run

    def row(self) -> str:
        """Give a line of the table."""
        median = statistics.median(self.seconds)
        return (
            f"| {self.name} | {median:.2f} | {min(self.seconds):.2f} | {max(self.seconds):.2f} "
            f"| {self.peak_mb:.0f} |"
        )


def measure(name: str, command: list[str], runs: int) -> Runs:
    """Run a command several times, each in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    seconds, peak_kb = [], 0
    for _ in range(runs):
        # A process in between: the system keeps one peak for all of a process's children.
        watched = [sys.executable, __file__, "--watch", *command]
        result = subprocess.run(watched, check=True, capture_output=True, text=True)
        wall_s, kb = result.stdout.split()
        seconds.append(float(wall_s))
        peak_kb = max(peak_kb, int(kb))
    return Runs(name, seconds, peak_kb / 1024)


def watch(command: list[str]) -> None:
    """Run one command; print its wall time in seconds and its peak resident set in KiB."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.perf_counter() - start
    print(wall_s, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def cpu_name() -> str:
    """Name the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    clip = options.clip
    rows = [
        measure("`mfer-edge --help`", [*MODULE, "--help"], options.runs),
        measure("decode the clip alone", [sys.executable, "-c", DECODE, clip], options.runs),
        measure("`mfer-edge infer CLIP`", [*MODULE, "infer", clip], options.runs),
        measure(
            "`mfer-edge infer CLIP`, one thread",
            [*MODULE, "infer", clip, "--threads", "1"],
            options.runs,
        ),
    ]
    packages = ", ".join(f"{p} {version(p)}" for p in ("mfer-edge", "onnxruntime", "av", "numpy"))
    from mfer_edge.pipeline import cores

    text = "\n".join(
        [
            f"Clip: {Path(clip).name}; {options.runs} runs of each; seconds of wall time.",
            f"Machine: {cpu_name()}, {cores()} cores; Python {platform.python_version()}; "
            f"{packages}.",
            "",
            "| whole process | median s | fastest | slowest | peak memory MB |",
            "|---|---|---|---|---|",
            *(row.row() for row in rows),
            "",
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2:])
    else:
        main()
