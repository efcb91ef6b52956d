"""Calls of `mfer-edge`, within the test process and as processes of their own."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner, Result

from mfer_edge.cli.main import main


def run(*arguments: object) -> Result:
    """Call `mfer-edge`; nothing but an exit may come out of it."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


def infer(*arguments: object) -> Result:
    """Call `mfer-edge infer` on one CPU thread."""
    return run("infer", "--device", "cpu", "--threads", 1, *arguments)


def passed(result: Result) -> str:
    """Stdout of a call without errors."""
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(result: Result, code: int) -> str:
    """The error line of a call that did nothing."""
    assert result.exit_code == code
    assert result.stdout == ""
    return one_error(result)


def one_error(result: Result) -> str:
    """The only line on stderr, an error."""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def scores_of(made: dict) -> dict:
    """The parts of an analysis' JSON that depend on the clip alone."""
    return {key: made[key] for key in ("schema", "bundle", "overall", "windows", "tracks")}
