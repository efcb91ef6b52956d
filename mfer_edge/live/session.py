"""Live sessions: frames and audio put in by any thread, readings with their latency out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mfer_edge.errors import MferError
from mfer_edge.live.backends import Backend, OpenSession
from mfer_edge.live.clock import ArrivalOffset, Stamps
from mfer_edge.live.events import (
    Event,
    FacesSeen,
    Gap,
    LatencySummary,
    LiveReading,
    LiveStats,
    Notice,
)
from mfer_edge.live.inbox import MAX_FRAMES, Arrival, Connected, Ended, Inbox, Lost
from mfer_edge.options import MAX_LAG_S, SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading, Track
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.speech.vad import SAMPLE_RATE

MAX_BACKLOG_S = 60.0  # of audio that waits: the machine is too slow even without frames
SLOW_HOPS = 3.0  # lag, in hops, from which on it is told that the machine is late
KEPT_LATENCIES = 36_000  # readings that percentiles are of: ten hours at one a second
MAX_TRACKS = 10_000  # of earlier connections


class LiveSession:
    """A session on a source that can't wait, with threads of its own, and may be lost for a while.

    One or more threads `put` what a camera, a socket or a program gives; they never wait for a
    reading. One thread iterates over `events`, and does the work. The source may be `lost` and
    `connected` again: that is a gap in the output, and faces and speech start anew after it.

    The readings are those of a `Session` that is given the same frames and audio, and so those of
    `Pipeline.analyze` if no frame is dropped.

    Args:
        pipeline: to run.
        options: of the windows; by default as the bundle was trained.
        has_video, has_audio: whether frames, audio, are to be expected. The session is connected
            with these; None: it waits for `connected`.
        max_frames: frames that may wait before the one that waited longest is dropped.
        max_lag_s: how far audio may be behind video, or the reverse, before a window is read
            without it.
        keep_detections: tell where the faces are in every frame, to draw them.
        backend: where its sessions compute; by default the pipeline, in this process.

    Example:
        >>> live = LiveSession(pipeline)
        >>> threading.Thread(target=film, args=(live,)).start()  # put_frame, put_audio, end
        >>> for event in live.events():
        ...     if isinstance(event, LiveReading):
        ...         print(event.reading.label, event.lag_s)
    """

    def __init__(
        self,
        pipeline: Pipeline,
        options: SessionOptions | None = None,
        *,
        has_video: bool | None = True,
        has_audio: bool | None = True,
        max_frames: int = MAX_FRAMES,
        max_lag_s: float = MAX_LAG_S,
        keep_detections: bool = False,
        backend: Backend | None = None,
    ) -> None:
        self.options = options or pipeline.options()
        self.pipeline = pipeline
        self._backend: Backend = backend or pipeline
        self._inbox = Inbox(max_frames)
        self._keep_detections = keep_detections
        self._session: OpenSession | None = None
        self._clock = ArrivalOffset()
        self._origin_s: float | None = None  # the monotonic time at which the first item began
        self._connection: Connected | None = None
        self._shift_s = 0.0  # of this connection's times
        self._first_track = 0  # of this connection
        self._reached_s = 0.0
        self._own_end_s = 0.0  # of what was read in this connection, in its own time
        self._lost: Gap | None = None
        self._tracks: deque[Track] = deque(maxlen=MAX_TRACKS)
        self._told: set[str] = set()
        self._frames = self._samples = self._readings = self._gaps = 0
        self._gap_s = 0.0
        self._compute_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._lag_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        if has_video is not None or has_audio is not None:
            self.connected(bool(has_video), bool(has_audio), max_lag_s)

    # The side of the source: any thread.

    def put(self, item: Frame | AudioChunk, *, wait: bool = False) -> bool:
        """Hand over the next frame or audio, from any thread.

        Times count from the start of the connection. Frames should come at the bundle's rate.

        Args:
            wait: until there is room, instead of dropping a frame: for a source that can wait.

        Returns:
            False once the session has ended.
        """
        return self._inbox.put(item, wait)

    def put_frame(self, image: np.ndarray, time_s: float | None = None) -> bool:
        """Hand over a frame: (height, width, 3) uint8 BGR.

        Args:
            time_s: by default it is of now, on the clock of the sound, if there is any.
        """
        if time_s is None:
            time_s = self._stamps.frame(time.monotonic())
        return time_s is None or self.put(Frame(time_s, image))

    def put_audio(self, samples: np.ndarray) -> bool:
        """Hand over the next (n,) float32 samples in [-1, 1], 16 kHz, mono."""
        self._stamps.audio(len(samples) / SAMPLE_RATE, time.monotonic())
        return self.put(AudioChunk(samples.copy()))  # a driver may reuse the array

    def connected(
        self, has_video: bool = True, has_audio: bool = True, max_lag_s: float = MAX_LAG_S
    ) -> None:
        """The source is there: its items begin, at a time of 0."""
        self._stamps = Stamps(has_audio)
        self._inbox.put(Connected(has_video, has_audio, max_lag_s))

    def lost(self, reason: str) -> None:
        """The source is gone, and may come back."""
        self._inbox.put(Lost(reason))

    def end(self, duration_s: float | None = None) -> None:
        """Nothing more will come; `events` reads what waits, and ends.

        Args:
            duration_s: of the source, if it has one of its own, such as a file's.
        """
        self._inbox.put(Ended(duration_s))

    @property
    def ended(self) -> bool:
        """Whether nothing more is taken."""
        return self._inbox.ended

    @property
    def waiting(self) -> int:
        """Number of items that wait to be worked on."""
        return len(self._inbox)

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that wait."""
        return self._inbox.audio_s

    @property
    def dropped(self) -> int:
        """Frames that were left out so far because the machine was late."""
        return self._inbox.dropped

    # The side of the work: one thread.

    def events(self) -> Iterator[Event]:
        """Do the work; yield readings, gaps and warnings, each as soon as it is known.

        Raises:
            MferError: an engine failed, or the machine is so slow that sound piles up.
            ValueError: an item is no frame or audio as `Session` takes it.
        """
        try:
            while (arrival := self._inbox.get()) is not None:
                yield from self._take(arrival)
        finally:
            self._inbox.put(Ended())

    def step(self, timeout_s: float = 0.0) -> list[Event]:
        """Work on the next item, if one comes in time; for those who have a loop of their own."""
        arrival = self._inbox.get(timeout_s)
        return [] if arrival is None else list(self._take(arrival))

    def stats(self) -> LiveStats:
        """Counts so far."""
        return LiveStats(
            duration_s=self._reached_s,
            frames=self._frames,
            dropped=self._inbox.dropped,
            audio_s=self._samples / SAMPLE_RATE,
            readings=self._readings,
            gaps=self._gaps,
            gap_s=self._gap_s,
            compute=_summary(self._compute_s),
            lag=_summary(self._lag_s),
        )

    def tracks(self) -> tuple[Track, ...]:
        """Every face so far; of those that were lost, the latest 10,000."""
        current = [] if self._session is None else map(self._shifted_track, self._session.tracks())
        return (*self._tracks, *current)

    def _take(self, arrival: Arrival) -> Iterator[Event]:
        item = arrival.item
        if isinstance(item, Frame | AudioChunk):
            yield from self._push(item, arrival.arrived_s)
            return
        if isinstance(item, Connected):
            yield from self._close(None)
            self._connection = item
            return
        if self._session is not None or self._lost is None:
            yield from self._close(item.duration_s if isinstance(item, Ended) else None)
        if isinstance(item, Lost) and self._lost is None:
            self._gaps += 1
            self._lost = Gap(self._reached_s, None, item.reason)
            yield self._lost
        elif isinstance(item, Ended) and self._lost is not None:
            yield self._found(max(self._lost.start_s, self._now_s()))

    def _push(self, item: Frame | AudioChunk, arrived_s: float) -> Iterator[Event]:
        if self._session is None:
            yield from self._open(item, arrived_s)
        session = self._session
        assert session is not None
        start_s = time.monotonic()
        session.push(item)
        done_s = time.monotonic()
        if isinstance(item, Frame):
            self._frames += 1
            own_s = item.time_s
        else:
            self._samples += len(item.samples)
            own_s = session.audio_s
        frame_s = 1 / self.pipeline.bundle.manifest.frame_rate if isinstance(item, Frame) else 0.0
        self._own_end_s = max(self._own_end_s, own_s + frame_s)
        self._clock.observe(own_s, arrived_s)
        self._reached_s = max(self._reached_s, self._shift_s + own_s)
        if self._keep_detections and isinstance(item, Frame):
            yield self._faces_seen(session, own_s)
        yield from self._told_readings(session, done_s - start_s, done_s, waited=False)
        if isinstance(item, Frame) and not self.waiting:
            session.prepare()
        if self._inbox.audio_s > MAX_BACKLOG_S:
            raise MferError(
                f"this machine is {self._inbox.audio_s:.0f} s behind the sound, even without "
                "frames: use a longer --hop, or a smaller bundle"
            )

    def _faces_seen(self, session: OpenSession, time_s: float) -> FacesSeen:
        faces = tuple(
            replace(face, time_s=face.time_s + self._shift_s, track=face.track + self._first_track)
            for face in session.detections
        )
        session.detections.clear()  # hours of them would fill the memory
        return FacesSeen(time_s + self._shift_s, faces)

    def _open(self, item: Frame | AudioChunk, arrived_s: float) -> Iterator[Event]:
        """Begin the session of this connection, whose first item has come."""
        if self._connection is None:
            raise ValueError("an item came before the source was connected")
        connection, self._clock = self._connection, ArrivalOffset()
        own_s = item.time_s if isinstance(item, Frame) else 0.0
        if self._origin_s is None:
            self._origin_s = arrived_s - own_s
        else:
            self._shift_s = max(self._reached_s, arrived_s - own_s - self._origin_s)
        if self._lost is not None:
            yield self._found(self._shift_s)
        self._own_end_s = 0.0
        self._session = self._backend.session(
            self.options,
            has_video=connection.has_video,
            has_audio=connection.has_audio,
            max_lag_s=connection.max_lag_s,
            keep_detections=self._keep_detections,
        )

    def _close(self, duration_s: float | None) -> Iterator[Event]:
        """End the session of this connection; what is left makes a last window."""
        session, self._session = self._session, None
        if session is None:
            return
        start_s = time.monotonic()
        # A file that is left early announces a later end for its last frame.
        session.close(self._own_end_s if duration_s is None else duration_s)
        done_s = time.monotonic()
        yield from self._told_readings(session, done_s - start_s, done_s, waited=True)
        tracks = session.tracks()
        self._tracks += map(self._shifted_track, tracks)
        self._first_track += max((track.track + 1 for track in tracks), default=0)

    def _told_readings(
        self, session: OpenSession, compute_s: float, now_s: float, *, waited: bool
    ) -> Iterator[Event]:
        """The readings that are ready.

        Args:
            waited: for the end of the source, so their lag says nothing about the machine.
        """
        for reading in session.readings():
            lag_s = max(0.0, now_s - reading.end_s - self._clock.offset_s)
            if reading.main:
                self._readings += 1
                self._compute_s.append(compute_s)
                self._lag_s += [] if waited else [lag_s]
            self._reached_s = max(self._reached_s, self._shift_s + reading.end_s)
            if (
                lag_s
                > SLOW_HOPS * self.options.hop_s + 1 / self.pipeline.bundle.manifest.frame_rate
            ):
                yield from self._tell("this machine is late: readings lag behind the source")
            yield LiveReading(self._shifted(reading), compute_s, lag_s)
        for text in session.warnings():
            yield from self._tell(text)
        if self._inbox.dropped:
            yield from self._tell("this machine is late: frames are dropped, sound is not")

    def _tell(self, text: str) -> Iterator[Notice]:
        kind = "".join(letter for letter in text if not letter.isdigit())
        if kind not in self._told:
            self._told.add(kind)
            yield Notice(self._reached_s, text)

    def _found(self, end_s: float) -> Gap:
        assert self._lost is not None
        gap, self._lost = replace(self._lost, end_s=end_s), None
        self._gap_s += end_s - gap.start_s
        self._reached_s = max(self._reached_s, end_s)
        return gap

    def _now_s(self) -> float:
        """Time since the first item."""
        now_s = time.monotonic()
        return 0.0 if self._origin_s is None else now_s - self._origin_s

    def _shifted(self, reading: Reading) -> Reading:
        if not self._shift_s:
            return reading
        track = None if reading.track is None else reading.track + self._first_track
        start_s, end_s = reading.start_s + self._shift_s, reading.end_s + self._shift_s
        return replace(reading, start_s=start_s, end_s=end_s, track=track)

    def _shifted_track(self, track: Track) -> Track:
        return replace(
            track,
            track=track.track + self._first_track,
            start_s=track.start_s + self._shift_s,
            end_s=track.end_s + self._shift_s,
        )


def _summary(times_s: deque[float]) -> LatencySummary:
    if not times_s:
        return LatencySummary(None, None, None)
    p50_s, p99_s, max_s = np.percentile(np.array(times_s), [50, 99, 100]).tolist()
    return LatencySummary(p50_s, p99_s, max_s)
