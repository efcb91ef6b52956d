"""Pictures come out as they were put in, from files and from FER-2013's csv."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from train.data.images import csv_pictures, read_picture
from train.data.index import DatasetError

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (48, 48)).astype(np.uint8)


def csv_file(path: Path, *pixels: str) -> Path:
    rows = [f"0,{levels},Training\n" for levels in pixels]
    path.write_text("emotion,pixels,Usage\n" + "".join(rows))
    return path


def levels(picture: np.ndarray) -> str:
    return " ".join(map(str, picture.ravel()))


def encoded(picture: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


@pytest.mark.parametrize("name", ["a.png", "a b,c.bmp", "وجه.png", "%d.png", "caf\udce9.png"])
def test_a_picture_is_read_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encoded(GREY, path.suffix))
    np.testing.assert_array_equal(read_picture(path), GREY)


def test_a_colour_picture_is_read_as_grey(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(np.dstack([GREY] * 3)))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), GREY)


def test_a_row_of_a_csv_is_read_as_its_file(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "f.csv", levels(255 - GREY), levels(GREY))
    np.testing.assert_array_equal(read_picture(path, 1), GREY)
    assert sorted(csv_pictures(path)) == [0, 1]


def test_a_csv_that_changed_is_read_again(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "f.csv", levels(255 - GREY))
    read_picture(path, 0)
    csv_file(path, levels(GREY))
    os.utime(path, ns=(0, 1))  # whatever the clock's resolution
    np.testing.assert_array_equal(read_picture(path, 0), GREY)


@pytest.mark.parametrize(
    "pixels",
    ["", "1 2 3", levels(GREY) + " 7", "256" + " 0" * 2303, "-1" + " 0" * 2303, "x" + " 0" * 2303],
)
def test_a_row_without_a_picture_is_an_error(tmp_path: Path, pixels: str) -> None:
    path = csv_file(tmp_path / "f.csv", levels(GREY), pixels)
    with pytest.raises(DatasetError, match=r"f\.csv: the row does not hold 48 x 48 grey levels"):
        read_picture(path, 1)
    np.testing.assert_array_equal(read_picture(path, 0), GREY)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"no picture", "not a picture"),
        (encoded(GREY)[:60], "not a picture, or one that was cut off"),
    ],
)
def test_a_file_without_a_picture_is_an_error(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DatasetError, match=rf"a\.png: {message}"):
        read_picture(tmp_path / "a.png")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for row in (-1, 0):
        with pytest.raises(DatasetError, match="No such file"):
            read_picture(tmp_path / "a.png", row)
