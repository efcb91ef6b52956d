"""Media files opened by FFmpeg."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import DECODER_OPTIONS
from mfer_edge.sources.url import is_url, open_url

# Old tools wrote titles in the encoding of their country, which is no reason to refuse a file.
# PyAV 19 takes any, and no longer has the option.
_ANY_TITLE: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)


def check_sums(audio: AudioStream) -> None:
    """Have a lossless decoder refuse what its checksum tells to be damaged, instead of noise."""
    if audio.codec_context.name in ("flac", "tta", "wavpack"):
        audio.codec_context.options = {"err_detect": "crccheck+explode"}


def header_size(path: Path, stream: int) -> tuple[int, int]:
    """Width and height by a file's header, which FFmpeg forgets if its decoder refuses them."""
    options = {"skip_frame": "all", "probesize": "32"}  # nothing is decoded
    try:
        with av.open(f"file:{path}", options=options, **_ANY_TITLE) as container:
            context = container.streams[stream].codec_context
            return getattr(context, "width", 0), getattr(context, "height", 0)
    except (av.error.FFmpegError, ValueError, IndexError):
        return 0, 0


def open_container(source: Path | str) -> InputContainer:
    """Open a media file, or a URL.

    Raises:
        MediaError: it is missing, not readable, or no media file; or as `open_url`.
    """
    if isinstance(source, str) and is_url(source):
        return open_url(source)
    path = Path(source)
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{path}: a folder, not a clip; `mfer-edge batch` reads folders")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path}: no permission to read it")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    unreadable = MediaError(f"{path}: not a video or sound file, or one that was cut off")
    try:
        container = open_file(path)
    except (av.error.FFmpegError, ValueError) as error:
        raise unreadable from error
    if container.format.name == "tty":  # FFmpeg renders any text as a video
        container.close()
        raise unreadable
    return container


def open_file(path: Path) -> InputContainer:
    """Open a file in FFmpeg, whatever its name and its title.

    Raises:
        av.error.FFmpegError, ValueError: it can't be read, or is no media file.
    """
    # Without "file:", FFmpeg takes the part of a name before a colon for a protocol.
    return av.open(f"file:{path}", options=DECODER_OPTIONS, **_ANY_TITLE)
