"""The journal of a batch: a record a line, appended as clips finish.

It is the one place where results are kept; tables are made from it. A line is written in one step,
and what a crash left of one is cut off when the journal is opened.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType

from mfer_edge.batch.records import ClipRecord
from mfer_edge.errors import BatchError, OutputError
from mfer_edge.schema import read_as

JOURNAL = "journal.jsonl"


class Journal:
    """A journal, open for one batch at a time.

    Args:
        folder: of the batch.

    Raises:
        BatchError: another batch has it open, or it is damaged.
        OutputError: it can't be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._places: dict[str, tuple[int, int]] = {}  # start and length of the last line
            self._end = 0  # of the lines that are in it
            self.catch_up()
        except BlockingIOError as error:
            self.close()
            raise BatchError(f"{folder}: another batch writes to this folder") from error
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> ClipRecord | None:
        """The last record with a key; None if there is none that this version can read."""
        if key not in self._places:
            return None
        start, length = self._places[key]
        try:
            record: ClipRecord = read_as(ClipRecord, json.loads(self._read(start, length)))
        except ValueError:  # of another version under development: released ones have other keys
            return None
        return record

    def catch_up(self) -> None:
        """Read the lines that are not known yet: an interruption may come after one is written.

        Raises:
            BatchError: a line is damaged.
        """
        with open(self._file, "rb", closefd=False) as file:
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, self._end)
                    return
                try:
                    key = str(json.loads(line)["key"])
                except (ValueError, LookupError, TypeError) as error:
                    raise BatchError(
                        f"{self.path}, after {self._end} bytes: a damaged line; delete it, or the "
                        "file to begin anew"
                    ) from error
                self._places[key] = (self._end, len(line))
                self._end += len(line)

    def append(self, record: ClipRecord) -> None:
        """Write a record; it is on the disk when this returns.

        Raises:
            OutputError: it can't be written; the journal is as it was.
        """
        line = f"{record.to_json()}\n".encode()
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(0, "the disk is full")
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise OutputError(f"{self.path}: {error.strerror}") from error
        self.catch_up()

    def close(self) -> None:
        """Let others open it."""
        os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, start: int, length: int) -> bytes:
        return os.pread(self._file, length, start)
