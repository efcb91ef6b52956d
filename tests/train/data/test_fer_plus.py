"""FER+ votes come with the images that they are of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.paths import shared_data
from train.data.catalogue import DATASETS
from train.data.datasets import Rejected
from train.data.fer_plus import COLUMNS, Votes, read_votes
from train.data.index import DatasetError, Entry
from train.labels import EMOTIONS

HEADER = "file," + ",".join(COLUMNS)


def scan(root: Path) -> tuple[list[Entry], list[Rejected]]:
    items = list(DATASETS["fer2013"].scan(root))
    return (
        [item for item in items if isinstance(item, Entry)],
        [item for item in items if isinstance(item, Rejected)],
    )


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_votes_are_found_by_file_in_the_order_of_our_emotions(tmp_path: Path) -> None:
    images(tmp_path, "train/angry/1.png", "train/angry/2.png")
    (tmp_path / "ferplus.csv").write_text(f"{HEADER}\ntrain/angry/1.png,2,0,1,0,6,1,0,0,0,0\n")
    rated, unrated = scan(tmp_path)[0]
    by_emotion = dict(zip(EMOTIONS, rated.votes, strict=True))
    assert {name: votes for name, votes in by_emotion.items() if votes} == {
        "neutral": 2, "surprised": 1, "angry": 6, "disgust": 1,
    }  # fmt: skip
    assert unrated.votes == ()
    assert rated.label == unrated.label == "angry"


@pytest.mark.parametrize(
    ("votes", "reason"),
    [
        ("1,0,0,0,0,0,0,0,0,9", "most raters saw no face"),
        ("2,0,0,0,0,0,0,0,8,0", "most raters could not name the emotion"),
        ("0,0,0,0,0,0,0,10,0,0", "no rater named one of the emotions"),
    ],
)
def test_what_raters_could_not_use_is_left_out_of_training_alone(
    tmp_path: Path, votes: str, reason: str
) -> None:
    names = "train/angry/1.png", "valid/angry/2.png"
    images(tmp_path, *names)
    (tmp_path / "ferplus.csv").write_text(
        "\n".join([HEADER, *(f"{name},{votes}" for name in names)]) + "\n"
    )
    (kept,), (rejected,) = scan(tmp_path)
    assert kept.split == "test"  # published figures count it whole
    assert rejected.path == tmp_path / names[0]
    assert rejected.reason == reason


def test_published_votes_go_with_the_rows_of_the_csv(tmp_path: Path) -> None:
    rows = "0,0 0,Training\n3,0 0,Training\n6,0 0,PublicTest\n"
    (tmp_path / "fer2013.csv").write_text(f"emotion,pixels,Usage\n{rows}")
    published = "Usage,Image name," + ",".join(COLUMNS)
    votes = [
        "Training,a.png,0,0,0,0,10,0,0,0,0,0",
        "Training,,0,0,0,0,0,0,0,0,0,10",
        "PublicTest,c.png,9,0,0,0,0,0,0,0,1,0",
    ]
    (tmp_path / "fer2013new.csv").write_text("\n".join([published, *votes]) + "\n")
    entries, (rejected,) = scan(tmp_path)
    assert [(entry.row, max(entry.votes)) for entry in entries] == [(0, 10), (2, 9)]
    assert (rejected.row, rejected.reason) == (1, "most raters saw no face")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,neutral\nx,1\n", "has no column happiness"),
        (f"{HEADER}\nx,1,2,3\n", "line 2 holds no counts"),
        (f"{HEADER}\nx,{','.join(['-1'] * 10)}\n", "line 2 holds no counts"),
        (f"{HEADER}\nx,{','.join(['one'] * 10)}\n", "line 2 holds no counts"),
    ],
)
def test_damaged_votes_are_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ferplus.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_votes(path)


@given(st.lists(st.integers(0, 10), min_size=8, max_size=8), st.integers(0, 10), st.integers(0, 10))
def test_what_is_kept_has_a_named_emotion(counts: list[int], unknown: int, no_face: int) -> None:
    votes = Votes(tuple(counts), 0, unknown, no_face)
    if not votes.trouble:
        assert sum(counts) > no_face or no_face == 0
        assert 0 < max(counts) >= unknown


def test_the_real_votes_are_of_real_images() -> None:
    root = shared_data("FER2013")
    entries, rejected = scan(root)
    rated = [entry for entry in entries if entry.votes]
    reasons = Counter(item.reason for item in rejected)
    assert len(rated) > 31_000
    assert len(entries) + len(rejected) == 32_298
    assert set(reasons) <= {
        "most raters saw no face",
        "most raters could not name the emotion",
        "no rater named one of the emotions",
    }
    assert all(len(entry.votes) == len(EMOTIONS) for entry in rated)
