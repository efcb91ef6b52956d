"""Which bytes of a clip no checksum covers: damage to them alone can't be noticed by any program.

They are the payload of packets: each packet of the whole clip, as the demuxer gives it, is looked
up in the file. Headers, indices and whatever else lies between packets do not count, nor does what
a checksum covers: Ogg's pages, Matroska's clusters that have one, frames of lossless codecs and
AC-3, frames of MPEG sound that say that they have one.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

from benchmarks.torture.scan import Scan, scan
from mfer_edge.sources.integrity.matroska import CLUSTER

PIECE = 12  # bytes by which a piece of a packet is found
WITH_CHECKSUM = ("flac", "tta", "wavpack", "ac3", "eac3")  # codecs
CLUSTER_MARK = CLUSTER.to_bytes(4, "big")
CHECKSUM_MARK = b"\xbf\x84"


def can_be_noticed(whole: Path, changed: Path) -> bool:
    """Whether damage shows in anything but the payload of packets without a checksum.

    What was changed besides has to be harmless: without the changed payload, the clip decodes to
    the same frames and samples as the whole one.
    """
    data = np.frombuffer(whole.read_bytes(), np.uint8)
    other = np.frombuffer(changed.read_bytes(), np.uint8)
    if len(data) != len(other):
        return True
    rest = np.where(unchecked(whole), data, other)
    if (rest == data).all():
        return False
    path = changed.with_name(f"{changed.stem}-rest{changed.suffix}")
    path.write_bytes(rest.tobytes())
    found, expected = scan(path), scan(whole)
    path.unlink()
    if not isinstance(found, Scan) or not isinstance(expected, Scan):
        return True
    return found.content != expected.content


@cache
def unchecked(path: Path) -> np.ndarray:
    """Bytes of a clip that no checksum covers: (size,) bool."""
    data = path.read_bytes()
    mask = np.zeros(len(data), bool)
    with av.open(str(path)) as container:
        name = container.format.name
        if name == "ogg" or (name.startswith("matroska") and _has_checksums(data)):
            return mask
        reached: dict[int, int] = {}  # by track
        for packet in container.demux():
            if packet.size and not _has_checksum(packet):
                index = packet.stream.index
                start = reached.get(index, 0) if packet.pos is None else max(packet.pos, 0)
                reached[index] = mark(mask, data, bytes(packet), start)
    return mask


def mark(mask: np.ndarray, data: bytes, payload: bytes, start: int) -> int:
    """Mark a packet's bytes, which a container may hold in pieces; return where they end.

    What is not found is left unmarked.
    """
    done = 0
    while done < len(payload):
        place = data.find(payload[done : done + PIECE], start)
        if place < 0:
            break
        piece = np.frombuffer(payload, np.uint8)[done:]
        there = np.frombuffer(data, np.uint8)[place : place + len(piece)]
        same = piece[: len(there)] == there
        length = len(there) if same.all() else int(same.argmin())
        mask[place : place + length] = True
        done, start = done + length, place + length
    return start


def _has_checksums(data: bytes) -> bool:
    place = data.find(CLUSTER_MARK)
    return CHECKSUM_MARK in data[place : place + 16]


def _has_checksum(packet: Packet) -> bool:
    name = packet.stream.codec_context.name if packet.stream.codec_context else ""
    if name in ("mp2", "mp3", "mp3float"):
        return not bytes(packet)[1] & 1  # the protection bit, zero where there is one
    return name in WITH_CHECKSUM
