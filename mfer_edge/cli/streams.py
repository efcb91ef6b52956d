"""Standard output, whatever its encoding and however full its disk; signals that end a command."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mfer_edge.errors import OutputError

ENDING = ("SIGTERM", "SIGHUP")  # as Ctrl-C: what is finished stays, what is begun is removed


@contextmanager
def checked_stdout() -> Iterator[None]:
    """Make stdout take any text, and raise an `OutputError` where it can't be written to.

    Letters that its encoding lacks are printed as escapes, such as \\xe9. After an error all text
    is dropped, so that a command can go on with its files. A reader that left, as `head` does, is
    no error: it ends the command.
    """
    before = sys.stdout
    binary = getattr(before, "buffer", None)
    raw = getattr(binary, "raw", binary)  # there is no buffer with `python -u`
    if not isinstance(before, io.TextIOWrapper) or not isinstance(raw, io.RawIOBase):
        yield  # it is no file, as in a test
        return
    before.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_CheckedRaw(raw)),
        encoding=before.encoding,
        errors="backslashreplace",
        line_buffering=before.line_buffering or before.write_through,
    )
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            sys.stdout = before


class _CheckedRaw(io.RawIOBase):
    """The unbuffered stdout; closing it leaves the process's stdout open."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._failed = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int | None:
        if self._failed:
            return len(data)
        try:
            return self._raw.write(data)
        except OSError as error:
            self._failed = True
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(f"stdout: could not be written: {error.strerror or error}") from error


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on signals that would end the process without cleaning up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ENDING:
            number = getattr(signal, name, None)
            # One that is ignored, as `nohup` does, or handled by a program around this one, stays.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
