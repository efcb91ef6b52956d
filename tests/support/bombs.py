"""Clips that are small on disk and huge once decoded."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

SIZE = 64  # pixels of the frame that is encoded
SIZE_AT = 28  # bytes from the codec's name in the track's description to width and height


def write_bomb(path: Path, size: tuple[int, int], frames: int, rate: int) -> int:
    """Write a QuickTime RLE video whose frames take a few bytes each.

    The first frame changes a corner, each of the others nothing. The header tells of larger frames
    than were encoded, which this codec does not mind.

    Args:
        size: (width, height).
        frames: how many.
        rate: of them, per second.

    Returns:
        Bytes of all frames once decoded.
    """
    with av.open(str(path), "w", format="mov") as container:
        track = container.add_stream("qtrle", rate=rate)
        track.width, track.height, track.pix_fmt = SIZE, SIZE, "rgb24"
        black = np.zeros((SIZE, SIZE, 3), np.uint8)
        packets: list[Packet] = []
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(black, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            packets += track.encode(frame)
        packets += track.encode(None)
        first, unchanged = packets
        content, step, base = bytes(unchanged), unchanged.pts, unchanged.time_base
        container.mux(first)
        for index in range(1, frames):
            packet = Packet(content)
            packet.stream, packet.time_base = track, base
            packet.pts = packet.dts = index * step
            container.mux(packet)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"rle ") + SIZE_AT
    assert data[at : at + 4] == struct.pack(">HH", SIZE, SIZE)
    data[at : at + 4] = struct.pack(">HH", *size)
    path.write_bytes(data)
    return frames * size[0] * size[1] * 3
