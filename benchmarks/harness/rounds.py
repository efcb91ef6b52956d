"""Jobs timed in turn, round by round, and ratios of their times.

The times of one round are measured within seconds of each other: a machine that slows down, or that
others use, slows all of them. Ratios are therefore taken within rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness.processes import Job, JobRun, run_job
from mfer_edge.errors import MferError


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest value of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise one value of each round."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


@dataclass(frozen=True)
class JobSeries:
    """The runs of one job, one a round."""

    name: str
    runs: list[JobRun]
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
        """Peak memory of any of its processes."""
        return max(run.peak_bytes for run in self.runs)


def run_rounds(
    jobs: Sequence[Job], rounds: int, log: Callable[[str], None] = lambda line: None
) -> list[JobSeries]:
    """Run all jobs in turn, round after round; one that fails is not tried again.

    Args:
        log: called with a line before each round.
    """
    series = [JobSeries(job.name, []) for job in jobs]
    for number in range(rounds):
        log(f"round {number + 1} of {rounds}")
        for index, (job, so_far) in enumerate(zip(jobs, series, strict=True)):
            if so_far.failure is None:
                try:
                    so_far.runs.append(run_job(job))
                except MferError as error:
                    series[index] = JobSeries(job.name, [], str(error))
    return series


def time_ratio(
    numerator: JobSeries, denominator: JobSeries, stage: str | None = None
) -> Spread | None:
    """Divide the times of two jobs, round by round.

    Args:
        stage: of a pass; by default the whole pass.

    Returns:
        None where the stage took no time, or a job has no runs.
    """

    def seconds(run: JobRun) -> float:
        return run.pass_s if stage is None else run.stages_s.get(stage, 0.0)

    pairs = [
        (seconds(a), seconds(b)) for a, b in zip(numerator.runs, denominator.runs, strict=False)
    ]
    return Spread.of([a / b for a, b in pairs]) if pairs and all(map(min, pairs)) else None
