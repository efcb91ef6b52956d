"""Ogg: checksums and numbers of the pages (RFC 3533)."""

from __future__ import annotations

import zlib

from mfer_edge.sources.integrity.reading import Content, Damaged

HEAD = 27  # bytes of a page before the sizes of its segments
FIRST_OF_STREAM = 2  # flag of a page
FAR = 100  # pages that a radio station had sent before the listener came: headers, then a gap
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_ogg(content: Content) -> None:
    """Check each page: none damaged, none missing.

    Raises:
        StructureError: one is.
    """
    position = 0
    next_numbers: dict[bytes, int] = {}  # of the next page, by stream
    only_headers: dict[bytes, bool] = {}  # so far: time stamps of zero
    while position < content.size:
        if content.some(position, 4) != b"OggS":
            if content.is_padding(position):
                return
            raise Damaged(position, "no page where one should be")
        head = content.at(position, HEAD)
        sizes = content.at(position + HEAD, head[26])
        page = content.at(position, HEAD + len(sizes) + sum(sizes))
        if checksum(page) != int.from_bytes(page[22:26], "little"):
            raise Damaged(position, "wrong checksum of a page")
        stream, number = page[14:18], int.from_bytes(page[18:22], "little")
        expected = number if page[5] & FIRST_OF_STREAM else next_numbers.get(stream, number)
        joined_late = only_headers.get(stream, False) and number > expected + FAR
        if number != expected and not joined_late:
            raise Damaged(position, f"page {number} follows page {expected - 1}")
        next_numbers[stream] = number + 1
        only_headers[stream] = not any(page[6:14])
        position += len(page)


def checksum(page: bytes) -> int:
    """CRC-32 of a page, its own field taken as zero.

    It takes bits from the highest on, zlib from the lowest; Ogg inverts neither start nor end.
    """
    plain = (page[:22] + bytes(4) + page[26:]).translate(REVERSED)
    reversed_ = zlib.crc32(plain, 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{reversed_:032b}"[::-1], 2)
