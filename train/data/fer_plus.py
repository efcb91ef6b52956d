"""FER+ (Barsoum et al. 2016): ten raters' votes on the images of FER-2013."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from train.data.index import DatasetError
from train.labels import EMOTIONS

EMOTION_OF_COLUMN = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprised",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fearful",
}
CONTEMPT, UNKNOWN, NO_FACE = "contempt", "unknown", "NF"  # columns of none of our emotions
COLUMNS = (*EMOTION_OF_COLUMN, CONTEMPT, UNKNOWN, NO_FACE)


@dataclass(frozen=True)
class Votes:
    """What the raters of one image said."""

    counts: tuple[int, ...]  # for each of EMOTIONS
    contempt: int = 0
    unknown: int = 0
    no_face: int = 0

    @property
    def trouble(self) -> str:
        """Why the image can't be trained on; empty where it can."""
        named = sum(self.counts)
        if self.no_face >= max(named, self.unknown, 1):
            return "most raters saw no face"
        if self.unknown > max(self.counts):
            return "most raters could not name the emotion"
        if not named:
            return "no rater named one of the emotions"
        return ""


def read_votes(path: Path) -> dict[str, Votes]:
    """Read votes by file: a csv with the columns `file`, those of FER+, in any order.

    Raises:
        DatasetError: it can't be read, lacks a column, or holds a value that is no count.
    """
    return {row["file"]: votes for row, votes in _rows(path, "file")}


def read_fer_plus(path: Path) -> list[Votes]:
    """Read votes as published: fer2013new.csv, in the order of fer2013.csv's rows.

    Raises:
        DatasetError: as `read_votes`.
    """
    return [votes for _, votes in _rows(path)]


def _rows(path: Path, *needed: str) -> Iterator[tuple[dict[str, str], Votes]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in (*needed, *COLUMNS) if name not in (rows.fieldnames or ())]
            if missing:
                raise DatasetError(f"{path}: has no column {missing[0]}")
            for row in rows:
                yield row, _votes(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: no readable csv ({error})") from error
    except (ValueError, TypeError):
        raise DatasetError(f"{path}: line {rows.line_num} holds no counts of votes") from None


def _votes(row: dict[str, str]) -> Votes:
    count = {name: int(row[name]) for name in COLUMNS}
    if min(count.values()) < 0:
        raise ValueError("a negative count")
    by_emotion = {emotion: count[column] for column, emotion in EMOTION_OF_COLUMN.items()}
    counts = tuple(by_emotion.get(emotion, 0) for emotion in EMOTIONS)
    return Votes(counts, count[CONTEMPT], count[UNKNOWN], count[NO_FACE])
