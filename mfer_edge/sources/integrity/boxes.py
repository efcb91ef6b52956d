"""MP4 and QuickTime: lengths of the boxes (ISO/IEC 14496-12)."""

from __future__ import annotations

from mfer_edge.sources.integrity.reading import Content, CutOff, Damaged

HOLD_BOXES = frozenset(
    b"moov trak mdia minf stbl edts mvex moof traf mfra".split()  # and nothing else
)

APPENDED = b"8db42d694ccc418790edff439fe026bf"  # at the end of what Insta360 adds to its files
MAX_DEPTH = 8  # of boxes in boxes; six are in use


def check_boxes(content: Content) -> None:
    """Check that boxes follow each other, and fill the boxes that hold them.

    Raises:
        StructureError: one is too long, or there is none where one should be.
    """
    content.what = "a box"
    _check_range(content, 0, content.size, depth=0)


def _check_range(content: Content, position: int, end: int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Damaged(position, "boxes in boxes without end")
    while position + 8 <= end:
        head = content.at(position, 8)
        size, mark, start = int.from_bytes(head[:4], "big"), head[4:], position + 8
        if content.is_padding(position):
            return
        if not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in mark):
            if content.some(content.size - len(APPENDED), len(APPENDED)) == APPENDED:
                return
            raise Damaged(position, "no box where one should be")
        if size == 1:
            size, start = content.number(start, 8), start + 8
        elif size == 0:  # to the end
            return
        if size < start - position:
            raise Damaged(position, "a box of no length")
        position += size
        if position > end:
            if end == content.size:
                raise CutOff(content.what)
            raise Damaged(start, "a box is longer than the one around it")
        if mark in HOLD_BOXES:
            _check_range(content, start, position, depth + 1)
