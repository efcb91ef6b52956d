"""MP3: the number of bytes that its first frame tells (Xing), and that frame's checksum (LAME)."""

from __future__ import annotations

from mfer_edge.sources.integrity.reading import Content, CutOff, Damaged, id3_size

WITHIN = 64  # bytes from the first frame on: the mark follows its head and side information
HAS_FRAMES, HAS_BYTES, HAS_ALL = 1, 2, 15  # flags
ENCODERS = (b"LAME", b"Lav")  # which add a checksum
ENCODER, CHECKSUM = 120, 154  # their places, from the mark on, if all is there
STEREO = 36  # place of the mark in MPEG-1 stereo. Of others, programs differ in what is covered.
BIT_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, of MPEG-1
LOWER = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # of MPEG-2
RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG-1
FRAMES = 4  # that are checked
OLD_TAG = 128  # bytes at the end of a file


def check_layer3(content: Content) -> None:
    """Check the first frames, and what the first of all tells: the number of bytes, a checksum.

    Raises:
        StructureError: there are fewer, or it is wrong.
    """
    start = id3_size(content.some(0, 10))
    frame = content.some(start, WITHIN + CHECKSUM + 2)
    mark = max(frame.find(b"Xing", 0, WITHIN), frame.find(b"Info", 0, WITHIN))
    if start and frame[:1] not in (b"", b"\0", b"\xff"):  # filled up with zeros
        raise Damaged(start, "no frame where one should be")
    if mark < 0 or len(frame) < mark + CHECKSUM + 2:
        return
    flags = int.from_bytes(frame[mark + 4 : mark + 8], "big")
    if flags & HAS_BYTES:
        place = mark + (12 if flags & HAS_FRAMES else 8)
        told = int.from_bytes(frame[place : place + 4], "big")
        # Some programs count the tags before and after the sound.
        if start + told > content.size and told not in (content.size, content.size - OLD_TAG):
            raise CutOff("its sound")
    _check_frames(content, start)
    has_sum = mark == STEREO and frame[mark + ENCODER :].startswith(ENCODERS)
    if flags == HAS_ALL and has_sum:
        told = int.from_bytes(frame[mark + CHECKSUM :][:2], "big")
        if told not in (0, checksum(frame[: mark + CHECKSUM])):
            raise Damaged(start, "wrong checksum of the first frame")


def _check_frames(content: Content, position: int) -> None:
    """Check that frames follow each other, at the start: decoders begin behind what does not."""
    for _ in range(FRAMES):
        head = content.some(position, 4)
        if len(head) < 4 or head[:3] == b"TAG":
            return
        if head[0] != 0xFF or head[1] < 0xE0:
            raise Damaged(position, "no frame where one should be")
        length = frame_bytes(head)
        if not length:
            return
        position += length


def frame_bytes(head: bytes) -> int:
    """Length of a frame, by its first four bytes; 0 where they do not tell."""
    version, rate, bits = head[1] >> 3 & 3, head[2] >> 2 & 3, (head[2] >> 4) - 1
    if version == 1 or rate == 3 or not 0 <= bits < len(LOWER):
        return 0
    padding = head[2] >> 1 & 1
    if version == 3:
        return 144_000 * BIT_RATES[bits] // RATES[rate] + padding
    return 72_000 * LOWER[bits] // (RATES[rate] >> (3 - version if version else 2)) + padding


def checksum(data: bytes) -> int:
    """CRC-16 as of LAME: polynomial 0x8005, bits from the lowest on."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value
