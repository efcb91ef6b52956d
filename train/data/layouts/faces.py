"""Layouts of images of faces."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from train.data.fer_plus import Votes, read_fer_plus, read_votes
from train.data.images import csv_rows
from train.data.layouts.base import Misfit, Place, parts

FER2013_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "valid", "val", "validation", "publictest", "privatetest"), "test"),
}
"""The Usage column's values and the usual names of folders, in lower case."""

VOTES_FILE = "ferplus.csv"  # votes by file, beside folders of images
FER_PLUS_FILE = "fer2013new.csv"  # votes by row, as published, beside fer2013.csv
CKPLUS = re.compile(r"(S\d+)_\d+_\d+")
JAFFE = re.compile(r"([A-Z]{2})\.([A-Z]{2})\d*\.\d+")


def fer2013(path: Path) -> Iterable[Place]:
    """Read a csv's rows, or take the folder for the emotion and the one above for the split.

    The take tells the public from the private test: `fer2013/PrivateTest_00042`. FER+ votes are
    taken from the file beside the csv or the folders; what most raters call no face or could not
    name is left out of training.
    """
    if path.name in (VOTES_FILE, FER_PLUS_FILE):
        return
    if path.suffix.lower() == ".csv":
        ratings = _fer_plus(path.with_name(FER_PLUS_FILE))
        for number, row in enumerate(csv_rows(path)):
            split = FER2013_SPLITS.get(row.usage.lower())
            if split is None:
                raise Misfit(f"row {number} has an unknown Usage")
            votes = ratings[number] if number < len(ratings) else None
            take = f"{row.usage}_{number:05}"
            yield _rated(Place(row.emotion, split=split, take=take, row=number), votes)
    else:
        # Some copies leave out the folders of the splits, which the files are named after.
        names = path.parent.parent.name, path.stem.split("_")[0]
        splits = [FER2013_SPLITS[name.lower()] for name in names if name.lower() in FER2013_SPLITS]
        split = splits[0] if splits else ""
        yield _rated(Place(path.parent.name.lower(), split=split), _votes_by_file(path))


def ckplus(path: Path) -> list[Place]:
    """Take the folder for the emotion and the name's first part for the subject."""
    (subject,) = parts(CKPLUS, path).groups()
    return [Place(path.parent.name.lower(), subject)]


def jaffe(path: Path) -> list[Place]:
    """Read `subject.emotion.number`, such as KA.AN1.39."""
    subject, code = parts(JAFFE, path).groups()
    return [Place(code, subject)]


def _rated(place: Place, votes: Votes | None) -> Place:
    """Add the votes of an image, where there are any. A test split stays whole."""
    if votes is None:
        return place
    return replace(
        place, votes=votes.counts, trouble="" if place.split == "test" else votes.trouble
    )


def _votes_by_file(path: Path) -> Votes | None:
    for above in path.parents[1:3]:
        votes = _votes(above / VOTES_FILE)
        if found := votes.get(path.relative_to(above).as_posix()):
            return found
    return None


@lru_cache(maxsize=4)
def _votes(path: Path) -> dict[str, Votes]:
    return read_votes(path) if path.is_file() else {}


@lru_cache(maxsize=1)
def _fer_plus(path: Path) -> list[Votes]:
    return read_fer_plus(path) if path.is_file() else []
