"""Progress, interrupts and closed pipes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from mfer_edge.cli.progress import shortened
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

    @pytest.mark.parametrize("columns", [80, 40, 20])
    def test_a_long_name_does_not_flood_a_narrow_terminal(
        self, moment: Path, tmp_path: Path, columns: int
    ) -> None:
        """A line that is wider than the terminal is a new line at each step."""
        clip = Path(shutil.copy(moment, tmp_path / f"{'long name ' * 9}.mp4"))
        terminal, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [sys.executable, "-m", "mfer_edge", "infer", clip, "--threads", "1"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=side, check=True)
        os.close(side)
        shown = ""
        with suppress(OSError):  # how a terminal ends whose other side is closed
            while part := os.read(terminal, 100_000):
                shown += part.decode()
        os.close(terminal)
        lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
        assert max(map(len, lines)) <= columns
        assert (
            "100%" in shown and "....mp4" in shown.replace("name ", "") and "long" in shown
        ) == (columns == 80)

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


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("clip.mp4", 8, "clip.mp4"),
        ("holiday-2024.mp4", 10, "hol....mp4"),
        ("\u65e5\u672c\u8a9e\u306e\u52d5\u753b.mp4", 12, "\u65e5\u672c\u8a9e...mp4"),
        ("a\nb\x1b[2J.mp4", 20, "a?b?[2J.mp4"),
        ("e\u0301" * 8, 8, "e\u0301" * 8),
    ],
)
def test_shortened(text: str, columns: int, shown: str) -> None:
    assert shortened(text, columns) == shown
