"""Video files: new frames encoded as H.264, with the audio of the source clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.error
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.codec.codec import UnknownCodecError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from mfer_edge.errors import OutputError
from mfer_edge.outputs.soundtrack import audio_packets

ENCODERS = {"libx264": {"crf": "18", "preset": "veryfast"}, "mpeg4": {"b": "8000000"}}
"""Encoders and their options, in order of preference; FFmpeg may lack the first."""

TICKS_PER_S = 60_000  # exact for 24, 25, 30, 50, 60, 29.97, 59.94 Hz; MPEG-4 allows 65 535
DEFAULT_RATE = 25  # frames per second, for sources that do not state a rate


class ClipWriter:
    """Writer of an mp4, frame by frame, interleaved with the audio of the source clip.

    Args:
        out: the file to write.
        source: the clip that the frames were made from.
        video, audio: numbers of its tracks among all, as `Clip` chose them.

    Raises:
        OutputError: FFmpeg has no video encoder.
        av.error.FFmpegError: the file can't be written. The methods raise it too.
    """

    def __init__(self, out: Path, source: Path, video: int, audio: int | None) -> None:
        self._encoder = _encoder()
        self._video_index, self._audio_index = video, audio
        self._source = av.open(f"file:{source}")
        self._target = av.open(f"file:{out}", "w", format="mp4", options={"movflags": "+faststart"})
        self._video: VideoStream | None = None
        self._audio: Iterator[Packet] = iter(())
        self._next_audio: Packet | None = None
        self._last = -1  # time of the last frame, in ticks

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._video is not None:
                self._target.mux(self._video.encode(None))
                self._mux_audio(float("inf"))
        finally:
            self._source.close()
            self._target.close()

    def write(self, image: np.ndarray, time_s: float) -> None:
        """Add the next frame: (height, width, 3) uint8 BGR, at seconds from the start."""
        image = _even(image)
        video = self._video or self._begin(image)
        # Frames that round to the same tick still need increasing times.
        self._last = max(round(time_s * TICKS_PER_S), self._last + 1)
        frame = VideoFrame.from_ndarray(image, format="bgr24").reformat(
            video.width, video.height, "yuv420p",
            dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG,
            threads=1,
        )  # fmt: skip
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS_PER_S)
        frame.duration = round(TICKS_PER_S / (video.codec_context.framerate or DEFAULT_RATE))
        self._mux_audio(time_s)
        self._target.mux(video.encode(frame))

    def _begin(self, image: np.ndarray) -> VideoStream:
        height, width = image.shape[:2]
        streams = self._source.streams
        source = streams[self._video_index]
        assert isinstance(source, VideoStream)
        video = self._target.add_stream(
            self._encoder, source.average_rate or DEFAULT_RATE, ENCODERS[self._encoder]
        )
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        context = video.codec_context
        context.time_base = Fraction(1, TICKS_PER_S)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._video = video
        if self._audio_index is not None:
            audio = streams[self._audio_index]
            assert isinstance(audio, AudioStream)
            self._audio = audio_packets(self._source, audio, self._target)
        return video

    def _mux_audio(self, until_s: float) -> None:
        while True:
            packet = self._next_audio or next(self._audio, None)
            self._next_audio = packet
            if packet is None or float((packet.pts or 0) * packet.time_base) > until_s:
                return
            self._next_audio = None
            self._target.mux(packet)


def _encoder() -> str:
    for name in ENCODERS:
        with suppress(UnknownCodecError):
            return av.Codec(name, "w").name
    raise OutputError(f"this build of FFmpeg has no encoder for video: {' or '.join(ENCODERS)}")


def _even(image: np.ndarray) -> np.ndarray:
    """Pad a frame to an even height and width by repeating its last row or column."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
