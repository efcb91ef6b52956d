"""Decode every frame of a clip's video and audio tracks by PyAV; nothing is printed.

A script that imports PyAV alone: its time and memory are the floor below any program that reads the
clip. `benchmarks.harness.decoding` decodes by it too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame


def frames(
    packets: Iterable[Packet], streams: Sequence[Stream]
) -> Iterator[VideoFrame | AudioFrame]:
    """Decode packets of some tracks as they come, video on all cores."""
    from av.video.stream import VideoStream

    for stream in streams:
        if isinstance(stream, VideoStream):
            stream.thread_type = "AUTO"
    for packet in packets:
        yield from packet.decode()


if __name__ == "__main__":
    import av

    with av.open(f"file:{sys.argv[1]}") as clip:
        tracks = (*clip.streams.video, *clip.streams.audio)
        for _ in frames(clip.demux(*tracks), tracks):
            pass
