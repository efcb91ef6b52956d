"""The process runner: jobs and commands, each timed in a new process.

`run_job` starts `benchmarks.harness.worker`, which runs a job once (start-up) and then repeats it
for `REPEAT_S`. `time_command` times a whole command, from start to exit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfer_edge.bench.latency import compiled_environment
from mfer_edge.errors import MferError

REPEAT_S = 1.0  # of repeating a job after its first pass
WATCH = str(Path(__file__).with_name("watch.py"))


@dataclass(frozen=True)
class Job:
    """A function to time in a process of its own.

    Args:
        opener: `module:function`. The function takes the arguments, loads what it needs and returns
            a callable, which is one pass; that may return a `PassResult`.
    """

    name: str
    opener: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class PassResult:
    """Stage times and scores of one pass of a job."""

    stages_s: Mapping[str, float] = field(default_factory=dict)
    scores: Sequence[Mapping[str, float] | None] = ()  # of each clip


@dataclass(frozen=True)
class JobRun:
    """Times and memory of one process that ran a job."""

    start_s: float  # from starting the process to the end of its first pass
    pass_s: float  # median of the passes after that
    peak_bytes: int  # of memory
    stages_s: dict[str, float]  # of the median pass
    scores: list[dict[str, float] | None]


@dataclass(frozen=True)
class CommandRuns:
    """Times and memory of repeated runs of one command."""

    seconds: list[float]  # wall time of each run
    peak_bytes: int  # largest resident set of any run


def run_python(arguments: Sequence[str], name: str = "") -> str:
    """Run this Python with arguments in a new process.

    Args:
        name: of what is run, put before the error.

    Returns:
        The standard output.

    Raises:
        MferError: it failed; with the last line of its standard error.
    """
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=compiled_environment()
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        last = lines[-1] if lines else f"exit code {result.returncode}"
        raise MferError(f"{name}: {last}" if name else last)
    return result.stdout


def run_job(job: Job) -> JobRun:
    """Run a job in a new process.

    Raises:
        MferError: it failed; with the last line of its standard error.
    """
    started = time.time()  # since the epoch: processes share no other clock on every system
    arguments = ["-m", "benchmarks.harness.worker", job.opener, *job.arguments]
    result = json.loads(run_python(arguments).splitlines()[-1])
    return JobRun(start_s=result.pop("first_pass_end") - started, **result)


def time_command(name: str, command: Sequence[str], rounds: int) -> CommandRuns:
    """Run a command several times, each in a new process.

    Raises:
        MferError: it failed; with the last line of its standard error.
    """
    seconds, peak_kib = [], 0
    for _ in range(rounds):
        # A process in between: the system keeps one peak for all children of a process.
        wall_s, kib = run_python([WATCH, *command], name).split()
        seconds.append(float(wall_s))
        peak_kib = max(peak_kib, int(kib))
    return CommandRuns(seconds, peak_kib * 1024)
