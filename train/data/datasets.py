"""A published dataset: its name, layout and labels, and the files below a folder that fit it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from train.data.index import DatasetError, Entry
from train.data.layouts.base import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    Layout,
    Misfit,
    Place,
)


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
        if place.trouble:
            return Rejected(path, place.trouble, row=place.row)
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
            soft=place.soft,
            votes=place.votes,
        )


def reason_of(error: Exception, path: Path) -> str:
    """Give an error's message without the path that it starts with."""
    return str(error).removeprefix(f"{path}: ")


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return "audio" if suffix in AUDIO_SUFFIXES else "av" if suffix in VIDEO_SUFFIXES else "image"
