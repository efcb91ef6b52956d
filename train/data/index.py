"""The table of labelled recordings and pictures that everything in training starts from."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mfer_edge.errors import MferError
from mfer_edge.outputs.files import write_text
from train.labels import EMOTIONS

KINDS = ("audio", "video", "av", "image")  # sound, silent pictures, both, one picture


class DatasetError(MferError):
    """Training data, or a table of it, that can't be used."""


@dataclass(frozen=True)
class Entry:
    """One labelled file, or one row of a file that holds many pictures."""

    path: Path  # absolute
    row: int  # of a csv that holds many pictures, from 0; -1 for a file of its own
    dataset: str  # key of train.data.catalogue.DATASETS
    kind: str  # one of KINDS
    label: str  # one of EMOTIONS
    actor: str  # "ravdess/07"; empty where nobody knows
    sentence: str  # empty where nobody knows
    split: str  # "train" or "test" where the dataset was published so; empty otherwise
    take: str  # one performance, whichever files it was published as: "ravdess/01-03-02-01-01-07"
    content: str  # sha256 of the samples or pixels (of the file's bytes for video)
    soft: bool = False  # the label is likely, not certain: people who talk without acting
    votes: tuple[int, ...] = ()  # of raters, for each of EMOTIONS; empty where there are none

    @property
    def group(self) -> str:
        """What may not be on both sides of a speaker-independent split.

        Files whose actor nobody knows are one group: they may all be one person.
        """
        return self.actor or f"{self.dataset}/unknown"

    @property
    def corpus(self) -> str:
        """What is left out as a whole by the protocol `corpus`: the dataset."""
        return self.dataset

    @property
    def has_sound(self) -> bool:
        return self.kind in ("audio", "av")

    @property
    def has_pictures(self) -> bool:
        return self.kind in ("video", "av")


COLUMNS = tuple(field.name for field in fields(Entry))
FIRST_COLUMNS = COLUMNS[: COLUMNS.index("soft")]  # of an index without soft labels and votes


def write_index(entries: Iterable[Entry], path: Path) -> None:
    """Write a table of entries as CSV, all or nothing.

    Raises:
        OutputError: the file can't be written.
        DatasetError: a path is no text, so that no table can hold it.
    """
    table = io.StringIO(newline="")
    # With the usual "\r\n" between lines, either of the two is quoted where it is part of a name.
    rows = csv.writer(table, lineterminator="\r\n")
    rows.writerow(COLUMNS)
    for entry in entries:
        try:
            str(entry.path).encode()
        except UnicodeEncodeError:
            name = str(entry.path).encode(errors="backslashreplace").decode()
            raise DatasetError(f"{name}: the name is not UTF-8; rename the file") from None
        *cells, soft, votes = astuple(entry)
        rows.writerow([*cells, "soft" if soft else "", " ".join(map(str, votes))])
    write_text(path, table.getvalue())


def read_index(path: Path) -> list[Entry]:
    """Read a table of entries back.

    Raises:
        DatasetError: it can't be read, is no index, or holds a value that no entry can have.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # Excel writes the mark
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: no readable index ({error})") from error
    columns = tuple(rows[0]) if rows else ()
    if columns not in (COLUMNS, FIRST_COLUMNS):
        raise DatasetError(f"{path}: not an index: its first line must be {','.join(COLUMNS)}")
    entries = []
    for number, row in enumerate(rows[1:], 2):
        try:
            entries.append(_entry(row, columns))
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}") from None
    if not entries:
        raise DatasetError(f"{path}: the index is empty")
    return entries


def _entry(row: list[str], columns: tuple[str, ...]) -> Entry:
    if len(row) != len(columns):
        raise ValueError(f"{len(row)} values instead of {len(columns)}")
    value = dict.fromkeys(COLUMNS, "") | dict(zip(columns, row, strict=True))
    if not re.fullmatch(r"-1|\d+", value["row"]):
        raise ValueError(f"row {value['row']!r} is no whole number from -1")
    if value["kind"] not in KINDS:
        raise ValueError(f"kind {value['kind']!r} is none of {', '.join(KINDS)}")
    if value["label"] not in EMOTIONS:
        raise ValueError(f"label {value['label']!r} is none of {', '.join(EMOTIONS)}")
    if value["split"] not in ("", "train", "test"):
        raise ValueError(f"split {value['split']!r} is neither empty, train nor test")
    if value["soft"] not in ("", "soft"):
        raise ValueError(f"soft {value['soft']!r} is neither empty nor soft")
    if not re.fullmatch(rf"(\d+( \d+){{{len(EMOTIONS) - 1}}})?", value["votes"], re.ASCII):
        raise ValueError(f"votes {value['votes']!r} are not {len(EMOTIONS)} counts")
    return Entry(
        path=Path(value["path"]),
        row=int(value["row"]),
        dataset=value["dataset"],
        kind=value["kind"],
        label=value["label"],
        actor=value["actor"],
        sentence=value["sentence"],
        split=value["split"],
        take=value["take"],
        content=value["content"],
        soft=value["soft"] == "soft",
        votes=tuple(map(int, value["votes"].split())),
    )
