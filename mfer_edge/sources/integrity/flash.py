"""FLV: tags that follow each other."""

from __future__ import annotations

from mfer_edge.sources.integrity.reading import Content, CutOff, Damaged

HEAD = 11  # bytes of a tag before what it holds
KINDS = (8, 9, 15, 18)  # sound, video, data; the low five bits
BETWEEN = 4  # bytes that repeat the length of the tag before: some programs write it wrong


def check_flash(content: Content) -> None:
    """Check that tags follow each other.

    Raises:
        StructureError: there is something else, or the file ends too early.
    """
    content.what = "a tag"
    position = content.number(5, 4) + BETWEEN
    while position < content.size:
        if content.is_padding(position):
            return
        head = content.at(position, HEAD)
        if head[0] & 31 not in KINDS:
            raise Damaged(position, "no tag where one should be")
        position += HEAD + int.from_bytes(head[1:4], "big")
        if position > content.size:
            raise CutOff(content.what)
        position += BETWEEN
