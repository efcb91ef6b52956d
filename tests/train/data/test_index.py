"""The table that training starts from: what is written is what is read."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.errors import OutputError
from train.data.index import COLUMNS, KINDS, DatasetError, Entry, read_index, write_index
from train.labels import EMOTIONS

ENTRY = Entry(
    path=Path("/data/RAVDESS/Actor_07/03-01-03-02-01-02-07.wav"),
    row=-1,
    dataset="ravdess",
    kind="audio",
    label="happy",
    actor="ravdess/07",
    sentence="01",
    split="",
    take="ravdess/01-03-02-01-02-07",
    content="ab" * 32,
)

# Whatever a file system takes in a name, and what is most likely to upset a csv.
awkward = st.sampled_from([",", '"', "'", "\n", "\r", "\r\n", " ", ";", "\t", "=", "#", "é", "笑"])
parts = st.lists(st.characters(exclude_characters="/\0", codec="utf-8") | awkward, min_size=1)
texts = parts.map("".join)
entries = st.builds(
    Entry,
    path=texts.map(lambda name: Path("/data", name)),
    row=st.integers(-1, 100_000),
    dataset=texts,
    kind=st.sampled_from(KINDS),
    label=st.sampled_from(EMOTIONS),
    actor=texts | st.just(""),
    sentence=texts | st.just(""),
    split=st.sampled_from(["", "train", "test"]),
    take=texts,
    content=st.binary(min_size=32, max_size=32).map(bytes.hex),
    soft=st.booleans(),
    votes=st.just(()) | st.tuples(*[st.integers(0, 10)] * len(EMOTIONS)),
)


@settings(max_examples=60)
@given(st.lists(entries, min_size=1, max_size=5))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[Entry]
) -> None:
    path = tmp_path_factory.getbasetemp() / "index.csv"
    write_index(table, path)
    assert read_index(path) == table


def test_any_csv_reader_can_read_it(tmp_path: Path) -> None:
    write_index([ENTRY], tmp_path / "index.csv")
    with open(tmp_path / "index.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {name: str(getattr(ENTRY, name)) for name in COLUMNS} | {"soft": "", "votes": ""}


def test_an_index_that_excel_saved(tmp_path: Path) -> None:
    """With a byte-order mark."""
    path = tmp_path / "index.csv"
    write_index([ENTRY], path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_index(path) == [ENTRY]


def test_an_index_from_before_soft_labels_and_votes_is_read(tmp_path: Path) -> None:
    write_index([ENTRY], tmp_path / "index.csv")
    lines = (tmp_path / "index.csv").read_text().splitlines()
    (tmp_path / "index.csv").write_text("".join(line.rsplit(",", 2)[0] + "\n" for line in lines))
    assert read_index(tmp_path / "index.csv") == [ENTRY]


def test_a_path_that_is_no_text_is_an_error_and_leaves_the_old_table(tmp_path: Path) -> None:
    write_index([ENTRY], tmp_path / "index.csv")
    odd = replace(ENTRY, path=Path("/data/caf\udce9.wav"))  # Latin-1 on a UTF-8 system
    with pytest.raises(DatasetError, match=r"caf\\udce9\.wav.*not UTF-8"):
        write_index([ENTRY, odd], tmp_path / "index.csv")
    assert read_index(tmp_path / "index.csv") == [ENTRY]


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        write_index([ENTRY], tmp_path / "missing" / "index.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("happy", "cheerful", "label 'cheerful' is none of neutral, calm"),
        ("audio", "smell", "kind 'smell' is none of audio, video"),
        (",-1,", ",first,", "row 'first' is no whole number from -1"),
        (",01,,", ",01,validation,", "split 'validation'"),
        (",01,,", ",01,", "11 values instead of 12"),
    ],
)
def test_a_value_that_no_entry_can_have_is_an_error_that_names_the_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "index.csv"
    write_index([ENTRY, ENTRY], path)
    head, first, second = path.read_text().splitlines()
    assert old in second
    path.write_text("\n".join([head, first, second.replace(old, new), ""]))
    with pytest.raises(DatasetError, match=rf"index\.csv, line 3: {message}"):
        read_index(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an index"),
        (b"path,label\nx.wav,sad\n", "its first line must be path,row,dataset"),
        (b"\xff\xfe\x00\x01", "no readable index"),
        (",".join(COLUMNS).encode() + b"\n", "the index is empty"),
    ],
)
def test_what_is_no_index_is_an_error(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "index.csv").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        read_index(tmp_path / "index.csv")


def test_a_missing_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.csv: no readable index"):
        read_index(tmp_path / "none.csv")


def test_people_who_may_be_one_person_are_one_group() -> None:
    unknown = [replace(ENTRY, actor="", dataset="saudi", label=e) for e in ("sad", "happy")]
    assert unknown[0].group == unknown[1].group
    elsewhere = replace(ENTRY, actor="", dataset="fer2013")
    assert len({ENTRY.group, unknown[0].group, elsewhere.group}) == 3


@pytest.mark.parametrize(
    ("kind", "sound", "pictures"),
    [
        ("audio", True, False),
        ("video", False, True),
        ("av", True, True),
        ("image", False, False),
    ],
)
def test_a_kind_says_what_can_be_heard_and_seen(kind: str, sound: bool, pictures: bool) -> None:
    entry = replace(ENTRY, kind=kind)
    assert (entry.has_sound, entry.has_pictures) == (sound, pictures)
