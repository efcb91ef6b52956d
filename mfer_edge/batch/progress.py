"""Progress of a batch on a terminal, and its summary."""

from __future__ import annotations

import time
from typing import TextIO

from mfer_edge.batch.inputs import BatchInput
from mfer_edge.batch.records import Failure
from mfer_edge.batch.run import BatchRun, Counts

EVERY_S = 0.2  # between two changes of the line
CLEAR = "\r\x1b[K"  # to the start of the line, and erase it


class BatchProgress:
    """A line on a terminal that says how far a batch is; a line of its own for each failure.

    Args:
        stream: stderr.
        show: whether to show the line that changes; failures are printed in any case.
    """

    def __init__(self, stream: TextIO, *, show: bool) -> None:
        self._stream = stream
        self._show = show
        self._start_s = time.monotonic()
        self._shown_s = -EVERY_S

    def progress(self, counts: Counts) -> None:
        """Change the line, if it has not just been changed."""
        now_s = time.monotonic()
        if self._show and (now_s >= self._shown_s + EVERY_S or counts.settled == counts.total):
            self._shown_s = now_s
            self._stream.write(CLEAR + progress_line(counts, now_s - self._start_s))
            self._stream.flush()

    def failed(self, clip: BatchInput, failure: Failure) -> None:
        """Print why a clip failed."""
        self._print(f"error: {clip.name}: {failure.reason}\n")

    def note(self, line: str) -> None:
        """Print what else should be known."""
        self._print(f"{line}\n")

    def close(self) -> None:
        """Remove the line."""
        self._print("")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start_s

    def _print(self, text: str) -> None:
        self._stream.write(CLEAR + text if self._show else text)
        self._stream.flush()
        self._shown_s = -EVERY_S


def progress_line(counts: Counts, elapsed_s: float) -> str:
    """How far, how fast, how long yet, how many failures."""
    parts = [f"{counts.settled}/{counts.total} clips"]
    if counts.analysed and elapsed_s > 0:
        rate = counts.analysed / elapsed_s
        left = duration_text((counts.total - counts.settled) / rate)
        parts += [f"{rate:.2f} a second", f"{counts.media_s / elapsed_s:.1f} x real time"]
        parts.append(f"{left} left")
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    return "  ".join(parts)


def summary(run: BatchRun, elapsed_s: float) -> str:
    """What a batch did, and where its tables are."""
    counts = run.counts
    clips = f"{counts.total} clip{'s' * (counts.total != 1)}"
    parts = [f"{clips} in {duration_text(elapsed_s)}", f"{counts.analysed} new"]
    if counts.known:
        parts.append(f"{counts.known} known from earlier")
    if counts.copies:
        parts.append("1 copy" if counts.copies == 1 else f"{counts.copies} copies")
    parts.append(f"{counts.failed} failed")
    rate = f"{counts.media_s / elapsed_s:.1f} x real time" if elapsed_s > 0 else ""
    first = ", ".join(parts) + (f"; {rate}" if counts.media_s else "")
    files = " ".join(str(path) for path in run.files)
    return f"{first}\n{run.windows} window{'s' * (run.windows != 1)}: {files}"


def duration_text(seconds: float) -> str:
    """A duration as `1:02:03`, or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
