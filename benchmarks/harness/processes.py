"""Pieces of work to compare: each in processes of its own, one after the other, round by round.

Of a round's times each is made within seconds of the others, so that a machine that slows down, or
that others use, slows all of them; ratios are taken within rounds. A process does its work once,
which is its start, and then again until `PASSES_S` are over. The scripts that compare so begin with
`read_options` and end with `publish`, inside `run_script`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mfer_edge.bench.machine import Machine, peak_memory
from mfer_edge.errors import MferError
from mfer_edge.outputs.files import check_output, write_text

ROUNDS = 5
PASSES_S = 1.0
MB = 1e6  # bytes


@dataclass(frozen=True)
class Pass:
    """What one pass through the work tells of itself."""

    stages_s: Mapping[str, float] = field(default_factory=dict)
    scores: Sequence[Mapping[str, float] | None] = ()  # of each clip


@dataclass(frozen=True)
class Work:
    """What to do.

    Args:
        opener: `module:function`, which takes the arguments, loads what it needs, and gives a
            function that does one pass; what it returns counts if it is a `Pass`.
    """

    name: str
    opener: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What one process took for its work."""

    start_s: float  # from starting the process to the end of its first pass
    pass_s: float  # median of the passes after that
    peak_bytes: int  # of memory
    stages_s: dict[str, float]  # of the pass in the middle
    scores: list[dict[str, float] | None]


@dataclass(frozen=True)
class Spread:
    """A median, and how far the rounds are apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up one value of each round."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Series:
    """A piece of work in every round."""

    name: str
    runs: list[Run]
    failure: str | None = None  # why there are no more

    @property
    def pass_s(self) -> Spread:
        """Seconds of a pass."""
        return Spread.of([run.pass_s for run in self.runs])

    @property
    def start_s(self) -> Spread:
        """Seconds from starting a process to the end of its first pass."""
        return Spread.of([run.start_s for run in self.runs])

    @property
    def peak_bytes(self) -> int:
        """The most memory of any process."""
        return max(run.peak_bytes for run in self.runs)


def ratio(above: Series, below: Series, stage: str | None = None) -> Spread | None:
    """Divide one's times by the other's, round by round.

    Args:
        stage: of a pass; by default the whole of it.

    Returns:
        None where that stage took no time.
    """

    def seconds(run: Run) -> float:
        return run.pass_s if stage is None else run.stages_s.get(stage, 0.0)

    pairs = [(seconds(a), seconds(b)) for a, b in zip(above.runs, below.runs, strict=False)]
    return Spread.of([a / b for a, b in pairs]) if pairs and all(map(min, pairs)) else None


def take_turns(
    works: Sequence[Work], rounds: int, tell: Callable[[str], None] = lambda line: None
) -> list[Series]:
    """Do all pieces of work in turn, round after round; one that fails is not tried again.

    Args:
        tell: called with a line before each round.
    """
    series = [Series(work.name, []) for work in works]
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        for index, (work, so_far) in enumerate(zip(works, series, strict=True)):
            if so_far.failure is None:
                try:
                    so_far.runs.append(run_apart(work))
                except MferError as error:
                    series[index] = Series(work.name, [], str(error))
    return series


def run_apart(work: Work) -> Run:
    """Do a piece of work in a new process.

    Raises:
        MferError: it failed; with the last line that it printed.
    """
    command = [sys.executable, "-m", "benchmarks.harness.processes", work.opener, *work.arguments]
    started = time.time()  # since the epoch: processes share no other clock on every system
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        said = result.stderr.strip().splitlines()
        raise MferError(said[-1] if said else f"ended with {result.returncode}")
    told = json.loads(result.stdout.splitlines()[-1])
    return Run(start_s=told.pop("first_done") - started, **told)


def work_here(opener: str, arguments: Sequence[str]) -> None:
    """Do a piece of work in this process, and print what `run_apart` reads."""
    module, function = opener.split(":")
    one_pass = getattr(importlib.import_module(module), function)(*arguments)
    one_pass()
    first_done = time.time()
    passes: list[tuple[float, Pass]] = []
    end_s = time.perf_counter() + PASSES_S
    while not passes or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        told = one_pass()
        seconds = time.perf_counter() - start_s
        passes.append((seconds, told if isinstance(told, Pass) else Pass()))
    passes.sort(key=lambda timed: timed[0])
    _, middle = passes[len(passes) // 2]
    result = {
        "first_done": first_done,
        "pass_s": statistics.median(seconds for seconds, _ in passes),
        "peak_bytes": peak_memory() or 0,
    }
    print("\n" + json.dumps(result | asdict(middle)))


def machine_line(machine: Machine, packages: Sequence[str]) -> str:
    """Say where something was measured, and with which versions of what."""
    versions = dict(machine.versions)
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Machine: {machine.cpu}, {machine.cores} cores; {machine.system}; {listed}."


def read_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Read a script's command line, with `--rounds` and `--json` besides its own options.

    Raises:
        OutputError: the JSON could not be written in the end.
    """
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.json:
        check_output(options.json)
    return options


def tell(line: str) -> None:
    """Say on the standard error what is going on."""
    print(line, file=sys.stderr, flush=True)


def publish(table: str, report: Any, json_path: Path | None) -> None:
    """Print a report's tables, and write it as JSON where asked.

    Args:
        report: a dataclass.

    Raises:
        OutputError: it can't be written.
    """
    print(table)
    if json_path:
        write_text(json_path, json.dumps(asdict(report), indent=1) + "\n")


def run_script(main: Callable[[], None]) -> None:
    """Run a script; what goes wrong is told in a line, and the exit code is 1."""
    try:
        main()
    except MferError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    from benchmarks.harness.processes import work_here

    try:
        work_here(sys.argv[1], sys.argv[2:])
    except MferError as error:
        sys.exit(str(error))
