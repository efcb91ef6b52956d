"""Real clips, taken apart and put together again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Stream

from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import write_clip


def images_of(path: Path) -> list[np.ndarray]:
    """The images of a clip's frames, five per second."""
    with Clip(path) as clip:
        return [item.image for item in clip if isinstance(item, Frame)]


def at_a_dark_wall(image: np.ndarray) -> np.ndarray:
    """Put a person who was filmed in front of white into another place."""
    wall = np.full_like(image, (90, 60, 40))
    wall[::40] = wall[:, ::60] = (60, 110, 90)
    return np.where((image > 215).all(axis=2, keepdims=True), wall, image)


def filmed(path: Path, images: list[np.ndarray], audio: np.ndarray | None) -> Path:
    """Write a clip of five frames per second and 16 kHz audio."""
    size = images[0].shape[1], images[0].shape[0]
    wave = None if audio is None else audio[None]
    seconds = len(images) / 5
    return write_clip(
        path, seconds, 5, size, video=lambda index: images[index], audio=wave, rate=SAMPLE_RATE
    )


def repeat(source: Path, out: Path, times: int = 1, kinds: tuple = ("video", "audio")) -> Path:
    """Copy a clip's packets, several times in a row, without those of other kinds."""
    with av.open(str(source)) as clip, av.open(str(out), "w") as target:
        streams = {s.index: s for s in clip.streams if s.type in kinds}
        packets = [p for p in clip.demux(*streams.values()) if p.dts is not None]
        first_s = min(p.dts * p.time_base for p in packets)
        length_s = max((p.pts + p.duration) * p.time_base for p in packets) - first_s
        copies = {i: target.add_stream_from_template(s) for i, s in streams.items()}
        for index in range(times):
            for packet in packets:
                target.mux(_copy(packet, copies[packet.stream.index], index * length_s - first_s))
    return out


def video_first(source: Path, out: Path) -> Path:
    """Copy a clip's packets, all of the video before those of the audio."""
    with (
        av.open(str(source)) as clip,
        av.open(str(out), "w", options={"max_interleave_delta": "1"}) as target,
    ):
        packets = [p for p in clip.demux() if p.dts is not None]
        copies = {s.index: target.add_stream_from_template(s) for s in clip.streams}
        for packet in sorted(packets, key=lambda p: p.stream.type != "video"):
            target.mux(_copy(packet, copies[packet.stream.index], Fraction(0)))
    return out


def _copy(packet: av.Packet, stream: Stream, later_s: Fraction) -> av.Packet:
    moved = round(later_s / packet.time_base)
    copy = av.Packet(bytes(packet))
    copy.pts, copy.dts = packet.pts + moved, packet.dts + moved
    copy.duration, copy.time_base = packet.duration, packet.time_base
    copy.is_keyframe, copy.stream = packet.is_keyframe, stream
    return copy
