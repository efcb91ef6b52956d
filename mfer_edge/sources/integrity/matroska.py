"""Matroska and WebM: lengths of the elements, their checksums, tracks of the blocks (RFC 9559)."""

from __future__ import annotations

import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass

from mfer_edge.sources.integrity.reading import BLOCK, Content, CutOff, Damaged

EBML, SEGMENT, CLUSTER, TRACKS = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B
VOID, CRC = 0xEC, 0xBF
SEEK_HEAD, INFO, CUES, TAGS, CHAPTERS = 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1254C367, 0x1043A770
ATTACHMENTS, SIGNATURE = 0x1941A469, 0x1B538667
IN_SEGMENT = frozenset(
    (CLUSTER, TRACKS, VOID, CRC, SEEK_HEAD, INFO, CUES, TAGS, CHAPTERS, ATTACHMENTS, SIGNATURE)
)
TRACK_ENTRY, TRACK_NUMBER = 0xAE, 0xD7
SIMPLE_BLOCK, BLOCK_GROUP = 0xA3, 0xA0
IN_CLUSTER = frozenset((0xE7, 0xAB, 0xA7, 0xAF, 0x5854, SIMPLE_BLOCK, BLOCK_GROUP, VOID, CRC))


@dataclass(frozen=True)
class Element:
    """An element of the file."""

    id: int
    start: int  # of what it holds
    end: int | None  # None: its length was not known when it was written


def check_matroska(content: Content) -> None:
    """Check all elements but what blocks and descriptions hold.

    Raises:
        StructureError: one is too long, unknown, or its checksum is wrong.
    """
    content.what = "an element"
    position = 0
    while position < content.size:
        element = _element(content, position)
        if element.id not in (EBML, SEGMENT, VOID):
            if position and content.is_padding(position):
                return
            raise Damaged(position, "no element where one should be")
        if element.id == SEGMENT:
            position = _check_segment(content, element)
        else:
            position = _end(content, element)


def _check_segment(content: Content, segment: Element) -> int:
    """Check what a segment holds; return where it ends."""
    tracks: set[int] = set()
    position = segment.start
    end = content.size if segment.end is None else segment.end
    while position < min(end, content.size):
        element = _element(content, position)
        if segment.end is None and element.id == EBML:  # another file that was joined
            return position
        if element.id not in IN_SEGMENT:
            raise Damaged(position, "no element of a segment where one should be")
        if element.id == CLUSTER:
            position = _check_cluster(content, element, tracks)
        else:
            position = _end(content, element)
            _check_sum(content, element)
            if element.id == TRACKS:
                tracks.update(_track_numbers(content, element))
    if position > end:
        raise Damaged(end, "the last element is longer than the segment")
    if end > content.size:
        raise CutOff(content.what)
    return position


def _check_cluster(content: Content, cluster: Element, tracks: Container[int]) -> int:
    position = cluster.start
    end = content.size if cluster.end is None else cluster.end
    while position < min(end, content.size):
        element = _element(content, position)
        if element.id not in IN_CLUSTER:
            if cluster.end is None and element.id in (*IN_SEGMENT, EBML):
                return position
            raise Damaged(position, "no element of a cluster where one should be")
        position = _end(content, element)
        if element.id == SIMPLE_BLOCK and _number(content, element.start)[0] not in tracks:
            raise Damaged(element.start, "a block of a track that does not exist")
    if position > end:
        raise Damaged(end, "the last block is longer than its cluster")
    if end > content.size:
        raise CutOff(content.what)
    _check_sum(content, cluster)
    return position


def _check_sum(content: Content, element: Element) -> None:
    """Check the CRC-32 that an element may begin with, of all that follows in it."""
    if element.end is None or content.some(element.start, 2) != b"\xbf\x84":
        return
    position = element.start + 6
    expected = content.number(element.start + 2, 4, "little")
    found = 0
    while position < element.end:
        block = content.at(position, min(BLOCK, element.end - position))
        found = zlib.crc32(block, found)
        position += len(block)
    if found != expected:
        raise Damaged(element.start, "wrong checksum")


def _track_numbers(content: Content, tracks: Element) -> Iterator[int]:
    for entry in _children(content, tracks):
        if entry.id == TRACK_ENTRY:
            for field in _children(content, entry):
                if field.id == TRACK_NUMBER and field.end is not None:
                    yield content.number(field.start, field.end - field.start)


def _children(content: Content, parent: Element) -> Iterator[Element]:
    position = parent.start
    while parent.end is not None and position < parent.end:
        child = _element(content, position)
        yield child
        position = _end(content, child)


def _end(content: Content, element: Element) -> int:
    """End of an element that has a length."""
    if element.end is None:
        raise Damaged(element.start, "an element without a length")
    if element.end > content.size:
        raise CutOff(content.what)
    return element.end


def _element(content: Content, position: int) -> Element:
    first = content.at(position, 1)[0]
    length = 9 - first.bit_length()
    if length > 4:
        raise Damaged(position, "no element where one should be")
    size, start = _number(content, position + length)
    return Element(content.number(position, length), start, None if size is None else start + size)


def _number(content: Content, position: int) -> tuple[int | None, int]:
    """A number of variable length, and where it ends; None if all its bits are set: not known."""
    first = content.at(position, 1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise Damaged(position, "no length")
    most = (1 << 7 * length) - 1
    value = content.number(position, length) & most
    return None if value == most else value, position + length
