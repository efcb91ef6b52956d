"""MP3: the number of bytes that its first frame tells (Xing, as of LAME)."""

from __future__ import annotations

from mfer_edge.sources.integrity.reading import Content, CutOff

WITHIN = 64  # bytes from the first frame on: the mark follows its head and side information
HAS_FRAMES, HAS_BYTES = 1, 2  # flags


def check_layer3(content: Content) -> None:
    """Check that there are as many bytes as told.

    Raises:
        StructureError: there are fewer.
    """
    start = id3_size(content.some(0, 10))
    first = content.some(start, WITHIN)
    place = max(first.find(b"Xing"), first.find(b"Info"))
    if place < 0 or len(first) < place + 16:
        return
    flags = int.from_bytes(first[place + 4 : place + 8], "big")
    if not flags & HAS_BYTES:
        return
    place += 12 if flags & HAS_FRAMES else 8
    # Some programs count the tag before the sound.
    if int.from_bytes(first[place : place + 4], "big") > content.size:
        raise CutOff("its sound")


def id3_size(head: bytes) -> int:
    """Bytes of the tag before the sound: in the low seven bits of the last four of ten bytes."""
    if head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 127
    return 10 + size
