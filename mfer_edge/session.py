"""A session takes pictures and sound as they come and gives readings: here, time passes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from mfer_edge.arms import ArmOutput
from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.embedding_cache import CachedFace, EmbeddingCache
from mfer_edge.faces.finder import FaceFinder
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.faces.tracker import FaceTracker
from mfer_edge.model import Model
from mfer_edge.options import SessionOptions, check_options
from mfer_edge.results import FaceDetection, Reading, Scores, Track
from mfer_edge.speech.buffer import SpeechBuffer
from mfer_edge.speech.vad import SAMPLE_RATE
from mfer_edge.stopwatch import Stopwatch

MAX_LAG_S = 5.0  # sound or video that is further behind the other counts as missing there
MAX_FILE_LAG_S = 60.0  # the same in a file, where nobody waits and some are badly interleaved
MAX_GAP_S = 3600.0  # pictures that are further apart have wrong times: say, of the clock


@dataclass
class _Face:
    """One face in one frame."""

    track: int
    box: FaceBox
    look: CachedFace  # shared with the frames in which it is nearly the same


@dataclass(frozen=True)
class _Frame:
    time_s: float
    faces: list[_Face]


@dataclass(frozen=True)
class _Window:
    start_s: float
    end_s: float
    frames: int


@dataclass(frozen=True)
class _Heard:
    output: ArmOutput | None  # None where there was too little speech
    speech_s: float


_SILENCE = _Heard(None, 0.0)


class Session:
    """Pushes pictures and sound in, gives readings out.

    A window's reading is ready once both video and sound have reached its end. It depends on
    the pictures and the sound alone, not on how they were cut into pushes, so a file and a live
    source give the same readings. Memory holds one window, and what the lag allows.

    Args:
        chain: what to run.
        windows: how to cut time.
        has_video, has_audio: whether pictures, sound, are going to come.
        keep_sightings: remember where every face was, to draw it.
        max_lag_s: how far sound may be behind the video, or the video behind the sound, before a
            window is read without it.

    Attributes:
        late_s: how much of the sound, and of the video, came after its windows had been read.

    Raises:
        ValueError: the windows are not positive, or longer than the networks take.
    """

    def __init__(
        self,
        chain: Model,
        windows: SessionOptions,
        has_video: bool = True,
        has_audio: bool = True,
        keep_sightings: bool = False,
        max_lag_s: float = MAX_LAG_S,
    ) -> None:
        check_options(windows, chain.manifest)
        self.stopwatch = Stopwatch()
        self.sightings: list[FaceDetection] = []
        self.late_s = {"sound": 0.0, "video": 0.0}
        self._chain = chain
        self._windows = windows
        self._has_video, self._has_audio = has_video, has_audio
        self._keep_sightings = keep_sightings
        self._max_lag_s = max_lag_s
        self._finder = FaceFinder(chain.detector, chain.find_within_s)
        self._tracker = FaceTracker()
        self._still = EmbeddingCache(windows.skip_still)
        self._frames: deque[_Frame] = deque()
        self._speech = SpeechBuffer(chain.vad)
        self._video_s: float | None = None  # time of the latest picture
        self._done = 0  # windows given
        self._ready: list[Reading] = []
        self._closed = False

    def push_frame(self, image: np.ndarray, time_s: float) -> None:
        """Add the next picture: (height, width, 3) uint8 BGR, at seconds from the start.

        Pictures should come at the bundle's frame rate, in order of time.

        Raises:
            ValueError: the picture has another form, is not later than the one before, or is
                hours away from it.
        """
        self._check_open()
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"a picture is (height, width, 3) uint8, not {image.shape} {image.dtype}"
            )
        if self._video_s is not None and time_s <= self._video_s:
            raise ValueError(f"the picture at {time_s} s is not later than the one before")
        before_s = max(self._video_s or 0.0, self._speech.end / SAMPLE_RATE)
        if not 0 <= time_s <= before_s + MAX_GAP_S:
            raise ValueError(
                f"the picture's time is {time_s} s; it counts from the start of the session, "
                f"which has come to {before_s:.1f} s"
            )
        self._video_s = time_s
        if time_s < self._given_s():
            self.late_s["video"] += 1 / self._chain.manifest.frame_rate
        self._give_windows(self._reached_s())  # those that end at or before this picture
        with self.stopwatch("detect"):
            boxes = self._finder(image, time_s)
            tracks = self._tracker.update(time_s, boxes)
            spec = self._chain.manifest.crop
            looks = self._still(tracks, [crop_face(image, box, spec) for box in boxes])
            faces = [_Face(*parts) for parts in zip(tracks, boxes, looks, strict=True)]
        self._frames.append(_Frame(time_s, faces))
        if self._keep_sightings:
            self.sightings += [
                FaceDetection(time_s, f.track, f.box.left, f.box.top, f.box.right, f.box.bottom)
                for f in faces
            ]

    def push_audio(self, samples: np.ndarray) -> None:
        """Add the next (n,) float32 samples in [-1, 1], 16 kHz, mono; any number of them.

        Raises:
            ValueError: the samples have another form, or are not all finite.
        """
        self._check_open()
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"sound is (n,) float32, not {samples.shape} {samples.dtype}")
        if not np.isfinite(samples).all():
            raise ValueError("the sound holds NaN or infinite samples")
        late = min(round(self._given_s() * SAMPLE_RATE) - self._speech.end, len(samples))
        self.late_s["sound"] += max(0, late) / SAMPLE_RATE
        self._speech.push(samples)
        self._give_windows(self._reached_s())

    def readings(self) -> list[Reading]:
        """Give the readings that have become ready since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def tracks(self) -> tuple[Track, ...]:
        """Every face so far; of those that are gone, the latest 10,000."""
        return self._tracker.tracks()

    @property
    def forgotten(self) -> int:
        """How many faces are no longer among the tracks."""
        return self._tracker.forgotten

    def close(self, end_s: float | None = None) -> None:
        """End the stream; what is left of it makes a last window.

        A stream that is less than half a hop longer than a window is one window. Of a longer one,
        the last window ends with it, unless less than half a hop would be new.

        Args:
            end_s: how long the stream was; by default as far as pictures and sound went.
        """
        if self._closed:
            return
        if end_s is None:
            frame_s = 1 / self._chain.manifest.frame_rate
            video_s = 0.0 if self._video_s is None else self._video_s + frame_s
            end_s = max(video_s, self._speech.end / SAMPLE_RATE)
        window_s, hop_s = self._windows.window_s, self._windows.hop_s
        self._give_windows(end_s)
        left_s = end_s - self._given_s()
        if left_s > 0 and (self._done == 0 or left_s >= hop_s / 2):
            self._give(max(0.0, end_s - window_s) if self._done else 0.0, end_s, last=True)
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the session is closed")

    def _window_end(self) -> float:
        return self._done * self._windows.hop_s + self._windows.window_s

    def _given_s(self) -> float:
        """Where the latest window that was given ends."""
        return self._window_end() - self._windows.hop_s if self._done else 0.0

    def _reached_s(self) -> float:
        """How far both pictures and sound have come."""
        came = []
        if self._has_video:
            came.append(self._video_s or 0.0)
        if self._has_audio:
            came.append(self._speech.end / SAMPLE_RATE)
        return max(min(came), max(came) - self._max_lag_s) if came else 0.0

    def _give_windows(self, reached_s: float) -> None:
        """Give the windows that end by then; the first a little late, as it may be the only one."""
        while self._window_end() + (0 if self._done else self._windows.hop_s / 2) <= reached_s:
            end_s = self._window_end()
            self._give(end_s - self._windows.window_s, end_s, last=False)
            self._done += 1

    def _give(self, start_s: float, end_s: float, last: bool) -> None:
        while self._frames and self._frames[0].time_s < start_s:
            self._frames.popleft()
        frames = [f for f in self._frames if f.time_s < end_s or last]
        seen = _faces_by_track(frames)
        main = max(seen, key=lambda track: sum(f.box.area for f in seen[track]), default=None)
        window = _Window(start_s, end_s, len(frames))
        heard = self._hear(start_s, end_s, last)
        faces = [] if main is None else seen.pop(main)
        self._ready.append(self._read(window, main, faces, heard, main=True))
        if self._windows.faces == "all":
            for track in sorted(seen):
                # Which face speaks is not known: the voice goes with the main one.
                self._ready.append(self._read(window, track, seen[track], _SILENCE, main=False))

    def _hear(self, start_s: float, end_s: float, last: bool) -> _Heard:
        end = min(round(end_s * SAMPLE_RATE), self._speech.end)
        start = min(round(start_s * SAMPLE_RATE), end)  # sound that comes too late is dropped
        with self.stopwatch("vad"):
            speech = self._speech.speech(start, end, last)
        speech_s = len(speech) / SAMPLE_RATE
        if not len(speech) or speech_s < self._chain.manifest.min_speech_s:
            return _Heard(None, speech_s)
        with self.stopwatch("audio"):
            return _Heard(self._chain.audio(speech), speech_s)

    def _see(self, faces: list[_Face]) -> ArmOutput | None:
        if not faces:
            return None
        with self.stopwatch("visual"):
            fresh = list(dict.fromkeys(f.look for f in faces if f.look.embedding is None))
            if fresh:
                embeddings = self._chain.visual.embed(np.stack([look.crop for look in fresh]))
                for look, embedding in zip(fresh, embeddings, strict=True):
                    look.embedding = embedding
            embedded = [f.look.embedding for f in faces if f.look.embedding is not None]
            return self._chain.visual(np.stack(embedded))

    def _read(
        self, window: _Window, track: int | None, faces: list[_Face], heard: _Heard, main: bool
    ) -> Reading:
        visual = self._see(faces)
        with self.stopwatch("fusion"):
            scores = self._chain.fusion(visual, heard.output)
        return Reading(
            start_s=window.start_s,
            end_s=window.end_s,
            track=track,
            main=main,
            scores=self._named(scores),
            visual=self._named(visual.scores if visual else None),
            audio=self._named(heard.output.scores if heard.output else None),
            frames=window.frames,
            faces=len(faces),
            speech_s=heard.speech_s,
            reused=len(faces) - len({face.look for face in faces}),
        )

    def _named(self, scores: np.ndarray | None) -> Scores | None:
        if scores is None:
            return None
        return dict(zip(self._chain.manifest.labels, map(float, scores), strict=True))


def _faces_by_track(frames: list[_Frame]) -> dict[int, list[_Face]]:
    seen: dict[int, list[_Face]] = {}
    for frame in frames:
        for face in frame.faces:
            seen.setdefault(face.track, []).append(face)
    return seen
