"""What an analysis gives, and its JSON, CSV and WebVTT forms."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1

Scores = dict[str, float]
"""A probability for every label of the bundle, summing to 1."""


@dataclass(frozen=True)
class Reading:
    """What face and voice show over one window."""

    start_s: float  # from the clip's start
    end_s: float
    track: int | None  # of the face; None where there was none
    main: bool  # whether that is the window's main face; there is one such reading per window
    scores: Scores | None  # of everything there was; None where there was neither face nor speech
    visual: Scores | None  # of the face alone
    audio: Scores | None  # of the voice alone
    frames: int  # looked at
    faces: int  # frames in which this face was found
    speech_s: float
    reused: int = 0  # of the faces, those that another one's embedding stands for

    @property
    def label(self) -> str | None:
        """The likeliest emotion."""
        return None if self.scores is None else likeliest(self.scores)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of `visual` and `audio` the scores rest on."""
        present = {"visual": self.visual, "audio": self.audio}
        return tuple(name for name, scores in present.items() if scores is not None)


@dataclass(frozen=True)
class Overall:
    """What a whole clip shows: the mean over the windows of its main faces."""

    scores: Scores
    modalities: tuple[str, ...]

    @property
    def label(self) -> str:
        """The likeliest emotion."""
        return likeliest(self.scores)


@dataclass(frozen=True)
class Track:
    """One face over time."""

    track: int
    start_s: float
    end_s: float
    faces: int  # frames in which it was found


@dataclass(frozen=True)
class FaceDetection:
    """Where one face was in one frame."""

    time_s: float
    track: int
    left: float  # pixels of the picture as shown
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class BundleInfo:
    """Which bundle made an analysis."""

    name: str
    precision: str
    trained: bool
    sha256: str  # of its manifest, which holds those of its files
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Where the time of an analysis went."""

    wall_s: float  # from opening the clip to the last reading
    load_s: float  # opening the bundle, before that
    threads: int
    stages_s: dict[str, float] = field(default_factory=dict)

    def rtf(self, duration_s: float) -> float:
        """Give the real-time factor: seconds of work for a second of clip."""
        return self.wall_s / duration_s if duration_s else 0.0


@dataclass(frozen=True)
class Analysis:
    """What `Pipeline.analyze` gives for one clip."""

    source: str
    duration_s: float
    bundle: BundleInfo
    device: str
    providers: tuple[str, ...]
    overall: Overall | None  # None where no window had a face or speech
    windows: tuple[Reading, ...]
    tracks: tuple[Track, ...]
    timing: Timing
    warnings: tuple[str, ...]
    sightings: tuple[FaceDetection, ...] = ()  # kept where asked for, to draw them; not in the JSON

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form, schema 1."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "duration_s": _ms(self.duration_s),
            "bundle": {
                "name": self.bundle.name,
                "precision": self.bundle.precision,
                "trained": self.bundle.trained,
                "sha256": self.bundle.sha256,
            },
            "device": self.device,
            "providers": list(self.providers),
            "overall": None
            if self.overall is None
            else {
                "label": self.overall.label,
                "scores": _rounded(self.overall.scores),
                "modalities": list(self.overall.modalities),
            },
            "windows": [_reading_dict(reading) for reading in self.windows],
            "tracks": [
                {
                    "track": track.track,
                    "start_s": _ms(track.start_s),
                    "end_s": _ms(track.end_s),
                    "faces": track.faces,
                }
                for track in self.tracks
            ],
            "timing": {
                "wall_s": _ms(self.timing.wall_s),
                "rtf": _ms(self.timing.rtf(self.duration_s)),
                "load_s": _ms(self.timing.load_s),
                "threads": self.timing.threads,
                "stages_s": {name: _ms(value) for name, value in self.timing.stages_s.items()},
            },
            "warnings": list(self.warnings),
        }

    def to_csv(self) -> str:
        """Give a line per window: its times, face, label, and every score."""
        labels = self.labels
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["source", "start_s", "end_s", "track", "main", "label", "modalities",
             "frames", "faces", "speech_s", *labels]
        )  # fmt: skip
        for reading in self.windows:
            scores = _rounded(reading.scores) or {}
            writer.writerow(
                [self.source, _ms(reading.start_s), _ms(reading.end_s), reading.track,
                 reading.main, reading.label, "+".join(reading.modalities),
                 reading.frames, reading.faces, _ms(reading.speech_s),
                 *(scores.get(label) for label in labels)]
            )  # fmt: skip
        return text.getvalue()

    def to_vtt(self) -> str:
        """Give WebVTT captions: each window's label, shown from its middle to the next one's."""
        from mfer_edge.outputs.webvtt import captions, vtt_time

        lines = ["WEBVTT", ""]
        for cue in captions(self.windows, self.duration_s):
            lines += [f"{vtt_time(cue.start_s)} --> {vtt_time(cue.end_s)}", cue.text, ""]
        return "\n".join(lines)

    @property
    def labels(self) -> list[str]:
        """Every label of the bundle."""
        if self.bundle.labels:
            return list(self.bundle.labels)
        for reading in self.windows:
            if reading.scores is not None:
                return list(reading.scores)
        return []


def overall(readings: Sequence[Reading]) -> Overall | None:
    """Sum up a clip: the mean score of its main readings; None where no window has any."""
    scored = [reading for reading in readings if reading.main and reading.scores is not None]
    scores = mean_scores([reading.scores for reading in scored])
    if scores is None:
        return None
    used = {name for reading in scored for name in reading.modalities}
    return Overall(scores, tuple(name for name in ("visual", "audio") if name in used))


def mean_scores(several: Sequence[Scores | None]) -> Scores | None:
    """Average the scores that are there, label by label; None where none are."""
    there = [scores for scores in several if scores is not None]
    if not there:
        return None
    return {label: sum(scores[label] for scores in there) / len(there) for label in there[0]}


def likeliest(scores: Scores) -> str:
    return max(scores, key=lambda label: scores[label])


def _reading_dict(reading: Reading) -> dict[str, Any]:
    return {
        "start_s": _ms(reading.start_s),
        "end_s": _ms(reading.end_s),
        "track": reading.track,
        "main": reading.main,
        "label": reading.label,
        "scores": _rounded(reading.scores),
        "modalities": list(reading.modalities),
        "visual": _rounded(reading.visual),
        "audio": _rounded(reading.audio),
        "frames": reading.frames,
        "faces": reading.faces,
        "reused": reading.reused,
        "speech_s": _ms(reading.speech_s),
    }


def _rounded(scores: Scores | None) -> Scores | None:
    return None if scores is None else {label: round(value, 6) for label, value in scores.items()}


def _ms(seconds: float) -> float:
    return round(seconds, 3)
