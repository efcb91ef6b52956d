"""Predictions of recordings that the arms were not trained on, and descriptions of runs."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mfer_edge.outputs.files import make_folder, replacing, write_text
from train.data.index import DatasetError, Entry

PROTOCOLS = {
    "paper": "speaker-dependent: the same actors are in training and test",
    "subject": "speaker-independent: no actor is in both training and test",
    "loso": "speaker-independent: each actor in turn is left out of training",
    "corpus": "speaker-independent: each dataset in turn is left out of training, as a whole",
}
"""How recordings are divided between training and test."""

ARMS = ("visual", "audio", "combined", "svm")  # svm: the baseline beside the audio arm
RUN = "run.json"
POOLED = "pooled"  # the fold of predictions that come from several
TEXTS = {"protocol": 0, "fold": 0, "arm": 0, "labels": 1, "paths": 1, "datasets": 1, "actors": 1}

# What numpy raises for a file that is no archive, a damaged one, and one without our arrays.
UNREADABLE = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Predictions:
    """One arm's predictions of n recordings that it was not trained on.

    Raises:
        ValueError: the parts do not fit together.
    """

    protocol: str  # of PROTOCOLS
    fold: str
    arm: str  # of ARMS
    labels: tuple[str, ...]  # the classes, in the order of the logits
    paths: tuple[str, ...]
    datasets: tuple[str, ...]
    actors: tuple[str, ...]  # empty if unknown
    truth: np.ndarray  # (n,) int64, index into labels
    logits: np.ndarray  # (n, classes) float32

    def __post_init__(self) -> None:
        n = len(self.paths)
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r} is none of {', '.join(PROTOCOLS)}")
        if self.arm not in ARMS:
            raise ValueError(f"arm {self.arm!r} is none of {', '.join(ARMS)}")
        if not self.fold or "/" in self.fold:
            raise ValueError(f"fold {self.fold!r} can't name a folder")
        if not n:
            raise ValueError("no recordings")
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must be two or more, and no two the same")
        if len(self.datasets) != n or len(self.actors) != n:
            raise ValueError(f"not one dataset and one actor for each of {n} recordings")
        if self.truth.shape != (n,) or self.truth.dtype != np.int64:
            raise ValueError(f"truth must be ({n},) int64")
        if self.truth.min() < 0 or self.truth.max() >= len(self.labels):
            raise ValueError("truth names a class that has no label")
        if self.logits.shape != (n, len(self.labels)) or self.logits.dtype != np.float32:
            raise ValueError(f"logits must be ({n}, {len(self.labels)}) float32")
        if not np.isfinite(self.logits).all():
            raise ValueError("logits are not all finite")

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        truth: np.ndarray,
        logits: np.ndarray,
        *,
        protocol: str,
        fold: str,
        arm: str,
        labels: tuple[str, ...],
    ) -> Predictions:
        """Combine an arm's logits with the entries that they are of."""
        return cls(
            protocol=protocol,
            fold=fold,
            arm=arm,
            labels=labels,
            paths=tuple(str(entry.path) for entry in entries),
            datasets=tuple(entry.dataset for entry in entries),
            actors=tuple(entry.actor for entry in entries),
            truth=truth,
            logits=logits,
        )

    @property
    def predicted(self) -> np.ndarray:
        """(n,) classes with the highest logits."""
        return self.logits.argmax(1)

    def of_dataset(self, dataset: str) -> Predictions | None:
        """Select the recordings of one dataset; None if there are none."""
        kept = np.flatnonzero(np.array(self.datasets) == dataset)
        return self.select(kept) if len(kept) else None

    def select(self, kept: np.ndarray) -> Predictions:
        """Select recordings, by their (k,) integer positions; at least one."""
        return Predictions(
            self.protocol,
            self.fold,
            self.arm,
            self.labels,
            tuple(self.paths[i] for i in kept),
            tuple(self.datasets[i] for i in kept),
            tuple(self.actors[i] for i in kept),
            self.truth[kept],
            self.logits[kept],
        )

    def save(self, path: Path) -> None:
        """Write an .npz file, completely or not at all; make its folder.

        Raises:
            OutputError: it can't be written.
        """
        make_folder(path.parent, "predictions")
        with replacing(path, (".npz",)) as beside:
            np.savez_compressed(beside, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read predictions back.

        Raises:
            DatasetError: the file can't be read, or holds something else.
        """
        try:
            with open(path, "rb") as file:
                arrays = np.load(file, allow_pickle=False)
                if not isinstance(arrays, np.lib.npyio.NpzFile):
                    raise ValueError("a single array")
                values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(cls)}
            for name, dimensions in TEXTS.items():
                if values[name].dtype.kind != "U" or values[name].ndim != dimensions:
                    raise ValueError(f"{name} is not text")
                text = values[name].tolist()
                values[name] = tuple(text) if dimensions else text
            return cls(**values)
        except OSError as error:
            raise DatasetError(f"{path}: can't be read ({error.strerror or error})") from error
        except UNREADABLE as error:
            raise DatasetError(f"{path}: not a file of predictions ({error})") from error


def join(parts: Sequence[Predictions]) -> Predictions:
    """Pool one arm's predictions of several folds.

    Raises:
        DatasetError: there is nothing to join, or the parts differ in arm, labels or protocol.
    """
    if len({(part.protocol, part.arm, part.labels) for part in parts}) != 1:
        raise DatasetError("predictions of several arms, labels or protocols can't be pooled")
    first = parts[0]
    return Predictions(
        first.protocol,
        first.fold if len(parts) == 1 else POOLED,
        first.arm,
        first.labels,
        tuple(path for part in parts for path in part.paths),
        tuple(dataset for part in parts for dataset in part.datasets),
        tuple(actor for part in parts for actor in part.actors),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.logits for part in parts]),
    )


@dataclass(frozen=True)
class Run:
    """Description of a cross-validation."""

    protocol: str  # of PROTOCOLS
    preset: str
    seed: int
    command: str  # that repeats it
    versions: Mapping[str, str]  # package -> version
    machine: str
    datasets: Mapping[str, int]  # dataset -> recordings

    def write(self, folder: Path) -> None:
        """Write the folder's run.json.

        Raises:
            OutputError: it can't be written.
        """
        write_text(folder / RUN, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a folder's run.json.

        Raises:
            DatasetError: the folder has none, or one that says something else.
        """
        path = folder / RUN
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DatasetError(f"{folder}: not a cross-validation run (it has no {RUN})") from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: can't be read ({error})") from error
        types = {"seed": int, "versions": dict, "datasets": dict}
        names = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or sorted(values) != sorted(names):
            raise DatasetError(f"{path}: must have {', '.join(names)}, and nothing else")
        for name in names:
            if type(values[name]) is not types.get(name, str):
                raise DatasetError(f"{path}: {name} has an impossible value {values[name]!r}")
        if values["protocol"] not in PROTOCOLS:
            raise DatasetError(f"{path}: protocol must be one of {', '.join(PROTOCOLS)}")
        return cls(**values)


def predictions_path(run: Path, fold: str, arm: str) -> Path:
    """Path of an arm's predictions in a fold of a run."""
    return run / f"fold-{fold}" / f"{arm}.npz"


def read_run(folder: Path) -> tuple[Run, list[Predictions]]:
    """Read a cross-validation: its description, and the predictions of each fold and arm.

    Raises:
        DatasetError: the folder is no run, is empty, or a file in it belongs elsewhere.
    """
    run = Run.read(folder)
    predictions = list(_read_folds(folder, run))
    if not predictions:
        where = predictions_path(folder, "NAME", "{" + ",".join(ARMS) + "}")
        raise DatasetError(f"{folder}: no predictions yet (expected {where})")
    return run, predictions


def _read_folds(folder: Path, run: Run) -> Iterator[Predictions]:
    for fold in sorted(folder.glob("fold-*")):
        for arm in ARMS:
            path = fold / f"{arm}.npz"
            if not path.exists():
                continue
            found = Predictions.load(path)
            if (found.protocol, predictions_path(folder, found.fold, found.arm)) != (
                run.protocol,
                path,
            ):
                raise DatasetError(
                    f"{path}: holds {found.protocol} fold {found.fold}, {found.arm}: it belongs "
                    "elsewhere"
                )
            yield found
