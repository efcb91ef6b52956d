"""The command line of the scripts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.harness import script
from benchmarks.harness.rounds import Spread
from mfer_edge.errors import MferError


def test_a_script_prints_its_table_and_writes_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.json"
    parser = argparse.ArgumentParser()
    parser.add_argument("--more")
    options = script.parse(parser, ["--more", "x", "--rounds", "2", "--json", str(out)])
    assert (options.more, options.rounds, options.json) == ("x", 2, out)
    script.publish("| a |", Spread(2.0, 1.0, 3.0), options.json)
    assert json.loads(out.read_text()) == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert capsys.readouterr().out == "| a |\n"


def fail() -> None:
    raise MferError("a package is missing: pip install it")


def test_a_script_ends_in_a_line_where_something_is_wrong() -> None:
    with pytest.raises(SystemExit, match=r"^error: a package is missing: pip install it$"):
        script.run(fail)
