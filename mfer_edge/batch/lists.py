"""Lists of clips: CSV and Parquet tables with a column `path`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mfer_edge.errors import BatchError
from mfer_edge.install import install_hint

LIST_SUFFIXES = (".csv", ".parquet")

Value = str | int | float | bool | None
"""What a cell of a table holds; of a CSV file always a text."""


@dataclass(frozen=True)
class ListedClip:
    """A row of a list."""

    place: str  # in the list, for messages
    columns: Mapping[str, Value]


def read_list(path: Path) -> Iterator[ListedClip]:
    """Read the rows of a list.

    Raises:
        BatchError: it can't be read, is no table, or has no column `path`.
    """
    rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    try:
        yield from rows
    except OSError as error:
        raise BatchError(f"{path}: {error.strerror or error}") from error


def import_pyarrow() -> ModuleType:
    """Import pyarrow with its Parquet part.

    Raises:
        BatchError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise BatchError(f"Parquet needs pyarrow: {install_hint('batch')}; or use CSV") from error
    return pyarrow


def _read_csv(path: Path) -> Iterator[ListedClip]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = _checked_header(path, next(reader, []))
            for cells in reader:
                if not cells:
                    continue
                place = f"line {reader.line_num}"
                if len(cells) != len(header):
                    counts = f"{len(cells)} columns, but {len(header)} in the first line"
                    raise BatchError(f"{path}, {place}: {counts}")
                yield ListedClip(place, dict(zip(header, cells, strict=True)))
    except UnicodeDecodeError as error:
        raise BatchError(f"{path}: its text is not UTF-8: save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise BatchError(f"{path}: not a CSV table ({error})") from error


def _read_parquet(path: Path) -> Iterator[ListedClip]:
    pyarrow = import_pyarrow()
    try:
        with open(path, "rb") as opened, pyarrow.parquet.ParquetFile(opened) as file:
            header = _checked_header(path, list(file.schema_arrow.names))
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    columns = {name: _plain(row[name]) for name in header}
                    yield ListedClip(f"row {number}", columns)
    except pyarrow.ArrowException as error:
        line = str(error).splitlines()[0]
        raise BatchError(f"{path}: not a Parquet table ({line})") from error


def _checked_header(path: Path, header: list[str]) -> list[str]:
    if len(header) == 1 and (found := [mark for mark in ";\t|" if mark in header[0]]):
        mark = "tabs" if found[0] == "\t" else found[0]
        raise BatchError(f"{path}: its columns are separated by {mark}: they have to be by commas")
    if "path" not in header:
        raise BatchError(f"{path}: no column path among {', '.join(header) or 'none'}")
    if twice := [name for name in header if header.count(name) > 1]:
        raise BatchError(f"{path}: two columns {twice[0]}")
    return header


def _plain(value: object) -> Value:
    """Dates, lists and the like as text."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
