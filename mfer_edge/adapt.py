"""Adaptation to a place or a person, without labels.

A room, a microphone, a language or a voice changes what the speech backbone gives, and whose face
it is what the face network gives. An arm knows the mean and deviation of these over its training
set; adaptation replaces them by those of recordings from the place, or of the person, as far as
enough was heard and seen. The emotions in them need not be known, but should be mixed: of a voice,
statistics of one emotion alone take that emotion for the place.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from mfer_edge.arms import Place
from mfer_edge.errors import AdaptationError

SCHEMA = 2
N0 = 10.0
"""Windows with speech at which the place counts as much as the training set. Leave-one-corpus-out
probe over nine corpora: with 10 recordings and more a weight of n / (n + 10) is as good as 1, with
5 it is better."""
FACE_N0 = 5.0
"""The same of windows with a face, of five people on video that no training data has: see
benchmarks/results/face_adaptation.md. Their deviation is not used: it gained 0.01 on average, and
of ordinary talk more windows were no longer neutral."""
FEW_WINDOWS = 5  # with fewer an adaptation gains little
ONE_MOOD = 0.7  # share of the windows with one label from which on they may not be mixed enough
NO_AUTO = (
    "auto: not offered, as a recording's own statistics take its mood for the place; make a file "
    "from several recordings with `mfer-edge adapt`"
)
"""Measured: of voices that were never trained on, mixed recordings of 12 windows gained 7 points of
recall, those of one emotion lost 7, and ordinary talk called neutral fell from 86 to 59 %. Faces
lost next to nothing."""
MAX_BYTES = 1 << 20  # of a file, and of what is in it


@dataclass(frozen=True, eq=False)
class Learned:
    """Mean and deviation of an arm's observations, as far as they were heard or seen."""

    windows: int  # with speech, or a face, that they come from
    mean: np.ndarray  # (width,) float32, of observations standardised by the training set
    deviation: np.ndarray  # (width,) float32

    n0: ClassVar[float]

    @property
    def weight(self) -> float:
        """Share of the place in the statistics; the rest is the training set's."""
        return self.windows / (self.windows + self.n0)

    @property
    def place(self) -> Place:
        """The statistics of the place, blended with those of the training set: zeros and ones."""
        raise NotImplementedError


class Voice(Learned):
    """Statistics of the audio arm."""

    n0 = N0

    @property
    def place(self) -> Place:
        """Mean and deviation, blended."""
        shift = self.weight * self.mean
        variance = self.weight * self.deviation.astype(np.float64) ** 2 + (1 - self.weight)
        return Place(shift.astype(np.float32), np.sqrt(variance).astype(np.float32))


class Face(Learned):
    """Statistics of the visual arm."""

    n0 = FACE_N0

    @property
    def place(self) -> Place:
        """The mean, blended; the deviation is the training set's."""
        shift = (self.weight * self.mean).astype(np.float32)
        return Place(shift, np.ones_like(shift))


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Statistics of voices and faces in a place or of a person: of both, or of one.

    Example:
        >>> pipeline.collect("monday.mp4").adaptation().save("office.npz")
        >>> pipeline.adapted(Adaptation.load("office.npz")).analyze("tuesday.mp4")
    """

    model: str  # identity of the model: `Manifest.model`
    voice: Voice | None = None
    face: Face | None = None
    name: str = ""  # of the file that it was read from, for results

    def save(self, path: Path | str) -> None:
        """Write the adaptation to a file of a few kB, atomically.

        Raises:
            OutputError: the file can't be written.
            AdaptationError: a number does not fit into fp16.
        """
        from mfer_edge.outputs.files import replacing

        arrays: dict[str, Any] = {"schema": np.int64(SCHEMA), "model": np.array(self.model)}
        for part, learned in (("voice", self.voice), ("face", self.face)):
            if learned is None:
                continue
            with np.errstate(over="ignore"):
                mean, deviation = (
                    values.astype(np.float16) for values in (learned.mean, learned.deviation)
                )
            if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
                raise AdaptationError(f"{path}: not written; the statistics are out of range")
            arrays |= {
                f"{part}_windows": np.int64(learned.windows),
                f"{part}_mean": mean,
                f"{part}_deviation": deviation,
            }
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path | str) -> Adaptation:
        """Read an adaptation; `Pipeline.adapted` checks that it is the model's.

        Schema 1 held a voice alone.

        Raises:
            AdaptationError: the file is missing, damaged, or something else.
        """
        path = Path(path)
        fields = _read(path)
        try:
            if (schema := int(fields["schema"])) not in (1, SCHEMA):
                raise AdaptationError(
                    f"{path}: schema {schema}, but this version of mfer-edge reads up to {SCHEMA}"
                )
            if schema == 1:
                voice, face = _learned(Voice, "", fields, path), None
            else:
                voice = _learned(Voice, "voice_", fields, path)
                face = _learned(Face, "face_", fields, path)
            made = cls(
                model=str(fields["model"]),
                voice=voice,
                face=face,
                name=os.fsencode(path.name).decode(errors="replace"),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise AdaptationError(
                f"{path}: not an adaptation; `mfer-edge adapt` makes one ({error})"
            ) from error
        if made.voice is None and made.face is None:
            raise AdaptationError(f"{path}: damaged: it holds no statistics")
        return made


LearnedT = TypeVar("LearnedT", bound=Learned)


def _learned(
    kind: type[LearnedT], prefix: str, fields: Mapping[str, np.ndarray], path: Path
) -> LearnedT | None:
    """Statistics in a file's fields; None if it has none under this prefix.

    Raises:
        AdaptationError: they are damaged.
        KeyError, ValueError, TypeError: they are something else.
    """
    if prefix and not any(name.startswith(prefix) for name in fields):
        return None
    made = kind(
        windows=int(fields[f"{prefix}windows"]),
        mean=fields[f"{prefix}mean"].astype(np.float32),
        deviation=fields[f"{prefix}deviation"].astype(np.float32),
    )
    if made.mean.ndim != 1 or made.mean.shape != made.deviation.shape or made.windows < 0:
        raise AdaptationError(f"{path}: damaged: its statistics do not fit together")
    finite = np.isfinite(made.mean).all() and np.isfinite(made.deviation).all()
    if not finite or (made.deviation < 0).any():
        raise AdaptationError(f"{path}: damaged: its statistics are not finite or below 0")
    return made


def _read(path: Path) -> Mapping[str, np.ndarray]:
    """Arrays of a NumPy archive, without running code in it."""
    import zipfile
    import zlib

    try:
        if path.stat().st_size > MAX_BYTES:
            raise AdaptationError(f"{path}: too large for an adaptation")
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise AdaptationError(f"{path}: too large for an adaptation")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, NotImplementedError,
            RuntimeError) as error:  # fmt: skip  # of any of these types, depending on the bytes
        raise AdaptationError(
            f"{path}: damaged, or not an adaptation; `mfer-edge adapt` makes one"
        ) from error
    except OSError as error:
        raise AdaptationError(f"{path}: {error.strerror or error}") from error


@dataclass(frozen=True, eq=False)
class ArmStatistics:
    """Statistics of one arm's observations, which can be added up in any order."""

    windows: int = 0
    count: int = 0  # observations; several in a window if the arm is a GRU
    mean: Any = 0.0  # (width,) float64
    squares: Any = 0.0  # (width,) float64: sum of squared differences from the mean

    @classmethod
    def of(cls, observations: np.ndarray) -> ArmStatistics:
        """Statistics of one window's (n, width) observations; empty if they are not finite."""
        if not len(observations) or not np.isfinite(observations).all():
            return cls()
        exact = observations.astype(np.float64)
        mean = exact.mean(0)
        return cls(1, len(exact), mean, ((exact - mean) ** 2).sum(0))

    def __add__(self, other: ArmStatistics) -> ArmStatistics:
        """Statistics of both together."""
        # Chan et al. 1979, whose result does not lose digits where the mean is large.
        if not self.count or not other.count:
            return other if other.count else self
        count = self.count + other.count
        between = other.mean - self.mean
        return ArmStatistics(
            windows=self.windows + other.windows,
            count=count,
            mean=self.mean + between * (other.count / count),
            squares=self.squares + other.squares + between**2 * (self.count * other.count / count),
        )

    @property
    def deviation(self) -> np.ndarray:
        """(width,) deviation; that of the training set, ones, if there is one observation only."""
        if self.count < 2:
            return np.ones_like(self.mean)
        return np.sqrt(self.squares / self.count)

    def learned(self, kind: type[LearnedT]) -> LearnedT | None:
        """These statistics as an adaptation's; None if there are none."""
        if not self.count:
            return None
        return kind(self.windows, self.mean.astype(np.float32), self.deviation.astype(np.float32))


class ArmTotal:
    """Adds up the observations that an arm's observer gets."""

    def __init__(self) -> None:
        self.statistics = ArmStatistics()

    def add(self, observations: np.ndarray) -> None:
        """Add one window's (n, width) observations."""
        self.statistics += ArmStatistics.of(observations)


@dataclass(frozen=True, eq=False)
class AdaptationStatistics:
    """Statistics of voices and faces, which can be added up in any order.

    Example:
        >>> total = AdaptationStatistics()
        >>> for clip in clips:
        ...     total += pipeline.collect(clip)
    """

    model: str = ""  # identity of the model that made the observations
    voice: ArmStatistics = ArmStatistics()
    face: ArmStatistics = ArmStatistics()
    labels: Mapping[str, int] = field(default_factory=dict)  # windows by what they were taken for

    def __add__(self, other: AdaptationStatistics) -> AdaptationStatistics:
        """Statistics of both together.

        Raises:
            ValueError: they are of different models.
        """
        if self.model and other.model and self.model != other.model:
            raise ValueError("the statistics are of different models")
        return AdaptationStatistics(
            model=self.model or other.model,
            voice=self.voice + other.voice,
            face=self.face + other.face,
            labels=Counter(self.labels) + Counter(other.labels),
        )

    def adaptation(self) -> Adaptation:
        """The adaptation to what was heard and seen.

        Raises:
            AdaptationError: nothing was.
        """
        made = Adaptation(self.model, self.voice.learned(Voice), self.face.learned(Face))
        if made.voice is None and made.face is None:
            raise AdaptationError("no speech and no face was found: there is nothing to adapt to")
        return made
