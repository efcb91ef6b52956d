"""Atomic writes: a file is written completely or left as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mfer_edge.errors import OutputError
from mfer_edge.outputs.temporary import temporary_file

VIDEO_SUFFIXES = (".mp4",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
HTML_SUFFIXES = (".html", ".htm")


def check_output(out: Path | str, suffixes: Sequence[str] = ()) -> None:
    """Check that a file can be written, before the work of which it is the result.

    Args:
        suffixes: allowed file name suffixes, lower case; by default any.

    Raises:
        OutputError: `out` has another suffix or is no regular file, or its folder is missing or
            not writable.
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
        with temporary_file(folder, out.suffix):
            pass  # it can be created: permissions alone don't tell
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error


def make_folder(folder: Path, what: str) -> None:
    """Create a folder and its parents unless they exist.

    Args:
        what: purpose of the folder, for the error message: "a run".

    Raises:
        OutputError: the folder can't be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: no folder for {what} ({error.strerror})") from error


@contextmanager
def replacing(out: Path | str, suffixes: Sequence[str] = ()) -> Iterator[Path]:
    """Context manager for an atomic write: a temporary path that is renamed to `out` at the end.

    If the block raises, `out` is unchanged and the temporary file is deleted.

    Raises:
        OutputError: as `check_output`, or writing failed, for example on a full disk.
    """
    out = Path(out)
    check_output(out, suffixes)
    target = _target(out)
    try:
        with temporary_file(target.parent, out.suffix) as temporary:
            yield temporary
            temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error


def write_text(out: Path, text: str) -> None:
    """Write a text file atomically; a device or a pipe is written to directly.

    Raises:
        OutputError: the file can't be written.
    """
    if not is_stream(out):
        with replacing(out) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        return
    try:
        out.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error


def append_text(out: Path, text: str) -> None:
    """Add to the end of a text file: all of it, or nothing.

    Raises:
        OutputError: the file can't be written, for example on a full disk.
    """
    data, size = text.encode(), None
    try:
        with open(out, "ab", buffering=0) as file:
            size = file.tell()
            try:
                while data:
                    data = data[file.write(data) :]
            except BaseException:  # an interrupt too
                file.truncate(size)
                raise
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error


def is_stream(out: Path) -> bool:
    """Whether a path is a device or a pipe, such as /dev/stdout, which must not be replaced."""
    return os.path.exists(out) and not os.path.isfile(out) and not os.path.isdir(out)


def _target(out: Path) -> Path:
    """Resolve symbolic links: the file behind a link is replaced, not the link."""
    return Path(os.path.realpath(out))
