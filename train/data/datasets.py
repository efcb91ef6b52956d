"""The datasets that training knows: what they are called, how they are laid out and labelled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from train.data import layouts
from train.data.index import DatasetError, Entry
from train.data.layouts import (
    PICTURES,
    SOUNDS,
    SPELLINGS,
    URDU_LETTERS,
    VIDEOS,
    Layout,
    Misfit,
    Place,
)
from train.labels import EMOTIONS, FACE_EMOTIONS, FOUR_EMOTIONS


@dataclass(frozen=True)
class Rejected:
    """A file, or a row of one, that is not used."""

    path: Path
    reason: str  # the same words for every file with the same trouble
    detail: str = ""  # what is special about this one
    row: int = -1  # of a csv that holds many pictures

    def __str__(self) -> str:
        row = f", row {self.row}" if self.row >= 0 else ""
        text = f"{self.path}{row}" + (f" ({self.detail})" if self.detail else "")
        return text.encode(errors="backslashreplace").decode()  # a path need not be printable


@dataclass(frozen=True)
class Dataset:
    """A published dataset."""

    name: str  # in the index and on the command line
    title: str
    source: str  # licence and citation
    example: str  # a path in its layout
    labels: Mapping[str, str | None]  # published code -> one of EMOTIONS; None: none of the eight
    layout: Layout
    suffixes: tuple[str, ...]  # of the files to look at, lower case

    def scan(self, root: Path) -> Iterator[Entry | Rejected]:
        """Go through the files below `root`, or through the one file that it is, by name.

        Nothing but names (and a csv's labels) is read yet: `content` is empty, and a file with
        pictures counts as having sound too unless its name denies it. `train.data.scan` sees to
        both.

        Raises:
            DatasetError: there is no such folder, nothing in it fits the layout, or it holds the
                dataset twice.
        """
        root = Path(os.path.abspath(root))
        sources: set[Path] = set()  # each csv is one, and all other files together
        misfit = ""
        for path in self._files(root):
            try:
                entries = [self._entry(path, root, place) for place in self.layout(path)]
            except (Misfit, DatasetError) as error:
                entries = [Rejected(path, reason_of(error, path))]
            for entry in entries:
                if isinstance(entry, Entry):
                    sources.add(root if entry.row < 0 else path)
                elif not misfit:
                    misfit = f"; {entry}: {entry.reason}"
                yield entry
        if not sources:
            raise DatasetError(
                f"{root}: nothing here fits the layout of {self.title}, {self.example}{misfit}"
            )
        if len(sources) > 1:
            names = " and ".join(sorted(map(str, sources)))
            raise DatasetError(f"{root}: holds {self.title} more than once; name one of {names}")

    def _files(self, root: Path) -> Iterator[Path]:
        def fail(error: OSError) -> None:
            raise DatasetError(f"{error.filename}: {error.strerror}") from error

        if root.is_file():
            yield root
            return
        seen = set()  # links are followed, and may lead round in circles
        for folder, folders, names in os.walk(root, onerror=fail, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix.lower() in self.suffixes:
                    yield path

    def _entry(self, path: Path, root: Path, place: Place) -> Entry | Rejected:
        label = self.labels.get(place.code)
        if label is None:
            known = place.code in self.labels
            trouble = "is none of the eight emotions" if known else "is no label of this dataset"
            return Rejected(path, f"'{place.code}' {trouble}", row=place.row)
        relative = path.relative_to(root if path != root else root.parent).with_suffix("")
        return Entry(
            path=path,
            row=place.row,
            dataset=self.name,
            kind=place.kind or _kind(path),
            label=label,
            actor=place.actor and f"{self.name}/{place.actor}",
            sentence=place.sentence,
            split=place.split,
            take=f"{self.name}/{place.take or relative.as_posix()}",
            content="",
        )


def reason_of(error: Exception, path: Path) -> str:
    """Give an error's message without the path that it starts with."""
    return str(error).removeprefix(f"{path}: ")


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return "audio" if suffix in SOUNDS else "av" if suffix in VIDEOS else "image"


def _spelt(*emotions: str) -> dict[str, str | None]:
    """The folder names that stand for some of the emotions."""
    return {name: emotion for name, emotion in SPELLINGS.items() if emotion in emotions}


_FER2013_CODES = {str(code): SPELLINGS[name] for code, name in enumerate(FACE_EMOTIONS)}
_NOT_CALM = _spelt(*(emotion for emotion in EMOTIONS if emotion != "calm"))

DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "ravdess",
            "RAVDESS",
            "CC BY-NC-SA 4.0; Livingstone & Russo 2018, PLoS ONE 13(5)",
            "Actor_01/03-01-05-01-02-01-01.wav",
            {f"{code:02}": emotion for code, emotion in enumerate(EMOTIONS, 1)},
            layouts.ravdess,
            (".wav", ".flac", ".mp4"),
        ),
        Dataset(
            "crema-d",
            "CREMA-D",
            "ODbL 1.0; Cao et al. 2014, IEEE Trans. Affective Computing 5(4)",
            "AudioWAV/1001_DFA_ANG_XX.wav",
            {
                "ANG": "angry",
                "DIS": "disgust",
                "FEA": "fearful",
                "HAP": "happy",
                "NEU": "neutral",
                "SAD": "sad",
            },
            layouts.crema_d,
            (".wav", ".flac", ".flv", ".mp4"),  # its mp3 files repeat the wav files
        ),
        Dataset(
            "shemo",
            "ShEMO",
            "academic use; Mohamad Nezami et al. 2019, Language Resources and Evaluation 53",
            "male/M01A01.wav",
            {
                "A": "angry",
                "F": "fearful",
                "H": "happy",
                "N": "neutral",
                "S": "sad",
                "W": "surprised",
            },
            layouts.shemo,
            (".wav", ".flac"),
        ),
        Dataset(
            "urdu",
            "URDU",
            "research use only; Latif et al. 2018, FIT",
            "Angry/SM1_F10_A010.wav",
            URDU_LETTERS,
            layouts.urdu,
            (".wav", ".flac"),
        ),
        Dataset(
            "saudi",
            "Saudi Dialect Corpus",
            "no licence published; Aljuhani et al. 2021, IEEE Access 9",
            "Angry/any-name.wav",
            _spelt(*FOUR_EMOTIONS),
            layouts.saudi,
            SOUNDS,
        ),
        Dataset(
            "fer2013",
            "FER-2013",
            "Kaggle challenge data, research use; Goodfellow et al. 2013",
            "fer2013.csv or train/angry/any-name.png",
            _FER2013_CODES | _NOT_CALM,
            layouts.fer2013,
            (".csv", *PICTURES),
        ),
        Dataset(
            "ckplus",
            "CK+48",
            "research use only; Lucey et al. 2010, CVPR workshops",
            "anger/S010_004_00000017.png",
            _NOT_CALM | {"contempt": None},
            layouts.ckplus,
            PICTURES,
        ),
        Dataset(
            "own",
            "your own clips",
            "yours",
            "happy/actor_clip.mp4",
            _spelt(*EMOTIONS),
            layouts.own,
            (*SOUNDS, *VIDEOS, *PICTURES),
        ),
    )
}
"""Every dataset by its name."""
