"""Single pictures of faces: files, and the rows of FER-2013's csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from train.data.index import DatasetError

CSV_SIDE = 48  # pixels, of FER-2013's square pictures
CSV_COLUMNS = ("emotion", "pixels", "Usage")


@dataclass(frozen=True)
class CsvRow:
    """One picture of FER-2013's csv, as published."""

    emotion: str  # "0" to "6"
    pixels: str  # 48 x 48 grey levels, row by row
    usage: str  # "Training", "PublicTest" or "PrivateTest"


def read_picture(path: Path, row: int = -1) -> np.ndarray:
    """Decode a picture, turned upright: (height, width) uint8, grey.

    Args:
        row: of a csv, which is decoded whole and kept until another one's turn.

    Raises:
        DatasetError: it is missing, empty, or no picture.
    """
    try:
        if row < 0:
            return _decode(path.read_bytes())
        return _kept_pictures(path, path.stat().st_mtime_ns)[row]
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from error
    except KeyError:
        side = f"{CSV_SIDE} x {CSV_SIDE}"
        raise DatasetError(f"{path}: the row does not hold {side} grey levels") from None
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None


def _decode(data: bytes) -> np.ndarray:
    if not data:
        raise ValueError("the file is empty")
    try:
        # Unlike imread, this takes files with any name.
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:  # a header that tells of an impossible size
        picture = None
    if picture is None:
        raise ValueError("not a picture, or one that was cut off")
    return picture


def csv_rows(path: Path) -> Iterator[CsvRow]:
    """Go through FER-2013's csv, in its own order.

    Raises:
        DatasetError: it can't be read, or has other columns.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            if not set(CSV_COLUMNS) <= set(header):
                raise DatasetError(f"{path}: has no columns {', '.join(CSV_COLUMNS)}")
            columns = [header.index(name) for name in CSV_COLUMNS]
            for row in rows:
                if len(row) != len(header):
                    raise DatasetError(f"{path}: line {rows.line_num} is cut off")
                yield CsvRow(*(row[column].strip() for column in columns))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: no readable csv ({error})") from error


def csv_pictures(path: Path) -> dict[int, np.ndarray]:
    """Decode FER-2013's csv: (48, 48) uint8 by number of the row, from 0.

    A row that does not hold 48 x 48 grey levels is not in the result.

    Raises:
        DatasetError: as `csv_rows`.
    """
    pictures = {}
    for number, row in enumerate(csv_rows(path)):
        try:
            levels = bytes(map(int, row.pixels.split()))
        except ValueError:  # no number, or none from 0 to 255
            continue
        if len(levels) == CSV_SIDE**2:
            pictures[number] = np.frombuffer(levels, np.uint8).reshape(CSV_SIDE, CSV_SIDE)
    return pictures


@lru_cache(maxsize=1)
def _kept_pictures(path: Path, modified_ns: int) -> dict[int, np.ndarray]:
    return csv_pictures(path)
