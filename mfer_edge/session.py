"""Sessions: frames and audio in, readings of sliding windows out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import wraps
from threading import RLock
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import numpy as np

from mfer_edge.arms import ArmOutput
from mfer_edge.faces.embedding_ahead import EmbeddingAhead, embedding_ahead
from mfer_edge.faces.embedding_cache import CachedFace, embed_missing, embed_window
from mfer_edge.faces.shown import ShownFrames
from mfer_edge.faces.stream import FaceStream, TrackedFace, main_track
from mfer_edge.model import Model
from mfer_edge.options import MAX_LAG_S, SessionOptions, check_options
from mfer_edge.results import FaceDetection, Reading, Scores, Track
from mfer_edge.sources.announced import MAX_DURATION_S
from mfer_edge.sources.base import AudioChunk, Frame, Source
from mfer_edge.sources.prefetch import decode_ahead
from mfer_edge.speech.buffer import SpeechBuffer
from mfer_edge.speech.vad import SAMPLE_RATE
from mfer_edge.stopwatch import Stopwatch

if TYPE_CHECKING:
    from mfer_edge.speech.speaker import Speakers

MAX_GAP_S = MAX_DURATION_S  # frames that are further apart have wrong times: say, of the clock

P = ParamSpec("P")
R = TypeVar("R")


def _locked(method: Callable[Concatenate[Session, P], R]) -> Callable[Concatenate[Session, P], R]:
    """A method that one thread at a time runs."""

    @wraps(method)
    def run(self: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return run


@dataclass(frozen=True)
class _Window:
    start_s: float
    end_s: float
    frames: int


@dataclass(frozen=True)
class _Speech:
    output: ArmOutput | None  # None where there was too little speech
    speech_s: float


_SILENCE = _Speech(None, 0.0)


class Session:
    """Takes frames and audio as they come, and makes a reading of each window.

    A reading is ready once both video and audio have reached its window's end. It depends on the
    frames and the samples alone, not on how they were cut into pushes, so a file and a live source
    give the same readings. Memory holds one window, and the lag between audio and video. Any thread
    may call: a push waits for the one before, which may take as long as a reading. `LiveSession`
    takes items without a wait.

    Args:
        model: engines to run.
        options: windows to read, and faces in them.
        has_video, has_audio: whether frames, audio, are to be expected.
        keep_detections: remember where every face was, to draw it.
        max_lag_s: how far audio may be behind video, or the reverse, before a window is read
            without it.

    Attributes:
        late_s: seconds of `audio` and of `video` that came after their windows had been read.
        detections: where every face was, if they are kept.
        stopwatch: time that each stage took.

    Raises:
        ValueError: the windows are not positive, or longer than the engines take.
    """

    def __init__(
        self,
        model: Model,
        options: SessionOptions,
        *,
        has_video: bool = True,
        has_audio: bool = True,
        keep_detections: bool = False,
        max_lag_s: float = MAX_LAG_S,
    ) -> None:
        check_options(options, model.manifest)
        self.stopwatch = Stopwatch()
        self.detections: list[FaceDetection] = []
        self.late_s = {"audio": 0.0, "video": 0.0}
        self._model = model
        self._options = options
        self._has_video, self._has_audio = has_video, has_audio
        self._keep_detections = keep_detections
        self._max_lag_s = max_lag_s
        self._faces = FaceStream(
            model.detector,
            model.manifest.crop,
            skip_still=options.skip_still,
            find_within_s=model.find_within_s,
            follow=options.faces == "all",
        )
        self._shown = ShownFrames(model.manifest.frame_rate)
        self._latest_faces: list[TrackedFace] = []
        self._ahead: EmbeddingAhead | None = None
        self._last_visual: tuple[list[CachedFace], ArmOutput] | None = None
        self._speakers: Speakers | None = None
        if options.faces == "all":
            from mfer_edge.speech.speaker import Speakers

            self._speakers = Speakers()
        self._speech = SpeechBuffer(model.vad)
        self._video_s: float | None = None  # time of the latest frame
        self._windows_read = 0
        self._ready: list[Reading] = []
        self._closed = False
        self._lock = RLock()

    def push(self, item: Frame | AudioChunk) -> None:
        """Add the next item of a source.

        Raises:
            ValueError: as `push_frame` and `push_audio`.
        """
        if isinstance(item, Frame):
            self._push_frame(item)
        else:
            self.push_audio(item.samples)

    def push_frame(self, image: np.ndarray, time_s: float) -> None:
        """Add the next frame: (height, width, 3) uint8 BGR, at seconds from the start.

        Frames should come at the bundle's frame rate, in order of time; one that is followed by
        none for longer is shown until the next comes.

        Raises:
            ValueError: the image has another shape or type, or the frame is not later than the one
                before, or over a day later.
        """
        self._push_frame(Frame(time_s, image))

    @_locked
    def _push_frame(self, frame: Frame) -> None:
        time_s, image = frame.time_s, frame.image
        self._check_open()
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"a frame is (height, width, 3) uint8, not {image.shape} {image.dtype}"
            )
        if self._video_s is not None and time_s <= self._video_s:
            raise ValueError(f"the frame at {time_s} s is not later than the one before")
        reached_s = max(self._video_s or 0.0, self.audio_s)
        if not 0 <= time_s <= reached_s + MAX_GAP_S:
            raise ValueError(
                f"the frame's time is {time_s} s; it counts from the start of the session, "
                f"which has reached {reached_s:.1f} s"
            )
        self._video_s = time_s
        if time_s < self._last_end_s():
            self.late_s["video"] += 1 / self._model.manifest.frame_rate
        self._shown.expect(time_s)
        self._read_windows(self._reached_s())  # those that end at or before this frame
        with self.stopwatch("detect"):
            found = self._faces.push(frame)
            if self._speakers:
                self._speakers.push(time_s, image, ((f.track, f.box) for f in found.faces))
        self._latest_faces = found.faces
        if self._ahead and (self._speakers or len(found.faces) == 1):
            self._ahead.add(face.cached for face in found.faces)  # they are read, most likely
        self._shown.push(found)
        if self._keep_detections:
            self.detections += found.detections()

    @_locked
    def push_audio(self, samples: np.ndarray) -> None:
        """Add the next (n,) float32 samples in [-1, 1], 16 kHz, mono; any number of them.

        Raises:
            ValueError: the samples have another shape or type, or are not all finite.
        """
        self._check_open()
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"audio is (n,) float32, not {samples.shape} {samples.dtype}")
        if not np.isfinite(samples).all():
            raise ValueError("the audio holds NaN or infinite samples")
        late = min(round(self._last_end_s() * SAMPLE_RATE) - self._speech.end, len(samples))
        self.late_s["audio"] += max(0, late) / SAMPLE_RATE
        self._speech.push(samples)
        self._read_windows(self._reached_s())

    @_locked
    def prepare(self) -> None:
        """Do ahead what the next reading will most likely need, which changes no reading.

        For a live source, while nothing else waits: the faces of the latest frame are embedded.
        """
        wanted = self._latest_faces[: None if self._speakers else 1]
        with self.stopwatch("visual"):
            embed_missing([face.cached for face in wanted], self._model.visual.embed)

    @_locked
    def readings(self) -> list[Reading]:
        """Return the readings that have become ready since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def run(
        self, source: Source, progress: Callable[[float], None] | None = None
    ) -> Iterator[Reading]:
        """Push all of a source, and close; yield each reading as soon as its window ends.

        A thread decodes a few items ahead, another one embeds faces.

        Args:
            progress: called with the share of the source that is done, 0 to 1, if it has an end.

        Raises:
            MediaError: the source can't be read.
        """
        with embedding_ahead(self._model) as self._ahead:
            with closing(decode_ahead(source, self.stopwatch)) as items:
                for item in items:
                    self.push(item)
                    if progress and source.duration_s:
                        done_s = max(self._video_s or 0.0, self.audio_s)
                        progress(min(1.0, done_s / source.duration_s))
                    yield from self.readings()
            self.close(source.duration_s)
            yield from self.readings()

    @_locked
    def tracks(self) -> tuple[Track, ...]:
        """Every face so far; of those that were lost, the latest 10,000."""
        return self._faces.tracks()

    @_locked
    def close(self, end_s: float | None = None) -> None:
        """End the stream; the rest of it makes a last window.

        A stream that is less than half a hop longer than a window is one window. Of a longer one,
        the last window ends with it, unless less than half a hop would be new.

        Args:
            end_s: how long the stream was; by default up to the last frame and sample.
        """
        if self._closed:
            return
        if end_s is None:
            end_s = max(self._shown.last_end_s(), self.audio_s)
        window_s, hop_s = self._options.window_s, self._options.hop_s
        self._read_windows(end_s)
        rest_s = end_s - self._last_end_s()
        if rest_s > 0 and (self._windows_read == 0 or rest_s >= hop_s / 2):
            start_s = max(0.0, end_s - window_s) if self._windows_read else 0.0
            self._read_window(start_s, end_s, last=True)
        self._closed = True

    @_locked
    def warnings(self) -> tuple[str, ...]:
        """What was left out so far, a line each, for the user."""
        warnings = []
        for kind, late_s in (("sound", self.late_s["audio"]), ("video", self.late_s["video"])):
            if late_s:
                warnings.append(
                    f"{late_s:.1f} s of the {kind} stand too far back in the file and were left out"
                )
        if self._faces.dropped_tracks:
            warnings.append(
                f"the {self._faces.dropped_tracks} faces that were lost first are not listed"
            )
        return tuple(warnings)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the session is closed")

    @property
    def audio_s(self) -> float:
        """Seconds of audio that were pushed."""
        return self._speech.end / SAMPLE_RATE

    def _next_end_s(self) -> float:
        """End of the next window to read."""
        return self._windows_read * self._options.hop_s + self._options.window_s

    def _last_end_s(self) -> float:
        """End of the latest window that was read."""
        return self._next_end_s() - self._options.hop_s if self._windows_read else 0.0

    def _reached_s(self) -> float:
        """Time that both video and audio have reached, or should have by now."""
        reached = []
        if self._has_video:
            reached.append(self._video_s or 0.0)
        if self._has_audio:
            reached.append(self.audio_s)
        return max(min(reached), max(reached) - self._max_lag_s) if reached else 0.0

    def _read_windows(self, reached_s: float) -> None:
        """Read the windows that end by then; the first half a hop later, as it may be the only."""
        while self._next_end_s() + (0 if self._windows_read else self._options.hop_s / 2) <= (
            reached_s
        ):
            end_s = self._next_end_s()
            self._read_window(end_s - self._options.window_s, end_s, last=False)
            self._windows_read += 1

    def _read_window(self, start_s: float, end_s: float, last: bool) -> None:
        frames = self._shown.window(start_s, end_s, last=last)
        by_track = self._faces.by_track(frames)
        main = main_track(by_track)
        window = _Window(start_s, end_s, len(frames))
        speech = self._run_audio_arm(start_s, end_s, last)
        if main is None or self._speakers is None:
            faces = [] if main is None else by_track[main]
            self._ready.append(self._reading(window, main, faces, speech, main=True))
            return
        # A reading for each face; the voice goes to the one that speaks, or has its own.
        speaks: dict[int, bool | None] = dict.fromkeys(by_track)
        if speech.output:
            voice = self._speech.voice(start_s, end_s)
            speaks = self._speakers(by_track, start_s, end_s, voice)
        for track in (main, *sorted(by_track.keys() - {main})):
            own = speech if speaks[track] else _SILENCE
            reading = self._reading(window, track, by_track[track], own, main=track == main)
            self._ready.append(replace(reading, speaker=speaks[track]))
        if speech.output and True not in speaks.values():
            self._ready.append(self._reading(window, None, [], speech, main=False))

    def _run_audio_arm(self, start_s: float, end_s: float, last: bool) -> _Speech:
        end = min(round(end_s * SAMPLE_RATE), self._speech.end)
        start = min(round(start_s * SAMPLE_RATE), end)  # audio that comes too late is dropped
        with self.stopwatch("vad"):
            speech = self._speech.speech(start, end, last)
        speech_s = len(speech) / SAMPLE_RATE
        if not len(speech) or speech_s < self._model.manifest.min_speech_s:
            return _Speech(None, speech_s)
        with self.stopwatch("audio"):
            return _Speech(self._model.audio(speech), speech_s)

    def _run_visual_arm(self, faces: list[TrackedFace]) -> ArmOutput | None:
        if not faces:
            return None
        if self._ahead:
            self.stopwatch.stages_s["visual"] += self._ahead.wait()
        with self.stopwatch("visual"):
            used = [face.cached for face in faces]
            if self._last_visual is None or self._last_visual[0] != used:
                visual, crop = self._model.visual, self._model.manifest.crop
                self._last_visual = used, visual(embed_window(used, visual.embed, crop.mirror))
            return self._last_visual[1]  # again, where one frame fills window after window

    def _reading(
        self,
        window: _Window,
        track: int | None,
        faces: list[TrackedFace],
        speech: _Speech,
        *,
        main: bool,
    ) -> Reading:
        visual = self._run_visual_arm(faces)
        with self.stopwatch("fusion"):
            scores = self._model.fusion(visual, speech.output)
        return Reading(
            start_s=window.start_s,
            end_s=window.end_s,
            track=track,
            main=main,
            scores=self._by_label(scores),
            visual=self._by_label(visual.scores if visual else None),
            audio=self._by_label(speech.output.scores if speech.output else None),
            frames=window.frames,
            faces=len(faces),
            speech_s=speech.speech_s,
            reused=len(faces) - len({face.cached for face in faces}),
        )

    def _by_label(self, scores: np.ndarray | None) -> Scores | None:
        if scores is None:
            return None
        return dict(zip(self._model.manifest.labels, map(float, scores), strict=True))
