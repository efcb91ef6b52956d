"""Timing in processes of their own, and what is made of the times."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.harness.processes import (
    Pass,
    Run,
    Series,
    Spread,
    Work,
    publish,
    ratio,
    read_options,
    run_apart,
    run_script,
    take_turns,
)
from mfer_edge.errors import MferError

HERE = "tests.benchmarks.harness.test_processes:"
MINUTES = 60.0


def napping(seconds: str) -> Callable[[], Pass]:
    time.sleep(0.2)  # loading
    print("what a library has to say")

    def one_pass() -> Pass:
        time.sleep(float(seconds))
        return Pass({"sleep": float(seconds)}, [{"tired": 1.0}, None])

    return one_pass


def noting(path: str, name: str) -> Callable[[], object]:
    def one_pass() -> int:
        time.sleep(0.6)
        with Path(path).open("a") as file:
            return file.write(name)

    return one_pass


def refusing() -> Callable[[], object]:
    raise MferError("a package is missing: pip install it")


def series(*passes_s: float, detect_s: float = 0.0) -> Series:
    runs = [Run(2 * s, s, round(1e6 * s), {"detect": detect_s}, []) for s in passes_s]
    return Series("made", runs)


def test_a_process_tells_what_it_took() -> None:
    run = run_apart(Work("nap", HERE + "napping", ("0.6",)))
    assert 0.6 <= run.pass_s < MINUTES
    assert 0.2 + 0.6 < run.start_s < MINUTES
    assert 5e6 < run.peak_bytes < 5e9
    assert run.stages_s == {"sleep": 0.6}
    assert run.scores == [{"tired": 1.0}, None]


def test_works_take_turns(tmp_path: Path) -> None:
    works = [Work(name, HERE + "noting", (str(tmp_path / "a"), name)) for name in "xy"]
    works.insert(1, Work("none", HERE + "refusing"))
    told: list[str] = []
    x, none, y = take_turns(works, 1, told.append)
    assert told == ["round 1 of 1"]
    assert none.failure == "a package is missing: pip install it"
    assert none.runs == []
    assert (x.failure, y.failure) == (None, None)
    assert len(x.runs) == len(y.runs) == 1
    assert x.runs[0].scores == []
    # Each of them: once at the start, and then until a second is over.
    assert (tmp_path / "a").read_text() == "xxxyyy"


def test_a_failure_is_its_last_line() -> None:
    with pytest.raises(MferError, match=r"^ModuleNotFoundError: No module named 'nobody'$"):
        run_apart(Work("missing", "nobody:nothing"))


def test_ratios_are_taken_within_rounds() -> None:
    # The machine was three times as slow in the second round.
    before, after = series(2.0, 6.0, 2.2), series(1.0, 3.0, 1.0)
    assert ratio(before, after) == Spread(2.0, 2.0, 2.2)
    assert before.pass_s == Spread(2.2, 2.0, 6.0)
    assert before.start_s == Spread(4.4, 4.0, 12.0)
    assert before.peak_bytes == 6_000_000


def test_a_stage_that_never_ran_has_no_ratio() -> None:
    there, missing = series(1.0, detect_s=0.5), series(1.0)
    assert ratio(there, there, "detect") == Spread(1.0, 1.0, 1.0)
    assert ratio(there, missing, "detect") is None
    assert ratio(missing, there, "detect") is None
    assert ratio(there, there, "unheard of") is None
    assert ratio(series(), series()) is None


def test_a_script_prints_its_table_and_writes_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.json"
    parser = argparse.ArgumentParser()
    parser.add_argument("--more")
    options = read_options(parser, ["--more", "x", "--rounds", "2", "--json", str(out)])
    assert (options.more, options.rounds, options.json) == ("x", 2, out)
    publish("| a |", Spread(2.0, 1.0, 3.0), options.json)
    assert json.loads(out.read_text()) == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert capsys.readouterr().out == "| a |\n"


def test_a_script_ends_in_a_line_where_something_is_wrong() -> None:
    with pytest.raises(SystemExit, match=r"^error: a package is missing: pip install it$"):
        run_script(lambda: refusing()())
