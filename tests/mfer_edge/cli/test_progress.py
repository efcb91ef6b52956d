"""Progress, interrupts and closed pipes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mfer_edge.pipeline import Pipeline
from tests.support.commands import run


class TestProgress:
    def test_progress_on_a_terminal_only(self, moment: Path) -> None:
        command = [sys.executable, "-m", "mfer_edge", "infer", moment, "--threads", "1"]
        piped = subprocess.run(command, capture_output=True, text=True, check=True)
        assert piped.stderr == ""
        terminal, side = pty.openpty()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=side, check=True)
        os.close(side)
        shown = os.read(terminal, 100_000).decode()
        os.close(terminal)
        assert moment.name in shown and "100%" in shown

    def test_interrupted(self, moment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Pipeline, "analyze", interrupt)
        result = run("infer", moment)
        assert (result.exit_code, result.output) == (130, "interrupted\n")

    def test_closed_pipe(self, moment: Path) -> None:
        """As with `| head -1`."""
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "mfer_edge", "infer", moment, "--json", "-"]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert "Traceback" not in done.stderr
