"""Jobs in turn, and ratios of their times."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.processes import Job, JobRun
from benchmarks.harness.rounds import JobSeries, Spread, run_rounds, time_ratio
from mfer_edge.errors import MferError

HERE = f"{__name__}:"


def appending_job(path: str, name: str) -> Callable[[], object]:
    def one_pass() -> int:
        time.sleep(0.6)
        with Path(path).open("a") as file:
            return file.write(name)

    return one_pass


def failing_job() -> Callable[[], object]:
    raise MferError("a package is missing: pip install it")


def series(*passes_s: float, detect_s: float = 0.0) -> JobSeries:
    runs = [JobRun(2 * s, s, round(1e6 * s), {"detect": detect_s}, []) for s in passes_s]
    return JobSeries("synthetic", runs)


def test_jobs_run_in_turn_and_a_failed_one_only_once(tmp_path: Path) -> None:
    jobs = [Job(name, HERE + "appending_job", (str(tmp_path / "a"), name)) for name in "xy"]
    jobs.insert(1, Job("none", HERE + "failing_job"))
    lines: list[str] = []
    x, none, y = run_rounds(jobs, 1, lines.append)
    assert lines == ["round 1 of 1"]
    assert none.failure == "a package is missing: pip install it"
    assert none.runs == []
    assert (x.failure, y.failure) == (None, None)
    assert len(x.runs) == len(y.runs) == 1
    assert x.runs[0].scores == []
    # Each of them: once at the start, and then until a second is over (one pass, if it is slow).
    assert re.fullmatch("x{2,3}y{2,3}", (tmp_path / "a").read_text())


def test_ratios_are_taken_within_rounds() -> None:
    # The machine was three times as slow in the second round.
    before, after = series(2.0, 6.0, 2.2), series(1.0, 3.0, 1.0)
    assert time_ratio(before, after) == Spread(2.0, 2.0, 2.2)
    assert before.pass_s == Spread(2.2, 2.0, 6.0)
    assert before.start_s == Spread(4.4, 4.0, 12.0)
    assert before.peak_bytes == 6_000_000


def test_a_stage_that_never_ran_has_no_ratio() -> None:
    there, missing = series(1.0, detect_s=0.5), series(1.0)
    assert time_ratio(there, there, "detect") == Spread(1.0, 1.0, 1.0)
    assert time_ratio(there, missing, "detect") is None
    assert time_ratio(missing, there, "detect") is None
    assert time_ratio(there, there, "unheard of") is None
    assert time_ratio(series(), series()) is None
