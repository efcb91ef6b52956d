"""What the torture set is made of: a second and a half of a face and a voice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.packet import Packet
from av.video.frame import VideoFrame

from mfer_edge.samples import ANGER

START_S, LENGTH_S = 1.4, 1.6  # of the sample that is taken: a face that speaks
RATE = 48_000  # Hz
SIZE = 320, 180  # pixels
BLOCK = 1024  # samples of a frame of sound
MICROSECOND = Fraction(1, 1_000_000)

Stamps = Callable[[float], float | None]


@dataclass(frozen=True)
class Writing:
    """How a clip is written."""

    suffix: str = ".mkv"
    container: str | None = None  # FFmpeg's name; by default what the suffix says
    video: str | None = "libx264"  # encoders; None for no such track
    audio: str | None = "pcm_s16le"
    fps: Fraction = Fraction(25)
    size: tuple[int, int] = SIZE
    pixels: str | None = None  # format; by default the encoder's first
    rate: int = RATE
    layout: str = "mono"
    seconds: float = LENGTH_S
    video_s: Stamps = field(default=lambda time_s: time_s)  # moves stamps of packets; None: none
    audio_s: Stamps = field(default=lambda time_s: time_s)
    times_s: tuple[float, ...] | None = None  # of the frames, for a rate that varies
    encoding: Mapping[str, str] = field(default_factory=dict)
    muxing: Mapping[str, str] = field(default_factory=dict)


@cache
def footage() -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of the sample, 25 a second, and (samples,) float32 of its sound."""
    frames, chunks = [], []
    resampler = AudioResampler("flt", "mono", RATE)
    with av.open(str(ANGER)) as container:
        for frame in container.decode(video=0, audio=0):
            if isinstance(frame, VideoFrame):
                image = frame.to_ndarray(format="bgr24")
                frames.append(image)
            elif isinstance(frame, AudioFrame):
                chunks += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        rate = float(container.streams.video[0].average_rate or 25)
    places = [round((START_S + index / 25) * rate) for index in range(round(25 * LENGTH_S))]
    sound = np.concatenate(chunks)[round(START_S * RATE) :]
    return [frames[min(place, len(frames) - 1)] for place in places], sound


def write(path: Path, how: Writing) -> Path:
    """Write the footage.

    Raises:
        av.error.FFmpegError, ValueError, ...: FFmpeg can't write it so.
    """
    packets: list[tuple[float, Packet]] = []
    options = {"fflags": "+bitexact", **how.muxing}  # the same bytes each time
    with av.open(str(path), "w", format=how.container, options=options) as container:
        if how.video is not None:
            packets += _video(container, how)
        if how.audio is not None:
            packets += _audio(container, how)
        if not packets:
            raise ValueError("nothing was encoded")
        for _, packet in sorted(packets, key=lambda timed: timed[0]):
            container.mux(packet)
    return path


def _video(container: Any, how: Writing) -> list[tuple[float, Packet]]:
    images, _ = footage()
    track = container.add_stream(how.video, rate=how.fps)
    track.width, track.height = how.size
    formats = track.codec_context.codec.video_formats or []
    track.pix_fmt = how.pixels or (formats[0].name if formats else "yuv420p")
    track.options = dict(how.encoding)
    track.codec_context.time_base = MICROSECOND if how.times_s else 1 / how.fps
    times_s = how.times_s or [float(i / how.fps) for i in range(round(how.seconds * how.fps))]
    packets = []
    for time_s in times_s:
        image = images[min(int(time_s * 25 + 1e-6), len(images) - 1)]
        area = cv2.INTER_AREA if how.size[0] < image.shape[1] else cv2.INTER_LINEAR
        resized = cv2.resize(image, how.size, interpolation=area).astype(np.uint8, copy=False)
        frame = VideoFrame.from_ndarray(resized, format="bgr24").reformat(format=track.pix_fmt)
        frame.time_base = track.codec_context.time_base
        frame.pts = round(Fraction(time_s) / frame.time_base)
        packets += track.encode(frame)
    return _stamped(packets + track.encode(None), how.video_s)


def _audio(container: Any, how: Writing) -> list[tuple[float, Packet]]:
    _, sound = footage()
    track = container.add_stream(how.audio, rate=how.rate, layout=how.layout)
    if how.audio in ("wmav1", "wmav2"):  # they have no rate by default
        track.bit_rate = 64_000
    wanted = track.codec_context.format.name if track.codec_context.format else "s16"
    resampler = AudioResampler(wanted, how.layout, how.rate)
    channels = track.codec_context.layout.nb_channels
    packets = []
    made = 0
    for start in range(0, round(how.seconds * RATE), BLOCK):
        block = np.repeat(sound[start : start + BLOCK, None], channels, axis=1).reshape(1, -1)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), "flt", how.layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        for part in resampler.resample(frame):
            part.pts, part.time_base = made, Fraction(1, how.rate)
            made += part.samples
            packets += track.encode(part)
    return _stamped(packets + track.encode(None), how.audio_s)


def _stamped(packets: list[Packet], moved: Stamps) -> list[tuple[float, Packet]]:
    timed = []
    last_s = 0.0
    for packet in packets:
        if packet.dts is None or packet.time_base is None:
            timed.append((last_s, packet))
            continue
        last_s = float(packet.dts * packet.time_base)
        pts_s = moved(float((packet.dts if packet.pts is None else packet.pts) * packet.time_base))
        dts_s = moved(last_s)
        packet.pts = None if pts_s is None else round(pts_s / packet.time_base)
        packet.dts = None if dts_s is None else round(dts_s / packet.time_base)
        timed.append((last_s, packet))
    return timed


def clean_twin(path: Path, out: Path) -> Path | None:
    """The same pictures and samples, without loss and with clean stamps; None: FFmpeg reads none.

    Decoded in the plainest way: packet by packet, no track but the first of its kind.
    """
    frames: list[VideoFrame] = []
    sound: list[AudioFrame] = []
    with av.open(str(path)) as container:
        tracks = [*container.streams.video[:1], *container.streams.audio[:1]]
        if not tracks:
            return None
        rate = tracks[0].average_rate if container.streams.video else None
        start_s = (container.start_time or 0) / av.time_base
        for frame in container.decode(*tracks):
            (frames if isinstance(frame, VideoFrame) else sound).append(frame)
    with av.open(str(out), "w") as target:
        video = audio = None
        if frames:
            video = target.add_stream("ffv1", rate=rate or 25)
            video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, "bgr0"
            video.codec_context.time_base = MICROSECOND
        if sound:
            audio = target.add_stream("pcm_f32le", rate=sound[0].sample_rate, layout="mono")
        if video is not None:
            for index, frame in enumerate(frames):
                time_s = float(index / (rate or 25)) if frame.time is None else frame.time - start_s
                size = frames[0].width, frames[0].height
                plain = frame.reformat(*size, format="bgr0")
                plain.time_base, plain.pts = MICROSECOND, round(time_s * 1e6)
                target.mux(video.encode(plain))
            target.mux(video.encode(None))
        if audio is not None:
            resampler = AudioResampler("fltp", "mono", sound[0].sample_rate)
            done = 0
            first_s = 0.0 if sound[0].time is None else max(0.0, sound[0].time - start_s)
            offset = round(first_s * sound[0].sample_rate)
            for frame in sound:
                frame.pts = None
                for part in resampler.resample(frame):
                    part.pts, part.time_base = offset + done, Fraction(1, part.sample_rate)
                    done += part.samples
                    target.mux(audio.encode(part))
            target.mux(audio.encode(None))
    return out if frames or sound else None
