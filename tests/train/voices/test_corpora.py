"""Balance: corpora, labels and sources are drawn as often as the recipe says."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.voices.corpora import several, truth_of
from train.data.batches import Split
from train.labels import SEVEN_EMOTIONS
from train.presets import COMPACT
from train.voices.corpora import Corpora
from train.voices.objective import VoiceObjective
from train.voices.recipe import PlaceShares, VoiceRecipe

ENTRIES = several()
CORPORA = Corpora.of(ENTRIES, truth_of(ENTRIES))
EVERY = np.arange(len(ENTRIES))


def shares(weights: np.ndarray, keys: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, weight in zip(keys, weights, strict=True):
        found[key] = found.get(key, 0.0) + float(weight)
    return found


def test_corpora_and_their_labels_are_equally_likely() -> None:
    weights = CORPORA.weights(EVERY, VoiceRecipe())
    assert weights.sum() == pytest.approx(1)
    by_corpus = shares(weights, [entry.dataset for entry in ENTRIES])
    assert all(share == pytest.approx(0.25) for share in by_corpus.values())
    cells = shares(weights, [f"{entry.dataset} {entry.label}" for entry in ENTRIES])
    for name, labels in (("alpha", 7), ("beta", 4), ("gamma", 5), ("ordinary", 1)):
        own = [share for cell, share in cells.items() if cell.startswith(name)]
        assert len(own) == labels
        assert own == pytest.approx([0.25 / labels] * labels)


def test_ordinary_talk_and_large_corpora_weigh_as_asked() -> None:
    by_corpus = shares(
        CORPORA.weights(EVERY, VoiceRecipe(corpus_power=1.0, ordinary=2.0)),
        [entry.dataset for entry in ENTRIES],
    )
    sizes = {"alpha": 84, "beta": 60, "gamma": 80, "ordinary": 24 * 2}
    for name, size in sizes.items():
        assert by_corpus[name] == pytest.approx(size / sum(sizes.values()))


def test_a_part_is_balanced_by_itself() -> None:
    part = EVERY[[entry.dataset != "beta" for entry in ENTRIES]][::2]
    by_corpus = shares(CORPORA.weights(part, VoiceRecipe()), [ENTRIES[i].dataset for i in part])
    assert by_corpus == pytest.approx({"alpha": 1 / 3, "gamma": 1 / 3, "ordinary": 1 / 3})


def test_batches_are_drawn_from_the_training_part_in_expectation_evenly() -> None:
    train = EVERY[[entry.dataset != "gamma" for entry in ENTRIES]]
    recipe = VoiceRecipe(draws=30_000)
    split = Split(train, EVERY[:0])
    objective = VoiceObjective(CORPORA, split, len(SEVEN_EMOTIONS), recipe, 0.1)
    options = COMPACT.audio_two.options
    batches = objective.batches(options, np.random.default_rng(0))
    assert {len(batch) for batch in batches[:-1]} == {options.batch}
    drawn = np.concatenate(batches)
    assert len(drawn) == objective.draws == 30_000
    assert set(drawn) <= set(train)
    counts = shares(np.full(len(drawn), 1 / len(drawn)), [ENTRIES[i].dataset for i in drawn])
    assert counts == pytest.approx({"alpha": 1 / 3, "beta": 1 / 3, "ordinary": 1 / 3}, abs=0.01)


def test_shares_out_of_range_are_refused() -> None:
    from train.errors import TrainError

    with pytest.raises(TrainError, match="clean"):
        VoiceRecipe(clean=1.5)
    with pytest.raises(TrainError, match="places"):
        VoiceRecipe(places=PlaceShares(0, 0, 0, 0))
