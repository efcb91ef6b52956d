"""A clip that is piped into the command."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mfer_edge.errors import MediaError, MferError

NAME = "stdin"  # of the clip, in results and messages
BLOCK = 1 << 20  # bytes that are copied at a time
KEPT_FREE = 256 << 20  # bytes of the temporary folder's disk that a clip must leave


@contextmanager
def stdin_clip() -> Iterator[Path]:
    """Copy stdin to a temporary file, which is gone after the block.

    Many files keep their index at their end, where a pipe can't go first. Errors of the block name
    the file `stdin`.

    Raises:
        MediaError: nothing comes, or more than the disk of the temporary folder has room for.
    """
    with tempfile.TemporaryDirectory(prefix="mfer-edge-") as folder:
        path = Path(folder, NAME)
        try:
            with open(path, "wb") as file:
                _copy(sys.stdin.buffer, file, Path(folder))
        except OSError as error:
            raise MediaError(f"{NAME}: could not be kept in {folder}: {error.strerror}") from error
        try:
            yield path
        except MferError as error:
            raise type(error)(str(error).replace(str(path), NAME)) from error


def _copy(source: BinaryIO, target: BinaryIO, folder: Path) -> None:
    copied = 0
    while block := source.read(BLOCK):
        if shutil.disk_usage(folder).free - len(block) < KEPT_FREE:
            raise MediaError(
                f"{NAME}: after {copied / 1e6:.0f} MB the disk of {folder.parent} is nearly full; "
                "name a file instead, or set TMPDIR to a folder with more room"
            )
        target.write(block)
        copied += len(block)
    if not copied:
        raise MediaError(f"{NAME}: nothing came")
