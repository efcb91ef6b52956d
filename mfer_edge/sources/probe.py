"""Media files opened by FFmpeg."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from mfer_edge.errors import MediaError


def open_container(path: Path) -> InputContainer:
    """Open a media file.

    Raises:
        MediaError: it is missing, not readable, or no media file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{path}: a folder, not a clip")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path}: no permission to read it")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    unreadable = MediaError(f"{path}: not a video or sound file, or one that was cut off")
    try:
        # Without "file:", FFmpeg takes the part of a name before a colon for a protocol. Old tools
        # wrote titles in the encoding of their country, which is no reason to refuse a file.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise unreadable from error
    if container.format.name == "tty":  # FFmpeg renders any text as a video
        container.close()
        raise unreadable
    return container
