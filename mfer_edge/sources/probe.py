"""Media files opened by FFmpeg, and which of their tracks are read."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from mfer_edge.errors import MediaError
from mfer_edge.sources.url import is_url, open_url

# Old tools wrote titles in the encoding of their country, which is no reason to refuse a file.
# PyAV 19 takes any, and no longer has the option.
_ANY_TITLE: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)

MAX_DURATION_S = 86_400.0  # a header that announces more is damaged


@dataclass(frozen=True)
class Tracks:
    """The tracks of a container that are read: the first usable one of each kind."""

    video: VideoStream | None
    audio: AudioStream | None


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
        raise MediaError(f"{path}: a folder, not a clip")
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
    return av.open(f"file:{path}", **_ANY_TITLE)


def choose_tracks(container: InputContainer) -> Tracks:
    """Choose the first video track and the first audio track that FFmpeg can decode."""
    streams = container.streams
    # The cover of a music file is no video track. A codec that FFmpeg does not know has no context.
    videos = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
    return Tracks(
        next((s for s in videos if s.codec_context), None),
        next((s for s in streams.audio if s.codec_context), None),
    )


def announced_duration_s(container: InputContainer) -> float:
    """Length by the container's header; 0 where it gives none, or an impossible one."""
    duration_s = (container.duration or 0) / av.time_base
    return duration_s if duration_s < MAX_DURATION_S else 0.0
