"""ASF, as of WMV and WMA: packets counted, and the objects that are spread over them."""

from __future__ import annotations

from dataclasses import dataclass, field

from mfer_edge.sources.integrity.reading import Content, CutOff, Damaged

HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
DATA_HEAD = 50  # bytes before the packets
USUAL_START = b"\x82\0\0"  # of a packet: error correction that is not used
BROADCAST = 1  # flag: counts were not known
WIDTHS = (0, 1, 2, 4)  # bytes of a field, by its two bits
USUAL_PROPERTIES = 0x5D  # widths of the fields of a payload, the only ones in use


@dataclass
class Objects:
    """Frames and pieces of sound of one stream, so far."""

    number: int = -1
    size: int = 0
    held: int = 0  # bytes of the latest that were there


@dataclass(frozen=True)
class Layout:
    """Where the packets are."""

    start: int
    size: int  # of a packet
    count: int  # by the header
    streams: dict[int, Objects] = field(default_factory=dict)


def check_asf(content: Content) -> None:
    """Check that all packets are there, and hold all pieces of each object, in order.

    Raises:
        StructureError: they do not.
    """
    content.what = "its packets"
    layout = _layout(content)
    if layout is None:
        return
    for number in range(layout.count):
        _check_packet(content, layout, layout.start + number * layout.size)
    for stream in layout.streams.values():
        if stream.held < stream.size:
            raise CutOff("a frame")


def _layout(content: Content) -> Layout | None:
    """Read the header; None if it tells no number of packets."""
    if content.at(0, 16) != HEADER:
        return None
    end = content.number(16, 8, "little")
    position, properties = 30, None
    while position < min(end, content.size):
        size = content.number(position + 16, 8, "little")
        if size < 24:
            raise Damaged(position, "an object of the header without length")
        if content.at(position, 16) == PROPERTIES:
            properties = position
        position += size
    if position != end or content.at(end, 16) != DATA:
        raise Damaged(min(position, content.size), "the header does not end where it should")
    if properties is None or content.number(properties + 88, 4, "little") & BROADCAST:
        return None
    size = content.number(properties + 92, 4, "little")
    if size != content.number(properties + 96, 4, "little"):
        return None
    count = content.number(end + 40, 8, "little")
    told = content.number(properties + 56, 8, "little")
    data_size = content.number(end + 16, 8, "little")
    if not count or not told:
        return None
    if count != told or (data_size and data_size != DATA_HEAD + count * size):
        raise Damaged(end, f"{count} packets of {size} bytes, but {told} by the header")
    if size == 0:
        raise Damaged(properties, "packets of no length")
    if content.some(end + DATA_HEAD, 3) != USUAL_START:
        return None
    return Layout(end + DATA_HEAD, size, count)


class _Fields:
    """The fields of a packet, one after the other."""

    def __init__(self, packet: bytes, position: int) -> None:
        self.at = 0
        self._packet, self._position = packet, position

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self.at += count
        if self.at > len(self._packet):
            raise Damaged(self._position, "a packet holds more than it is long")
        return self._packet[self.at - count : self.at]

    def number(self, count: int) -> int:
        """The next number."""
        return int.from_bytes(self.take(count), "little")


def _check_packet(content: Content, layout: Layout, position: int) -> None:
    fields = _Fields(content.at(position, layout.size), position)
    begins = fields.take(len(USUAL_START)) == USUAL_START
    first = fields.number(1)
    if not begins or fields.number(1) != USUAL_PROPERTIES:
        raise Damaged(position, "no packet where one should be")
    length = fields.number(WIDTHS[first >> 5 & 3]) or layout.size
    fields.number(WIDTHS[first >> 1 & 3])
    padding = fields.number(WIDTHS[first >> 3 & 3])
    fields.take(6)  # when it is sent, and for how long
    end = min(length, layout.size) - padding
    several = first & 1
    flags = fields.number(1) if several else 1
    for _ in range(flags & 63):
        _check_payload(fields, layout, WIDTHS[flags >> 6] if several else 0, end, position)
    if fields.at != end:
        raise Damaged(position, "a packet is not filled")


def _check_payload(fields: _Fields, layout: Layout, width: int, end: int, position: int) -> None:
    stream = layout.streams.setdefault(fields.number(1) & 127, Objects())
    number, offset = fields.number(1), fields.number(4)
    replicated = fields.number(1)
    size = int.from_bytes(fields.take(replicated)[:4], "little") if replicated >= 8 else 0
    if replicated == 1:  # several whole objects, `offset` is their time stamp
        fields.number(1)
    held = fields.number(width) if width else end - fields.at
    if held < 0:
        raise Damaged(position, "a packet holds more than it is long")
    fields.take(held)
    if replicated < 8 or not size:
        stream.number = -1
        return
    if stream.number < 0:  # the first that tells; it may have begun before
        stream.number, stream.size, stream.held = number, size, offset
    elif offset == 0:
        expected = (stream.number + 1) & 255
        if number != expected or stream.held < stream.size:
            raise Damaged(position, "a frame is missing")
        stream.number, stream.size, stream.held = number, size, 0
    if number != stream.number or offset != stream.held or size != stream.size:
        raise Damaged(position, "a part of a frame is missing")
    stream.held += held
