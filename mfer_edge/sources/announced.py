"""What a file's header tells of its length, by which a file that was cut off shows."""

from __future__ import annotations

import struct
from collections.abc import Container
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from mfer_edge.sources.integrity.reading import id3_size

MAX_DURATION_S = 86_400.0  # a header that announces more is damaged
OPEN_SIZES = range(0x7FFF_0000, 1 << 32)  # of RIFF: place-holders of what was written to a pipe
TELLING = (
    *("aiff", "ape", "asf", "au", "avi", "caf", "flac", "flv", "matroska", "mov", "mp3", "mxf"),
    *("nut", "ogg", "rm", "tta", "w64", "wav", "wv"),
)
"""FFmpeg's names of formats whose header, or last page, tells the length; of others it guesses from
the size."""

XING = (b"Xing", b"Info", b"VBRI")  # marks of an MP3 header
XING_WITHIN = 1024  # bytes from the first frame
CAF_MARKS = frozenset(
    b"desc data chan kuki pakt info strg mark regn inst midi ovvw peak edct umid uuid free".split()
)
W64_MARK = bytes.fromhex("726966662e91cf11a5d628db04c10000")


@dataclass(frozen=True)
class AnnouncedDuration:
    """Length of a clip before it was read."""

    duration_s: float  # 0 if nothing tells
    is_told: bool  # by the header; otherwise it is a guess

    @classmethod
    def of(cls, container: InputContainer, path: Path | str) -> AnnouncedDuration:
        """Read it from an opened container and the file's first bytes; only the former of a URL."""
        duration_s = (container.duration or 0) / av.time_base
        if duration_s >= MAX_DURATION_S:
            return cls(0.0, False)
        name = container.format.name.partition(",")[0]
        if name == "mov" and not any(stream.frames for stream in container.streams):
            return cls(duration_s, False)  # fragments: it is the sum of what they hold
        if name in ("matroska", "nut"):  # the latest time stamp, wherever they start
            duration_s = max(0.0, duration_s - (container.start_time or 0) / av.time_base)
        if name not in TELLING or isinstance(path, str) or not path.is_file():
            return cls(duration_s, name in TELLING and name != "mp3")
        with path.open("rb") as file:
            if name == "mp3":
                return cls(duration_s, _has_xing(file))
            # Of these, FFmpeg tells as much as the file holds, whatever the header says.
            told = _told_bytes(file) if name in ("avi", "caf", "w64", "wav") else None
        share = told / path.stat().st_size if told else 1.0
        if name in ("avi", "wav"):  # of a file joined to another, the length is by the header
            share = max(1.0, share)
        return cls(duration_s * share, True)


def declared_end_s(stream: VideoStream | AudioStream | None, start_s: float) -> float | None:
    """End of a track by its header, from the clip's start; None where it does not tell.

    Args:
        start_s: time stamp at which the clip starts.
    """
    if stream is None:
        return None
    # Matroska writes it as a tag; without, FFmpeg may fill in the length of the whole file.
    return _end_s(_clock_s(stream.metadata.get("DURATION", "")) or _duration_s(stream), start_s)


def own_end_s(
    stream: VideoStream | AudioStream | None, start_s: float, container: str
) -> float | None:
    """As `declared_end_s`; None also where the header tells of the file as a whole alone.

    Args:
        container: FFmpeg's name of the format, up to the first comma.
    """
    if stream is None:
        return None
    if container == "matroska":
        return _end_s(_clock_s(stream.metadata.get("DURATION", "")), start_s)
    return _end_s(_duration_s(stream), start_s) if container == "mov" else None


def _duration_s(stream: VideoStream | AudioStream) -> float:
    """Time stamp of a track's end."""
    unit = stream.time_base or Fraction(0)
    return float(((stream.start_time or 0) + stream.duration) * unit) if stream.duration else 0.0


def _end_s(time_s: float, start_s: float) -> float | None:
    return time_s - start_s if 0 < time_s - start_s < MAX_DURATION_S else None


def _has_xing(file: BinaryIO) -> bool:
    file.seek(id3_size(file.read(10)))
    first = file.read(XING_WITHIN)
    return any(mark in first for mark in XING)


def _told_bytes(file: BinaryIO) -> int | None:
    """Bytes that the file should have at least; None where its header leaves that open."""
    head = file.read(40)
    if head[:16] == W64_MARK:
        return int.from_bytes(head[16:24], "little")
    if head[:4] in (b"RF64", b"BW64") and head[12:16] == b"ds64":
        return 8 + int.from_bytes(head[20:28], "little")
    if head[:4] == b"caff":
        return _end_of_chunks(file, 8, ">4sq", CAF_MARKS, {-1})
    if head[:4] == b"RIFF":  # AVI over 1 GB has several
        return _end_of_chunks(file, 0, "<4sI", (b"RIFF",), OPEN_SIZES)
    return None


def _end_of_chunks(
    file: BinaryIO, position: int, head: str, marks: Container[bytes], open_sizes: Container[int]
) -> int | None:
    """End of the last of the chunks that follow each other; None if one has no length yet.

    Args:
        head: of a chunk, its mark and its size, as `struct` has it.
        marks: of chunks that are part of the file.
        open_sizes: those that stand for a length that was not known.
    """
    length = struct.calcsize(head)
    while True:
        file.seek(position)
        if len(read := file.read(length)) < length:
            return position
        mark, size = struct.unpack(head, read)
        if size in open_sizes or size <= 0:
            return None
        if mark not in marks:  # what follows is no part of the file
            return position
        position += length + size


def _clock_s(text: str) -> float:
    """Seconds of "00:00:04.125000000"; 0 if that is no time."""
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds
