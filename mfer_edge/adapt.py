"""Adaptation to a place or a person, without labels.

A room, a microphone, a language or a voice changes what the speech backbone gives. The audio arm
standardises it by the mean and deviation of its training set; adaptation replaces these by those of
recordings from the place, as far as enough was heard. The emotions in them need not be known, but
should be mixed: statistics of one emotion alone take that emotion for the place.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mfer_edge.arms import Place
from mfer_edge.errors import AdaptationError
from mfer_edge.outputs.files import replacing

SCHEMA = 1
N0 = 10.0
"""Windows at which the place counts as much as the training set. Leave-one-corpus-out probe over
nine corpora: with 10 recordings and more a weight of n / (n + 10) is as good as 1, with 5 it is
better."""
FEW_WINDOWS = 5  # with fewer an adaptation gains little
ONE_MOOD = 0.7  # share of the windows with one label from which on they may not be mixed enough
NO_AUTO = (
    "auto: not offered, as a recording's own statistics take its mood for the place; make a file "
    "from several recordings with `mfer-edge adapt`"
)
"""Measured: of voices that were never trained on, mixed recordings of 12 windows gained 7 points of
recall, those of one emotion lost 7, and ordinary talk called neutral fell from 86 to 59 %."""
MAX_BYTES = 1 << 20  # of a file, and of what is in it


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Mean and deviation of the audio arm's observations in a place, as far as they were heard.

    Example:
        >>> pipeline.collect("monday.wav").adaptation().save("office.npz")
        >>> pipeline.adapted(Adaptation.load("office.npz")).analyze("tuesday.mp4")
    """

    model: str  # identity of the model: `Manifest.model`
    windows: int  # windows with speech that were heard
    mean: np.ndarray  # (width,) float32, of observations standardised by the training set
    deviation: np.ndarray  # (width,) float32
    name: str = ""  # of the file that it was read from, for results

    @property
    def weight(self) -> float:
        """Share of the place in the statistics; the rest is the training set's."""
        return self.windows / (self.windows + N0)

    @property
    def place(self) -> Place:
        """The statistics of the place, blended with those of the training set: zeros and ones."""
        shift = self.weight * self.mean
        variance = self.weight * self.deviation.astype(np.float64) ** 2 + (1 - self.weight)
        return Place(shift.astype(np.float32), np.sqrt(variance).astype(np.float32))

    def save(self, path: Path | str) -> None:
        """Write the adaptation to a file of a few kB, atomically.

        Raises:
            OutputError: the file can't be written.
            AdaptationError: a number does not fit into fp16.
        """
        with np.errstate(over="ignore"):
            mean, deviation = self.mean.astype(np.float16), self.deviation.astype(np.float16)
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise AdaptationError(f"{path}: not written; the statistics are out of range")
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                schema=np.int64(SCHEMA),
                model=np.array(self.model),
                windows=np.int64(self.windows),
                mean=mean,
                deviation=deviation,
            )

    @classmethod
    def load(cls, path: Path | str) -> Adaptation:
        """Read an adaptation; `Pipeline.adapted` checks that it is the model's.

        Raises:
            AdaptationError: the file is missing, damaged, or something else.
        """
        path = Path(path)
        fields = _read(path)
        try:
            if (schema := int(fields["schema"])) != SCHEMA:
                raise AdaptationError(
                    f"{path}: schema {schema}, but this version of mfer-edge reads schema {SCHEMA}"
                )
            made = cls(
                model=str(fields["model"]),
                windows=int(fields["windows"]),
                mean=fields["mean"].astype(np.float32),
                deviation=fields["deviation"].astype(np.float32),
                name=os.fsencode(path.name).decode(errors="replace"),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise AdaptationError(
                f"{path}: not an adaptation; `mfer-edge adapt` makes one ({error})"
            ) from error
        if made.mean.ndim != 1 or made.mean.shape != made.deviation.shape or made.windows < 0:
            raise AdaptationError(f"{path}: damaged: its statistics do not fit together")
        if (
            not (np.isfinite(made.mean).all() and np.isfinite(made.deviation).all())
            or (made.deviation < 0).any()
        ):
            raise AdaptationError(f"{path}: damaged: its statistics are not finite or below 0")
        return made


def _read(path: Path) -> Mapping[str, np.ndarray]:
    """Arrays of a NumPy archive, without running code in it."""
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
class AdaptationStatistics:
    """Statistics of observations, which can be added up in any order.

    Example:
        >>> total = AdaptationStatistics()
        >>> for clip in clips:
        ...     total += pipeline.collect(clip)
    """

    model: str = ""  # identity of the model that made the observations
    windows: int = 0
    count: int = 0  # observations; several in a window if the arm is a GRU
    mean: Any = 0.0  # (width,) float64
    squares: Any = 0.0  # (width,) float64: sum of squared differences from the mean
    labels: Mapping[str, int] = field(default_factory=dict)  # windows by what they were heard as

    @classmethod
    def of(cls, observations: np.ndarray, model: str = "") -> AdaptationStatistics:
        """Statistics of one window's (n, width) observations; empty if they are not finite."""
        if not len(observations) or not np.isfinite(observations).all():
            return cls(model)
        exact = observations.astype(np.float64)
        mean = exact.mean(0)
        return cls(model, 1, len(exact), mean, ((exact - mean) ** 2).sum(0))

    def __add__(self, other: AdaptationStatistics) -> AdaptationStatistics:
        """Statistics of both together.

        Raises:
            ValueError: they are of different models.
        """
        if self.model and other.model and self.model != other.model:
            raise ValueError("the statistics are of different models")
        # Chan et al. 1979, whose result does not lose digits where the mean is large.
        if not self.count or not other.count:
            return other if other.count else self
        count = self.count + other.count
        between = other.mean - self.mean
        return AdaptationStatistics(
            model=self.model or other.model,
            windows=self.windows + other.windows,
            count=count,
            mean=self.mean + between * (other.count / count),
            squares=self.squares + other.squares + between**2 * (self.count * other.count / count),
            labels=Counter(self.labels) + Counter(other.labels),
        )

    @property
    def deviation(self) -> np.ndarray:
        """(width,) deviation; that of the training set, ones, if there is one observation only."""
        if self.count < 2:
            return np.ones_like(self.mean)
        return np.sqrt(self.squares / self.count)

    def adaptation(self) -> Adaptation:
        """The adaptation to what was heard.

        Raises:
            AdaptationError: nothing was heard.
        """
        if not self.count:
            raise AdaptationError("no speech was heard: there is nothing to adapt to")
        mean, deviation = self.mean.astype(np.float32), self.deviation.astype(np.float32)
        return Adaptation(self.model, self.windows, mean, deviation)
