"""Jobs and commands, timed in processes of their own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from benchmarks.harness.processes import Job, PassResult, run_job, run_python, time_command
from mfer_edge.errors import MferError

HERE = f"{__name__}:"
MINUTES = 60.0


def sleeping_job(seconds: str) -> Callable[[], PassResult]:
    time.sleep(0.2)  # loading
    print("what a library has to say")

    def one_pass() -> PassResult:
        time.sleep(float(seconds))
        return PassResult({"sleep": float(seconds)}, [{"tired": 1.0}, None])

    return one_pass


def test_a_job_reports_times_memory_and_results() -> None:
    run = run_job(Job("nap", HERE + "sleeping_job", ("0.6",)))
    assert 0.6 <= run.pass_s < MINUTES
    assert 0.2 + 0.6 < run.start_s < MINUTES
    assert 5e6 < run.peak_bytes < 5e9
    assert run.stages_s == {"sleep": 0.6}
    assert run.scores == [{"tired": 1.0}, None]


def test_a_failed_job_raises_its_last_line() -> None:
    with pytest.raises(MferError, match=r"^ModuleNotFoundError: No module named 'nobody'$"):
        run_job(Job("missing", "nobody:nothing"))


def test_a_command_is_timed_from_start_to_exit() -> None:
    code = "import time; held = bytearray(60_000_000); time.sleep(0.3)"
    runs = time_command("sleep", [sys.executable, "-c", code], 2)
    assert len(runs.seconds) == 2
    assert all(0.3 < seconds < MINUTES for seconds in runs.seconds)
    assert 60e6 < runs.peak_bytes < 5e9


def test_a_failed_command_raises_its_name_and_last_line() -> None:
    with pytest.raises(MferError, match=r"^infer: ValueError: no clip$"):
        time_command("infer", [sys.executable, "-c", "raise ValueError('no clip')"], 1)


def test_a_silent_failure_raises_its_exit_code() -> None:
    with pytest.raises(MferError, match=r"^exit code 3$"):
        run_python(["-c", "raise SystemExit(3)"])
