"""Results of several clips in one file, each written as soon as it is there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TextIO

from mfer_edge.errors import OutputError
from mfer_edge.outputs.files import append_text, is_stream, replacing


class GrowingText:
    """A text file that gets longer with every result. Until the first one, an older file stays.

    A file is complete after each result, whatever happens then: it is replaced, or added to. What
    could not be written, for example on a full disk, is tried again with the next result.

    Args:
        out: the file, or a device or a pipe, which stays open until `close`.
        append: add to the file instead of replacing it by a longer one: quicker, but a power cut
            may leave half a line at the end.
    """

    def __init__(self, out: Path, *, append: bool) -> None:
        self._out, self._append = out, append
        self._text = ""  # not yet in the file; all of it, unless `append`
        self._begun = False
        self._stream: TextIO | None = None

    def add(self, text: str) -> None:
        """Write the next result.

        Raises:
            OutputError: the file can't be written.
        """
        self._text += text
        if self._stream is not None or is_stream(self._out):
            self._add_to_stream()
        elif self._append and self._begun:
            append_text(self._out, self._text)
            self._text = ""
        else:
            with replacing(self._out) as temporary:
                temporary.write_text(self._text, encoding="utf-8", newline="")
            self._begun = True
            if self._append:
                self._text = ""

    def close(self) -> None:
        """Close a pipe."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()

    def _add_to_stream(self) -> None:
        try:
            if self._stream is None:
                self._stream = open(self._out, "w", encoding="utf-8", newline="")  # noqa: SIM115
            text, self._text = self._text, ""
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            raise OutputError(f"{self._out}: could not be written: {error.strerror}") from error
