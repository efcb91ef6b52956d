"""Files out: whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mfer_edge.errors import OutputError

VIDEO_SUFFIXES = (".mp4",)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def check_output(out: Path | str, suffixes: Sequence[str] = ()) -> None:
    """Refuse a file that could not be written in the end, before any work is done for it.

    Args:
        suffixes: the endings that `out` may have, lower case; by default any.

    Raises:
        OutputError: `out` has another ending, is no file, or its folder is missing or can't be
            written to.
    """
    out = Path(out)
    folder = _target(out).parent
    try:
        if suffixes and out.suffix.lower() not in suffixes:
            raise OutputError(f"{out}: the name should end in {' or '.join(suffixes)}")
        if out.is_dir():
            raise OutputError(f"{out}: a folder, not a file")
        if is_stream(out):
            raise OutputError(f"{out}: a device or a pipe, not a file")
        if not folder.is_dir():
            raise OutputError(f"{out}: there is no folder {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{out}: no permission to write to the folder {folder}")
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error


def make_folder(folder: Path, what: str) -> None:
    """Make a folder, and those above it, unless it is there.

    Args:
        what: it is for, for the error: "a run".

    Raises:
        OutputError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: no folder for {what} ({error.strerror})") from error


@contextmanager
def replacing(out: Path | str, suffixes: Sequence[str] = ()) -> Iterator[Path]:
    """Lend a path beside `out` to write to; what is there in the end takes the place of `out`.

    If the block raises, `out` stays as it was and nothing is left beside it.

    Raises:
        OutputError: as `check_output`; or the disk is full, or the like.
    """
    out = Path(out)
    check_output(out, suffixes)
    target = _target(out)
    beside = target.with_name(f".mfer-edge-{secrets.token_hex(4)}{out.suffix}")
    try:
        yield beside
        beside.replace(target)
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            beside.unlink()


def write_text(out: Path, text: str) -> None:
    """Write a text file; straight to a device or a pipe, else whole or not at all.

    Raises:
        OutputError: it can't be written.
    """
    if not is_stream(out):
        with replacing(out) as beside:
            beside.write_text(text, encoding="utf-8")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error


def is_stream(out: Path) -> bool:
    """Tell a device or a pipe, such as /dev/stdout: it is written to, never replaced."""
    return os.path.exists(out) and not os.path.isfile(out) and not os.path.isdir(out)


def _target(out: Path) -> Path:
    """Where a link leads: the link stays, and what it names is replaced."""
    return Path(os.path.realpath(out))
