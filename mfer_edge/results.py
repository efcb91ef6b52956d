"""Results of an analysis: readings of windows, tracks of faces, and what made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Scores = dict[str, float]
"""A probability for every label of the bundle, summing to 1."""

MODALITY_NAMES = {"visual": "face", "audio": "voice"}
"""Names of the modalities in texts for people."""


@dataclass(frozen=True)
class Reading:
    """Emotion scores of one window, from one face and the voice."""

    start_s: float  # from the start of the clip
    end_s: float
    track: int | None  # id of the face's track; None without a face
    main: bool  # whether this is the window's main face; every window has one such reading
    scores: Scores | None  # fused; None without a face and without speech
    visual: Scores | None  # of the face alone
    audio: Scores | None  # of the voice alone
    frames: int  # in the window
    faces: int  # frames in which this face was detected
    speech_s: float
    reused: int = 0  # of `faces`, those that took the embedding of another frame
    speaker: bool | None = None
    """Whether the voice is this face's: its mouth moves with it. None: not decided, or not asked,
    as `faces` is `main`, whose reading is the recording's."""

    @property
    def label(self) -> str | None:
        """Label with the highest score; None without scores."""
        return None if self.scores is None else top_label(self.scores)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of `visual` and `audio` that the scores come from."""
        present = {"visual": self.visual, "audio": self.audio}
        return tuple(name for name, scores in present.items() if scores is not None)


@dataclass(frozen=True)
class Overall:
    """Mean of a clip's scores, over the readings of the main faces, and of voices without one."""

    scores: Scores
    modalities: tuple[str, ...]

    @property
    def label(self) -> str:
        """Label with the highest score."""
        return top_label(self.scores)


@dataclass(frozen=True)
class Track:
    """One face over time."""

    track: int  # id
    start_s: float
    end_s: float
    faces: int  # frames in which the face was detected


@dataclass(frozen=True)
class FaceDetection:
    """Position of one face in one frame."""

    time_s: float
    track: int
    left: float  # pixels of the frame as displayed
    top: float
    right: float
    bottom: float
    size: tuple[int, int] | None = None  # height and width of that frame; None: as all others


@dataclass(frozen=True)
class BundleInfo:
    """Identity of the bundle that an analysis was made with."""

    name: str
    precision: str
    trained: bool
    sha256: str  # of the manifest, which lists the hashes of all files
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdaptationInfo:
    """The adaptation that an analysis was made with."""

    name: str  # of its file; empty if it comes from none
    windows: int  # with speech, that it comes from; 0: the voice is not adapted
    weight: float  # of the voice's statistics, 0 to 1; the rest is the training set's
    face_windows: int = 0  # with a face, that it comes from; 0: the face is not adapted
    face_weight: float = 0.0  # of the face's statistics


@dataclass(frozen=True)
class Timing:
    """Durations of an analysis and its stages."""

    wall_s: float  # from opening the clip to the last reading
    load_s: float  # opening the bundle, not part of `wall_s`
    threads: int
    stages_s: dict[str, float] = field(default_factory=dict)

    def rtf(self, duration_s: float) -> float:
        """Real-time factor: seconds of computing for each second of the clip."""
        return self.wall_s / duration_s if duration_s else 0.0


@dataclass(frozen=True)
class Analysis:
    """Result of `Pipeline.analyze` for one clip."""

    source: str
    duration_s: float
    bundle: BundleInfo
    device: str
    providers: tuple[str, ...]
    overall: Overall | None  # None if no window had a face or speech
    windows: tuple[Reading, ...]
    tracks: tuple[Track, ...]
    timing: Timing
    warnings: tuple[str, ...]
    adaptation: AdaptationInfo | None = None
    detections: tuple[FaceDetection, ...] = ()  # kept on request, for the overlay; not in the JSON

    @property
    def labels(self) -> list[str]:
        """Labels of the bundle."""
        if self.bundle.labels:
            return list(self.bundle.labels)
        for reading in self.windows:
            if reading.scores is not None:
                return list(reading.scores)
        return []

    # The formats are in `outputs`, which imports this module.

    def to_dict(self) -> dict[str, Any]:
        """Content of the JSON output, schema 1."""
        from mfer_edge.outputs.json import analysis_dict

        return analysis_dict(self)

    def to_csv(self) -> str:
        """CSV table with one row per reading."""
        from mfer_edge.outputs.csv import csv_text

        return csv_text([self])

    def to_vtt(self) -> str:
        """WebVTT captions with the label of each window."""
        from mfer_edge.outputs.webvtt import vtt_text

        return vtt_text(self)

    def to_frame(self, library: str | None = None) -> Any:
        """A pandas or polars `DataFrame` with a row for each reading.

        Args:
            library: "pandas" or "polars"; by default the first that is installed.

        Raises:
            OutputError: it is not installed.
        """
        from mfer_edge.outputs.frame import window_frame

        return window_frame(self, library)


def overall(readings: Sequence[Reading]) -> Overall | None:
    """Average the scores of the main readings, and of voices that are no face's; None if there
    are no scores."""
    scored = [r for r in readings if r.scores is not None and (r.main or r.track is None)]
    scores = mean_scores([reading.scores for reading in scored])
    if scores is None:
        return None
    used = {name for reading in scored for name in reading.modalities}
    return Overall(scores, tuple(name for name in ("visual", "audio") if name in used))


def voices(readings: Sequence[Reading]) -> list[Reading]:
    """Of each window the reading that holds its voice, or one without a voice.

    With `faces` `all` that is not always the main face's: the voice may be another's, or nobody's.
    """
    by_window: dict[tuple[float, float], Reading] = {}
    for reading in readings:
        held = by_window.setdefault((reading.start_s, reading.end_s), reading)
        if reading.speech_s > held.speech_s:
            by_window[reading.start_s, reading.end_s] = reading
    return list(by_window.values())


def mean_scores(several: Sequence[Scores | None]) -> Scores | None:
    """Average scores label by label, leaving out None; None if nothing is left."""
    present = [scores for scores in several if scores is not None]
    if not present:
        return None
    return {label: sum(scores[label] for scores in present) / len(present) for label in present[0]}


def top_label(scores: Scores) -> str:
    """Label with the highest score."""
    return max(scores, key=lambda label: scores[label])
