"""What the readers of file structures share: bytes at a place, and what is wrong with them."""

from __future__ import annotations

from typing import BinaryIO

BLOCK = 1 << 20  # bytes that are read at once
PADDING = b"\0" * 4096
TAGS = (b"ID3", b"TAG", b"APETAGEX")  # of music, before and after the sound


class StructureError(Exception):
    """A file is not as its format demands. The text is for the user."""


class Damaged(StructureError):
    """Something is wrong at a place of the file."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(f"the file is damaged at byte {position:,} ({what}): some may be missing")


class CutOff(StructureError):
    """The file ends too early."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the file ends in the middle of {what}: it may have been cut off")


class Content:
    """The bytes of a file.

    Attributes:
        size: of the file.
        what: name of what is read, for the message where the file ends within it.
    """

    def __init__(self, file: BinaryIO, size: int, what: str) -> None:
        self.size, self.what = size, what
        self._file = file

    def at(self, position: int, count: int) -> bytes:
        """Read bytes from a place on.

        Raises:
            CutOff: the file ends before.
        """
        read = self.some(position, count)
        if len(read) < count:
            raise CutOff(self.what)
        return read

    def some(self, position: int, count: int) -> bytes:
        """Read bytes from a place on, fewer where the file ends before."""
        self._file.seek(position)
        return self._file.read(min(count, max(0, self.size - position)))

    def number(self, position: int, count: int, order: str = "big") -> int:
        """Read an unsigned number; raises as `at`."""
        read = self.at(position, count)
        return int.from_bytes(read, "little" if order == "little" else "big")

    def is_padding(self, position: int) -> bool:
        """Whether nothing but zeros follows, or a tag of music, as programs append them."""
        rest = self.some(position, len(PADDING))
        return rest.startswith(TAGS) or not rest.strip(b"\0")


def id3_size(head: bytes) -> int:
    """Bytes of the tag before the sound: in the low seven bits of the last four of ten bytes."""
    if head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 127
    return 10 + size
