"""Clips in: one decoding pass gives pictures at a fixed rate and 16 kHz mono sound."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.resample import MonoResampler, can_be_mixed
from mfer_edge.sources.sampling import MAX_OVERLAP_S, FrameSkipper, Sampler, length_s
from mfer_edge.speech.vad import SAMPLE_RATE

MAX_JUMP_S = 60.0  # a time stamp this far past all that was read and told of is damaged
MAX_TOLD_S = 86_400.0  # a header that tells of more is damaged


class Clip:
    """An opened file. Iterating decodes it, holding a few frames at a time; this works once.

    Pictures come in order of time, and so does sound; how the two are interleaved is the file's
    choice. FFmpeg's own messages are not printed: what matters is raised or counted.

    Args:
        path: any container that FFmpeg reads.
        frame_rate: pictures wanted per second of video. The first frame shown at or after each
            1/frame_rate tick is taken, so a slower video gives each of its frames once. None
            leaves the video undecoded and gives the sound alone. H.264's frames that are neither
            taken nor needed for others are left undecoded too.
        threads: that decode the video; 0 takes one for each core.

    Attributes:
        duration_s: by the container's header, 0 if that doesn't tell; once all is decoded, what
            was there.
        has_video, has_audio: whether the clip has such a track.
        missing_s: how much less that was than by the header. A file that was cut off shows here;
            but some headers only guess.
        damaged: packets so far that were cut off, undecodable, or had an impossible time stamp,
            of those that were decoded.

    Raises:
        MediaError: the file is missing, not readable, or holds neither video nor sound. While
            iterating: nothing could be decoded, the sound is not finite, or the clip was read or
            closed before.
    """

    def __init__(self, path: Path | str, frame_rate: float | None = 5.0, threads: int = 0) -> None:
        self.path = Path(path)
        self.damaged = 0
        self._frame_rate = frame_rate
        self._spent = self._closed = False
        self._container = _open(self.path)
        streams = self._container.streams
        # A cover picture in a music file is no video track; a codec that FFmpeg doesn't know has
        # no context.
        videos = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
        self._video = next((s for s in videos if s.codec_context), None)
        self._audio = next((s for s in streams.audio if s.codec_context), None)
        self.has_video, self.has_audio = self._video is not None, self._audio is not None
        if not self.has_video and not self.has_audio:
            self._container.close()
            raise MediaError(f"{self.path}: no video and no sound that can be decoded")
        self._tracks = [s for s in (frame_rate and self._video, self._audio) if s]
        start_s = (self._container.start_time or 0) / av.time_base
        self._start_s = {VideoFrame: start_s, AudioFrame: start_s}
        told_s = (self._container.duration or 0) / av.time_base
        self.duration_s = told_s if told_s < MAX_TOLD_S else 0.0
        self.missing_s = 0.0
        if self._video is not None:
            self._video.thread_type = "AUTO"
            self._video.codec_context.thread_count = threads
        unit = self._video.time_base if self._video is not None else None
        self._sampler = Sampler(frame_rate or 0.0, float(unit or 0))
        self._sparing = (
            FrameSkipper(self._video, self._sampler) if self._video is not None else None
        )

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed = True
        self._container.close()

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        if self._spent:
            raise MediaError(f"{self.path}: was read already; open it again")
        self._spent = True
        sound = MonoResampler(self.path)
        video_s, decoded = 0.0, 0  # the end of the video so far
        for frame in self._frames():
            decoded += 1
            reached_s = max(video_s, sound.end_s)
            if isinstance(frame, VideoFrame):
                time_s = self._time_s(frame, video_s, reached_s)
                time_s = video_s if time_s is None else max(0.0, time_s)
                video_s = max(video_s, time_s + length_s(frame, self._video))
                if self._sampler.takes(time_s):
                    yield Frame(time_s, _upright(frame))
            else:
                time_s = self._time_s(frame, sound.end_s, reached_s)
                for samples in sound.push(frame, time_s):
                    yield AudioChunk(samples)
        for samples in sound.flush():
            yield AudioChunk(samples)
        if self._sparing is not None:
            video_s = max(video_s, self._sparing.end_s)
        if self._tracks and decoded == 0:
            raise MediaError(f"{self.path}: nothing in this file could be decoded")
        told_s, self.duration_s = self.duration_s, max(video_s, sound.given / SAMPLE_RATE)
        self.missing_s = max(0.0, told_s - self.duration_s) if self._frame_rate else 0.0

    def _time_s(
        self, frame: VideoFrame | AudioFrame, expected_s: float, reached_s: float
    ) -> float | None:
        """When a frame is due, from the clip's start; None if it doesn't tell."""
        if frame.time is None:
            return None
        time_s = frame.time - self._start_s[type(frame)]
        latest_s = max(reached_s, self.duration_s) + MAX_JUMP_S
        if not expected_s - MAX_OVERLAP_S <= time_s <= latest_s:
            self.damaged += 1
            time_s = expected_s
            self._start_s[type(frame)] = frame.time - time_s
        return time_s

    def _frames(self) -> Iterator[VideoFrame | AudioFrame]:
        for packet in self._packets():
            if self._sparing is not None and isinstance(packet.stream, VideoStream):
                self._sparing.prepare(packet, self._start_s[VideoFrame], bool(self.damaged))
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                usable = isinstance(frame, VideoFrame) or can_be_mixed(frame)
                self.damaged += frame.is_corrupt or not usable
                if self._sparing is not None and isinstance(frame, VideoFrame):
                    self._sparing.saw(frame)
                if usable:
                    yield frame

    def _packets(self) -> Iterator[Packet]:
        packets = self._container.demux(*self._tracks)
        while self._tracks:
            if self._closed:  # FFmpeg would crash
                raise MediaError(f"{self.path}: was closed while it was read")
            try:
                yield next(packets)
            except (StopIteration, IndexError):  # PyAV's end if a track first showed midway
                return
            except av.error.FFmpegError:  # the file can't be read from here on
                self.damaged += 1
                break
        for track in self._tracks:
            last = Packet()  # an empty packet makes the decoder give what it still holds
            last.stream = track
            if track.time_base is not None:
                last.time_base = track.time_base
            yield last


def read_sound(path: Path | str) -> np.ndarray:
    """Decode the whole sound of a clip: (n,) float32, 16 kHz, mono; empty without a sound track.

    Raises:
        MediaError: as `Clip`.
    """
    with Clip(path, frame_rate=None) as clip:
        pieces = [item.samples for item in clip if isinstance(item, AudioChunk)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def _open(path: Path) -> InputContainer:
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{path}: a folder, not a clip")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path}: no permission to read it")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    unreadable = MediaError(f"{path}: not a video or sound file, or one that was cut off")
    try:
        # Without "file:", FFmpeg takes what stands before a colon in a name for a protocol. Old
        # tools wrote titles in their country's own encoding, which is no reason to refuse a file.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise unreadable from error
    if container.format.name == "tty":  # FFmpeg plays any text as a film
        container.close()
        raise unreadable
    return container


def _upright(frame: VideoFrame) -> np.ndarray:
    """The picture as a player shows it: phones store it on its side with a note to turn it."""
    # More threads would be started anew for each frame, which takes longer than the work.
    image = frame.to_ndarray(format="bgr24", threads=1)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image
