"""Clips: media files, decoded in one pass to frames at a fixed rate and 16 kHz mono audio."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mfer_edge.errors import MediaError
from mfer_edge.sources.announced import AnnouncedDuration, declared_end_s, own_end_s
from mfer_edge.sources.base import AudioChunk, Frame, TrackChoice, missing_tracks
from mfer_edge.sources.geometry import Geometry
from mfer_edge.sources.integrity.check import structure_note
from mfer_edge.sources.integrity.ending import (
    EXACT_S,
    Ending,
    TrackEnd,
    sound_slack_s,
    video_slack_s,
)
from mfer_edge.sources.integrity.reading import TAGS
from mfer_edge.sources.limits import USUAL_LIMITS, ClipLimits
from mfer_edge.sources.probe import check_sums, header_size, open_container
from mfer_edge.sources.resample import MonoResampler, can_be_resampled
from mfer_edge.sources.sampling import MAX_OVERLAP_S, FrameSkipper, Sampler, VideoEnd
from mfer_edge.sources.tracks import choose_tracks
from mfer_edge.sources.url import READ_TIMEOUT_S, is_url, shown_url
from mfer_edge.speech.vad import SAMPLE_RATE

MAX_JUMP_S = 60.0  # a time stamp this far past everything read and announced is damaged
MAY_BE_CUT = "it may have been cut off"
MIN_TOLD_S = 0.5  # of sound that was corrected or dropped, to be worth a warning
MAX_CLIP_LAG_S = 60.0  # between tracks: some files are badly interleaved


class Clip:
    """A media file, opened. Iterating decodes it, a few frames at a time; this works once.

    It is a `Source`. Frames come in order of time, and so does audio; how the two are interleaved
    is the file's choice. FFmpeg's own messages are not printed: what matters is raised or counted.

    Args:
        path: any container that FFmpeg reads, or the URL of one: see `url`.
        frame_rate: frames wanted per second of video. The first frame shown at or after each
            1/frame_rate tick is taken, so a slower video gives each of its frames once. None
            leaves the video undecoded and gives the audio alone. H.264 frames that are neither
            taken nor referred to by others are left undecoded too.
        threads: that decode the video; 0 takes one for each core.
        choice: of the tracks to read; by default those that players play.
        container: opened already; `path` is then a name for messages.
        limits: of what is read; stricter ones are for clips that are not trusted.

    Attributes:
        video, audio: the tracks that are read, if there are any.
        duration_s: by the container's header, 0 if that gives none; once all is decoded, of what
            was there.
        has_video, has_audio: whether the clip has such a track.
        missing_s: how much less that was than by the header. A file that was cut off shows here;
            but some headers only guess, and containers round.
        damaged: packets so far that were cut off or undecodable, of those that were decoded.
        jumps: how often time stamps started anew or jumped far ahead, by kind of track: what
            follows was read as if it came next.

    Raises:
        MediaError: the file is missing, not readable, over the limits, or holds neither video nor
            audio. While iterating: nothing could be decoded, it goes on over the limits, the audio
            is not finite, or the clip was read or closed before.
    """

    max_lag_s = MAX_CLIP_LAG_S

    def __init__(
        self,
        path: Path | str,
        frame_rate: float | None = 5.0,
        threads: int = 0,
        choice: TrackChoice | None = None,
        *,
        container: InputContainer | None = None,
        limits: ClipLimits = USUAL_LIMITS,
    ) -> None:
        # A file name may hold bytes that are no text, which JSON and terminals don't take.
        name = os.fsencode(path).decode(errors="replace")
        self.name = shown_url(name) if is_url(path) else name
        # As messages show it; a URL may hold a password.
        self.path: Path | str = self.name if is_url(path) else Path(path)
        self.damaged = 0
        self.jumps = {VideoFrame: 0, AudioFrame: 0}
        self.missing_s = 0.0
        self._decoded = {VideoFrame: 0, AudioFrame: 0}
        self._frame_rate = frame_rate
        self._limits = limits
        self._read = self._closed = self._stalled = self._ended = False
        self._ending: Ending | None = None
        self._structure = ""  # what is wrong with it
        self._resampler = MonoResampler(self.path)
        self._decoding = threading.Lock()  # FFmpeg crashes if it is closed meanwhile
        self._container = container or open_container(path)
        self._format = self._container.format.name.partition(",")[0]
        try:
            self._choose(choice or TrackChoice())
        except MediaError:
            self._container.close()
            raise
        start_s = (self._container.start_time or 0) / av.time_base
        # Of a bare stream FFmpeg does not know it: its first frame, which may wait for others.
        self._starts_with_first = self._container.start_time is None and len(self._tracks) == 1
        self._start_s = {VideoFrame: start_s, AudioFrame: start_s}
        self._announced = AnnouncedDuration.of(self._container, self.path)
        self.duration_s = self._announced.duration_s
        self._video_told_s = declared_end_s(self.video, start_s)
        self._own_ends_s = {
            track: own_end_s(track, start_s, self._format) for track in (self.video, self.audio)
        }
        self._end = VideoEnd(self.video)
        unit_s = 0.0
        if self.video is not None:
            self.video.thread_type = "AUTO"
            self.video.codec_context.thread_count = threads
            limits.apply(self.video.codec_context)
            unit_s = float(self.video.time_base or 0)
        self._sampler = Sampler(frame_rate or 0.0, unit_s)
        self._skipper = FrameSkipper(self.video, self._sampler) if self.video is not None else None

    def _choose(self, choice: TrackChoice) -> None:
        self._chosen = choose_tracks(self._container, choice, str(self.path))
        self.video, self.audio = self._chosen.video, self._chosen.audio
        if self.audio is not None:
            check_sums(self.audio)
        self.has_video, self.has_audio = self.video is not None, self.audio is not None
        if not self.has_video and not self.has_audio:
            raise MediaError(f"{self.path}: no video and no audio that can be decoded")
        self._tracks = [s for s in (self._frame_rate and self.video, self.audio) if s]
        self._limits.check_length(self.path, (self._container.duration or 0) / av.time_base)
        if self.video is not None and self._frame_rate:
            size = self.video.width, self.video.height
            if not any(size) and isinstance(self.path, Path):
                size = header_size(self.path, self.video.index)
            self._limits.check_frames(self.path, *size)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._decoding:
            self._closed = True
            self._container.close()

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        if self._read:
            raise MediaError(f"{self.path}: was read already; open it again")
        self._read = True
        items = self._decode()
        while True:
            with self._decoding:
                if self._closed:
                    raise MediaError(f"{self.path}: was closed while it was read")
                item = next(items, None)
            if item is None:
                return
            yield item

    def warnings(self) -> tuple[str, ...]:
        """Tracks that were not read, damage, and an early end, as far as the clip was read."""
        warnings = missing_tracks(self)
        warnings += [self._chosen.video_note] if self._frame_rate else []
        warnings += [self._chosen.audio_note]
        for layout in sorted(self._resampler.averaged):
            warnings.append(
                f"the sound has channels without a place ({layout}): their average was read"
            )
        warnings += self._undecoded()
        if self.damaged:
            packets = "1 damaged packet" if self.damaged == 1 else f"{self.damaged} damaged packets"
            warnings.append(f"{packets} could not be decoded")
        if jumps := max(self.jumps.values()):
            times = "once" if jumps == 1 else f"{jumps} times"
            warnings.append(
                f"the time stamps start anew or jump {times}, as where recordings were joined: "
                "each part was read as if it followed the one before"
            )
        if self._resampler.dropped_s > MIN_TOLD_S:
            warnings.append(
                f"by their time stamps {self._resampler.dropped_s:.1f} s of the sound came twice: "
                "they were left out once"
            )
        if self._resampler.gaps_s:
            warnings.append(
                f"by its time stamps the sound pauses for {self._resampler.gaps_s:.1f} s: silence "
                "was read there"
            )
        if self._resampler.phase.inverted_s > MIN_TOLD_S:
            warnings.append(
                f"left and right of the sound cancel each other for "
                f"{self._resampler.phase.inverted_s:.1f} s: one of them was inverted there"
            )
        if self._stalled:
            warnings.append(f"nothing came for {READ_TIMEOUT_S:g} s: the rest was not waited for")
        else:
            early = self._ending.note() if self._ending is not None else ""
            if not (early and self._structure.endswith(MAY_BE_CUT)):
                warnings.append(self._structure)
            warnings.append(early)
        return tuple(warning for warning in warnings if warning)

    def _undecoded(self) -> list[str]:
        """Sentences on tracks from which nothing came, once all was read."""
        if not self._ended:
            return []
        kinds = (
            ("video", VideoFrame, self._frame_rate and self.video),
            ("sound", AudioFrame, self.audio),
        )
        return [
            f"the {name} track holds nothing that could be decoded"
            for name, kind, track in kinds
            if track and not self._decoded[kind]
        ]

    def _decode(self) -> Iterator[Frame | AudioChunk]:
        geometry = Geometry(self.video) if self.video is not None else None
        for frame in self._decoded_frames():
            self._decoded[type(frame)] += 1
            reached_s = max(self._end.expected_s, self._resampler.end_s)
            self._limits.check_length(self.path, reached_s)
            if isinstance(frame, VideoFrame):
                expected_s = self._end.expected_s
                time_s = self._time_s(frame, expected_s, reached_s)
                time_s = expected_s if time_s is None else max(0.0, time_s)
                self._end.add(frame, time_s)
                if geometry is not None and self._sampler.takes(time_s):
                    yield Frame(time_s, geometry.shown(frame), self._video_told_s)
            else:
                time_s = self._time_s(frame, self._resampler.end_s, reached_s)
                for samples in self._resampler.push(frame, time_s):
                    yield AudioChunk(samples)
        for samples in self._resampler.flush():
            yield AudioChunk(samples)
        if self._tracks and not any(self._decoded.values()):
            raise MediaError(f"{self.path}: nothing in this file could be decoded")
        self._ended = True
        self._end_of_tracks()
        if isinstance(self.path, Path):
            self._structure = structure_note(self.path, self._format)

    def _end_of_tracks(self) -> None:
        """Compare what was there with what the header tells."""
        audio_s = self._resampler.written / SAMPLE_RATE
        skipped_s = self._skipper.end_s if self._skipper else 0.0
        video_s = max(self._end.end_s(audio_s, self._video_told_s), skipped_s)
        tracks = []
        if self._frame_rate and self.video is not None:
            slack_s = video_slack_s(self.video, self._end.longest_s)
            tracks.append(TrackEnd("video", self._own_ends_s[self.video], video_s, slack_s))
        if self.audio is not None:
            slack_s = sound_slack_s(self.audio, self._resampler.longest_frame_s)
            found_s = audio_s
            if self._format == "flac":  # it has no gaps: where stamps leave one, frames are missing
                found_s, slack_s = self._resampler.heard_s, EXACT_S
                self.damaged = max(self.damaged, int(audio_s - found_s > EXACT_S))
            tracks.append(TrackEnd("sound", self._own_ends_s[self.audio], found_s, slack_s))
        self.duration_s = max(video_s, audio_s)
        # Of a file of which a track is left out, the length says nothing; in MP4, each has its own.
        by_file = (bool(self._frame_rate) or not self.has_video) and self._format != "mov"
        self._ending = Ending.of(self._announced, tracks, by_file=by_file)
        self.missing_s = self._ending.missing_s

    def _time_s(
        self, frame: VideoFrame | AudioFrame, expected_s: float, reached_s: float
    ) -> float | None:
        """Time of a frame from the clip's start; None if it has no time stamp."""
        if frame.time is None:
            return None
        if self._starts_with_first:
            self._starts_with_first = False
            self._start_s[type(frame)] = frame.time
        time_s = frame.time - self._start_s[type(frame)]
        # A length that is not told was guessed from such time stamps.
        told_s = self._announced.duration_s if self._announced.is_told else 0.0
        latest_s = max(reached_s, told_s) + MAX_JUMP_S
        if not expected_s - MAX_OVERLAP_S <= time_s <= latest_s:
            self.jumps[type(frame)] += 1
            time_s = expected_s
            self._start_s[type(frame)] = frame.time - time_s
        return time_s

    def _decoded_frames(self) -> Iterator[VideoFrame | AudioFrame]:
        for packet in self._packets():
            if self._skipper is not None and isinstance(packet.stream, VideoStream):
                damaged = bool(self.damaged or self.jumps[VideoFrame])
                self._skipper.prepare(packet, self._start_s[VideoFrame], damaged)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged += not bytes(packet).startswith(TAGS)
                continue
            for frame in frames:
                usable = isinstance(frame, VideoFrame) or can_be_resampled(frame)
                self.damaged += frame.is_corrupt or not usable
                if self._skipper is not None and isinstance(frame, VideoFrame):
                    self._skipper.observe(frame)
                if usable:
                    yield frame

    def _packets(self) -> Iterator[Packet]:
        packets = self._chosen.packets(self._container, *self._tracks)
        while self._tracks:
            try:
                yield next(packets)
            except (StopIteration, IndexError):  # how PyAV ends if a track first showed midway
                return
            except av.error.ExitError:  # only a URL has a time limit
                self._stalled = True
                break
            except av.error.FFmpegError:  # the file can't be read from here on
                self.damaged += 1
                break
        for track in self._tracks:
            last = Packet()  # an empty packet makes the decoder return what it still holds
            last.stream = track
            if track.time_base is not None:
                last.time_base = track.time_base
            yield last


def read_audio(path: Path | str) -> np.ndarray:
    """Decode all the audio of a clip: (n,) float32, 16 kHz, mono; empty without an audio track.

    Raises:
        MediaError: as `Clip`.
    """
    with Clip(path, frame_rate=None) as clip:
        chunks = [item.samples for item in clip if isinstance(item, AudioChunk)]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
