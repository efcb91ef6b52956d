"""Small clips made for the tests, whose frames and audio are known exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BLOCK = 16  # pixels: a bit of a frame's number is one black or white macroblock, which codecs keep
AUDIO_BLOCK = 1024  # samples in a packet, where the codec has no size of its own
WHOLE_FRAMES = ("mpeg1video", "mpeg4", "wmv2")  # codecs without finer time stamps
MICROSECOND = Fraction(1, 1_000_000)

# (video codec, audio codec) for each container
CODECS = {
    ".mp4": ("libx264", "aac"),
    ".mov": ("libx264", "aac"),
    ".m4a": (None, "aac"),
    ".mkv": ("libx264", "pcm_s16le"),
    ".webm": ("libvpx", "libopus"),
    ".avi": ("mpeg4", "pcm_s16le"),
    ".ts": ("libx264", "aac"),
    ".wav": (None, "pcm_s16le"),
    ".flac": (None, "flac"),
    ".mp3": (None, "libmp3lame"),
    ".ogg": (None, "libopus"),
    ".h264": ("libx264", None),
}


def sine(
    seconds: float, rate: int = 48_000, hertz: float = 1000.0, channels: int = 1
) -> np.ndarray:
    """A tone of amplitude 0.5 in every channel: (channels, samples) float32."""
    time_s = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * hertz * time_s)
    return np.tile(wave.astype(np.float32), (channels, 1))


def numbered_frame(index: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A grey frame that holds its own number: (height, width, 3) uint8 BGR."""
    columns, rows = size[0] // BLOCK, size[1] // BLOCK
    bits = [(index >> bit) & 1 for bit in range(columns * rows)]
    blocks = np.array(bits, np.uint8).reshape(rows, columns) * 255
    grey = np.kron(blocks, np.ones((BLOCK, BLOCK), np.uint8))
    return np.repeat(grey[:, :, None], 3, axis=2)


def frame_number(image: np.ndarray) -> int:
    """Read back the number in a `numbered_frame`, after any codec."""
    centres = image[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK].mean(axis=2).ravel()
    return sum(1 << bit for bit, level in enumerate(centres) if level > 127)


def write_clip(
    path: Path,
    seconds: float = 2.0,
    fps: Fraction | float = 25,
    size: tuple[int, int] = (64, 48),
    *,
    video: Callable[[int], np.ndarray] | None = numbered_frame,
    audio: np.ndarray | None = None,
    rate: int = 48_000,
    layout: str | None = None,
    frame_times_s: Sequence[float] | None = None,
    video_start_s: float = 0.0,
    audio_time_s: Callable[[float], float] | None = None,
    rotation: int = 0,
    pixel_shape: Fraction | None = None,
    video_codec: str | None = None,
    audio_codec: str | None = None,
    options: dict[str, str] | None = None,
    encoding: dict[str, str] | None = None,
) -> Path:
    """Write a clip in the container that the path's ending names.

    Args:
        seconds: of video; ignored with `frame_times_s`.
        size: (width, height) of the frames as stored.
        video: the (height, width, 3) uint8 BGR image of each frame; None for no video.
        audio: (channels, samples) float32; None for no audio.
        rate: of the audio, Hz.
        layout: FFmpeg's name for the audio's channels; by default mono or stereo.
        frame_times_s: when each frame is shown, for a frame rate that varies.
        audio_time_s: moves a packet of audio from its time to another.
        rotation: degrees by which a player rotates the frames, counterclockwise.
        pixel_shape: width of a pixel over its height.
        options: for FFmpeg's muxer, such as {"movflags": "faststart"}.
        encoding: for the video's encoder, such as {"bf": "3"}.
    """
    usual = CODECS.get(path.suffix, (None, None))
    video_codec = video_codec or usual[0]
    audio_codec = audio_codec or usual[1]
    fps = Fraction(fps).limit_denominator(1001)
    if frame_times_s is None:
        frame_times_s = [float(index / fps) for index in range(round(seconds * fps))]
    packets = []
    with av.open(str(path), "w", options=options or {}) as container:
        if video is not None and video_codec is not None:
            track = container.add_stream(video_codec, rate=fps)
            track.width, track.height = size
            track.pix_fmt = "yuv420p"
            track.options = encoding or {}
            # A time base in whole frames keeps the rate exact where the codec needs one.
            even = video_codec in WHOLE_FRAMES
            track.codec_context.time_base = 1 / fps if even else MICROSECOND
            if pixel_shape is not None:
                track.codec_context.sample_aspect_ratio = pixel_shape
            if rotation:
                track.set_display_rotation(rotation)
            for index, time_s in enumerate(frame_times_s):
                frame = av.VideoFrame.from_ndarray(video(index), format="bgr24")
                frame.time_base = track.codec_context.time_base
                frame.pts = round(Fraction(time_s + video_start_s) / frame.time_base)
                packets += track.encode(frame)
            packets += track.encode(None)
        if audio is not None and audio_codec is not None:
            layout = layout or {1: "mono", 2: "stereo"}[len(audio)]
            voice = container.add_stream(audio_codec, rate=rate, layout=layout)
            if audio_codec == "wmav2":  # it has no bit rate by default
                voice.bit_rate = 64_000
            for start in range(0, audio.shape[1], AUDIO_BLOCK):
                block = audio[:, start : start + AUDIO_BLOCK].T.reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
                frame.sample_rate, frame.pts = rate, start
                frame.time_base = Fraction(1, rate)
                packets += _moved(voice.encode(frame), audio_time_s)
            packets += _moved(voice.encode(None), audio_time_s)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _moved(
    packets: list[av.Packet], audio_time_s: Callable[[float], float] | None
) -> list[av.Packet]:
    for packet in packets if audio_time_s else []:
        time_s = audio_time_s(float(packet.pts * packet.time_base))
        packet.pts = packet.dts = round(time_s / packet.time_base)
    return packets
