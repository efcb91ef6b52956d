"""The corpora at hand, as published: every file is taken, with its speaker and label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.paths import shared_data
from train.data.catalogue import DATASETS
from train.data.datasets import Rejected
from train.data.index import DatasetError, Entry, read_index, write_index

# dataset, folder, files, speakers, emotions
REAL = [
    ("nemo", "nEMO", 1057, 9, 6),
    ("ased", "ASED", 1200, 65, 5),
    ("eyase", "EYASE", 579, 6, 4),
    ("emovo", "EMOVO", 588, 6, 7),
    ("casia", "CASIA", 1200, 4, 6),
    ("tess", "TESS", 700, 2, 7),
    ("turev", "TurEV", 785, 6, 4),
    ("savee", "SAVEE_altered", 480, 4, 7),
]


def entries_of(name: str, root: Path) -> list[Entry]:
    items = list(DATASETS[name].scan(root))
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert not rejected, rejected[:3]
    return [item for item in items if isinstance(item, Entry)]


@pytest.mark.parametrize(("name", "folder", "files", "speakers", "emotions"), REAL)
def test_a_real_corpus_is_read_whole(
    name: str, folder: str, files: int, speakers: int, emotions: int
) -> None:
    entries = entries_of(name, shared_data("voices", folder))
    assert len(entries) == files
    assert len({entry.actor for entry in entries}) == speakers
    assert len({entry.label for entry in entries}) == emotions
    assert {entry.kind for entry in entries} == {"audio"}
    assert not any(entry.soft for entry in entries)
    assert len({entry.take for entry in entries}) == files


def test_ordinary_talk_is_soft_neutral_of_known_speakers() -> None:
    entries = entries_of("ordinary", shared_data("ordinary"))
    assert Counter(entry.kind for entry in entries) == {"audio": 750, "av": 39}
    assert {(entry.label, entry.soft) for entry in entries} == {("neutral", True)}
    voices = {entry.actor for entry in entries if entry.kind == "audio"}
    assert len(voices) == 279
    assert all(":" in entry.actor for entry in entries)  # as SOURCES.tsv names them


def test_speakers_come_from_the_table_above(tmp_path: Path) -> None:
    (tmp_path / "speech" / "here").mkdir(parents=True)
    for name in ("a_1.opus", "a_2.opus", "b.opus"):
        (tmp_path / "speech" / "here" / name).touch()
    (tmp_path / "SOURCES.tsv").write_text("file\tspeaker\nspeech/here/a_1.opus\tset:anna\n")
    actors = [entry.actor for entry in entries_of("ordinary", tmp_path)]
    assert actors == ["ordinary/set:anna", "ordinary/here:a", "ordinary/here:b"]


def test_a_table_without_speakers_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a_1.opus").touch()
    (tmp_path / "SOURCES.tsv").write_text("file\twho\n")
    with pytest.raises(DatasetError, match="has no columns file and speaker"):
        list(DATASETS["ordinary"].scan(tmp_path))


def test_soft_labels_and_votes_survive_the_index(tmp_path: Path) -> None:
    (tmp_path / "a_1.opus").touch()
    (entry,) = entries_of("ordinary", tmp_path)
    write_index([entry], tmp_path / "index.csv")
    assert read_index(tmp_path / "index.csv") == [entry]
    assert entry.corpus == "ordinary"
