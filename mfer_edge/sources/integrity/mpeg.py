"""MPEG transport and program streams: packets that follow each other (ISO/IEC 13818-1)."""

from __future__ import annotations

import numpy as np

from mfer_edge.sources.integrity.reading import BLOCK, Content, CutOff, Damaged

PACKET = 188  # bytes
PACKETS = 5000  # that are read at once
SYNC = 0x47
BEGINS, HAS_PAYLOAD, HAS_ADAPTATION = 0x40, 0x10, 0x20  # flags of its second and fourth byte
START = b"\0\0\1\xba"
PACK, END = 0xBA, 0xB9


def check_transport(content: Content) -> None:
    """Check that each packet begins where it should. Packets of other lengths are not checked.

    Raises:
        StructureError: one does not, or the file ends within one.
    """
    content.what = "a packet"
    starts = content.some(0, 5 * PACKET)[::PACKET]
    if starts.count(SYNC) < len(starts):
        return
    for position in range(0, content.size, PACKET * PACKETS):
        block = np.frombuffer(content.some(position, PACKET * PACKETS), np.uint8)
        wrong = np.flatnonzero(block[::PACKET] != SYNC)
        if len(wrong):
            raise Damaged(position + PACKET * int(wrong[0]), "no packet where one should be")
    if content.size % PACKET:
        raise CutOff(content.what)
    _check_last_frames(content)


def _check_last_frames(content: Content) -> None:
    """Check that the last packet of each stream that tells its length is there as a whole."""
    start = max(0, content.size - PACKET * PACKETS)
    block = content.at(start, content.size - start)
    held: dict[int, int] = {}  # bytes of its last packet, by stream
    done: set[int] = set()
    for place in range(len(block) - PACKET, -1, -PACKET):
        packet = block[place : place + PACKET]
        stream = (packet[1] & 31) << 8 | packet[2]
        if stream in done or not packet[3] & HAS_PAYLOAD:
            continue
        payload = packet[5 + packet[4] :] if packet[3] & HAS_ADAPTATION else packet[4:]
        held[stream] = held.get(stream, 0) + len(payload)
        if packet[1] & BEGINS:
            done.add(stream)
            told = int.from_bytes(payload[4:6], "big")
            if payload[:3] == b"\0\0\1" and told and held[stream] < 6 + told:
                raise CutOff("a frame")


def check_program(content: Content) -> None:
    """Check that packs and packets follow each other.

    Raises:
        StructureError: there is something else, or the file ends within one.
    """
    content.what = "a packet"
    position = 0
    if content.some(0, 4) != START:  # a part of a broadcast, or of a video CD
        return
    while position < content.size:
        head = content.some(position, 14)
        if head[:3] != b"\0\0\1" or len(head) < 4 or head[3] < END:
            filler = _filler(content, position)
            if not filler:
                raise Damaged(position, "no packet where one should be")
            position += filler
            continue
        if head[3] == END:
            position += 4
        elif head[3] == PACK:
            content.at(position, 14)
            position += 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12
        else:
            position += 6 + content.number(position + 4, 2)
    if position > content.size:
        raise CutOff(content.what)


def _filler(content: Content, position: int) -> int:
    """Number of zeros before the next mark, whose own two are not counted."""
    block = content.some(position, BLOCK)
    zeros = len(block) - len(block.lstrip(b"\0"))
    return zeros if zeros == len(block) else max(0, zeros - 2)
