"""RIFF: WAV and AVI. Lengths of the chunks, what the header repeats, the index."""

from __future__ import annotations

import struct

from mfer_edge.sources.announced import OPEN_SIZES
from mfer_edge.sources.integrity.reading import Content, CutOff, Damaged

TAGS = (b"ID3", b"TAG", b"APE")  # that programs for music append
DISK_BLOCK = 512  # bytes
LIST_OF_CHUNKS = b"rec "
PCM = (1, 3)  # integers and floats
EXTENSIBLE = 0xFFFE
INDEX_ENTRY = struct.Struct("<4sIII")  # mark, flags, place, size


def check_wav(content: Content) -> None:
    """Check the lengths of the chunks, and that the format agrees with itself.

    Raises:
        StructureError: the samples end too early or too late, or the format contradicts itself.
    """
    content.what = "its samples"
    if content.at(0, 4) != b"RIFF":
        return
    position = 12
    while position + 8 <= content.size:
        mark, size = struct.unpack("<4sI", content.at(position, 8))
        if mark == b"RIFF" or mark[:3] in TAGS or _is_filled(content, position):
            return
        if not is_mark(mark):
            raise Damaged(position, "no chunk where one should be")
        if mark == b"fmt ":
            _check_format(content, position + 8, size)
        if mark == b"data" and (size in OPEN_SIZES or not size):
            return
        position += 8 + size
        if position > content.size:
            raise CutOff("its samples" if mark == b"data" else "a chunk")
        if size % 2 and not is_mark(content.some(position, 4)):  # filled up to an even length
            position += 1
    if position < content.size and not _is_filled(content, position):
        raise Damaged(position, "bytes behind the last chunk")


def _is_filled(content: Content, position: int) -> bool:
    """Whether a file was filled up with zeros from here on, as recorders do by whole blocks."""
    blocks = content.size - position >= DISK_BLOCK or content.size % DISK_BLOCK == 0
    return blocks and content.is_padding(position)


def is_mark(mark: bytes) -> bool:
    """Whether four bytes can name a chunk."""
    return len(mark) == 4 and mark.isascii() and mark.decode().isprintable() and mark[:1] != b" "


def _check_format(content: Content, position: int, size: int) -> None:
    kind, channels, rate, byte_rate, block, bits = struct.unpack(
        "<HHIIHH", content.at(position, 16)
    )
    if kind == EXTENSIBLE and size >= 26:
        kind = content.number(position + 24, 2, "little")
    if kind not in PCM:
        return
    if block != channels * ((bits + 7) // 8) or byte_rate not in (0, rate * block):
        raise Damaged(
            position,
            f"{channels} x {bits} bits at {rate} Hz, but {block} bytes a sample and {byte_rate} "
            "a second",
        )


def check_avi(content: Content) -> None:
    """Check each entry of the index against what is at its place.

    Raises:
        StructureError: an entry leads elsewhere, or the file ends too early.
    """
    content.what = "a chunk"
    position, movie = 12, 0
    while position + 8 <= content.size:
        mark, size = struct.unpack("<4sI", content.at(position, 8))
        if mark == b"RIFF" or content.is_padding(position):
            return
        if not is_mark(mark):
            raise Damaged(position, "no chunk where one should be")
        if size in OPEN_SIZES:
            return
        if mark == b"LIST" and content.at(position + 8, 4) == b"movi":
            movie = position + 8
        if mark == b"idx1":
            _check_index(content, content.at(position + 8, size), movie)
        position += 8 + size + size % 2
    if position > content.size + 1:
        raise CutOff(content.what)


def _check_index(content: Content, index: bytes, movie: int) -> None:
    entries = INDEX_ENTRY.iter_unpack(index[: len(index) // INDEX_ENTRY.size * INDEX_ENTRY.size])
    base: int | None = None  # places count from the list, or from the start of the file
    for mark, _, place, size in entries:
        if not size or mark == LIST_OF_CHUNKS:  # a frame that was dropped; several at once
            continue
        if base is None:
            base = movie if content.some(movie + place, 4) == mark else 0
        found = content.some(base + place, 8)
        if found != mark + size.to_bytes(4, "little"):
            raise Damaged(base + place, "not what the index tells")
