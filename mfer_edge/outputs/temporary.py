"""Temporary files and folders beside a destination, which do not outlive their process for long."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: there, what a killed process leaves has to be deleted by hand
    fcntl = None  # type: ignore[assignment]

PREFIX = ".mfer-edge-"
FOLDER_LOCK_S = 1.0  # the longest wait for another process that is making its temporary file
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextmanager
def temporary_file(folder: Path, suffix: str) -> Iterator[Path]:
    """An empty file in a folder, deleted at the end unless it was renamed.

    It is locked for as long: what a killed process left has no lock, and is deleted here first.

    Raises:
        OSError: the file can't be created.
    """
    with _claimed(folder, suffix, lambda path: path.touch(exist_ok=False)) as path:
        yield path


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """An empty folder in a folder, deleted at the end unless it was renamed; as `temporary_file`.

    Raises:
        OSError: the folder can't be created.
    """
    with _claimed(folder, "", lambda path: path.mkdir(0o700)) as path:
        yield path


def exchange(one: Path, other: Path) -> bool:
    """Exchange two files or folders in one step; False where the system can't."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or an old C library
        return False
    paths = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0)


@contextmanager
def _claimed(folder: Path, suffix: str, make: Callable[[Path], None]) -> Iterator[Path]:
    path, lock = folder / f"{PREFIX}{os.urandom(4).hex()}{suffix}", None
    try:
        with _locked(folder):  # nobody deletes the new one before it is locked
            _delete_leftovers(folder)
            make(path)
            lock = _lock(path)
        yield path
    finally:
        _delete(path)
        if lock is not None:
            os.close(lock)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, if it can be had soon."""
    end_s = time.monotonic() + FOLDER_LOCK_S
    while (lock := _lock(folder)) is None and fcntl is not None and time.monotonic() < end_s:
        time.sleep(0.01)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Lock a file or a folder until the descriptor is closed; None if that can't be."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # someone else's, or a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def _delete_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{PREFIX}*"):
        if not path.is_symlink() and (lock := _lock(path)) is not None:
            _delete(path)
            os.close(lock)


def _delete(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            import shutil

            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
