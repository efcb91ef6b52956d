"""Protocol corpus: no left-out person, and nobody of a left-out corpus, is in training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.voices.corpora import recordings, several
from train.data.corpus_folds import corpus_folds, ordinary_parts, source_of
from train.data.folds import Fold, check_leakage
from train.data.index import DatasetError


def test_each_corpus_is_left_out_as_a_whole() -> None:
    entries = several()
    folds = corpus_folds(entries)
    assert [fold.name for fold in folds] == ["alpha", "beta", "gamma"]
    for fold in folds:
        tested = {entries[i].dataset for i in fold.test}
        trained = {entries[i].dataset for i in fold.train}
        assert tested == {fold.name, "ordinary"}
        assert fold.name not in trained
        assert sum(e.dataset == fold.name for e in entries) == sum(
            entries[i].dataset == fold.name for i in fold.test
        )
        assert not len(fold.valid)
        assert sorted([*fold.train, *fold.test]) == list(range(len(entries)))


@settings(max_examples=30)
@given(people=st.integers(0, 30), seed=st.integers(0, 5), train_only=st.booleans())
def test_nobody_who_is_tested_is_trained_on(people: int, seed: int, train_only: bool) -> None:
    entries = several(people)
    for fold in corpus_folds(entries, train_only=["beta"] if train_only else [], seed=seed):
        trained = {entries[i].group for i in fold.train}
        assert not trained & {entries[i].group for i in fold.test}


def test_all_ordinary_people_are_left_out_once() -> None:
    entries = several(20)
    times = np.zeros(len(entries), int)
    for fold in corpus_folds(entries):
        times[fold.test] += 1
    assert (times[[entry.soft for entry in entries]] == 1).all()


def test_a_corpus_for_training_only_is_in_every_training_part() -> None:
    entries = several()
    folds = corpus_folds(entries, train_only=["beta"])
    assert [fold.name for fold in folds] == ["alpha", "gamma"]
    for fold in folds:
        assert "beta" in {entries[i].dataset for i in fold.train}
        assert "beta" not in {entries[i].dataset for i in fold.test}


def test_sources_of_ordinary_talk_stay_whole_if_there_are_enough() -> None:
    talk = [
        replace(entry, actor=f"ordinary/place{number // 4}:{number}")
        for number, entry in enumerate(recordings("ordinary", 40, 1, ["neutral"], soft=True))
    ]
    part = ordinary_parts(talk, 3, seed=0)
    assert set(part) == {0, 1, 2}
    of_source: dict[str, set[int]] = {}
    for entry, number in zip(talk, part, strict=True):
        of_source.setdefault(source_of(entry), set()).add(int(number))
    assert all(len(numbers) == 1 for numbers in of_source.values())
    few = [replace(entry, actor=f"ordinary/room:{n}") for n, entry in enumerate(talk)]
    assert np.bincount(ordinary_parts(few, 3, seed=0)).tolist() == [14, 13, 13]


def test_one_corpus_alone_can_not_be_left_out() -> None:
    alone = recordings("alpha", 3, 2, ["happy", "sad"])
    with pytest.raises(DatasetError, match="alpha"):
        corpus_folds(alone)
    with pytest.raises(DatasetError, match="no recordings of delta"):
        corpus_folds(several(), train_only=["delta"])


def test_a_corpus_in_two_parts_is_a_leak() -> None:
    entries = several()
    alpha = np.flatnonzero([entry.dataset == "alpha" for entry in entries])
    nobody = np.zeros(0, np.int64)
    people = np.array([entries[i].group == "alpha/0" for i in alpha])
    fold = Fold("alpha", alpha[people], nobody, alpha[~people])
    with pytest.raises(DatasetError, match="corpus"):
        check_leakage(entries, fold, "corpus")
