"""The SVM baseline, on features whose truth is known and against scikit-learn used by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from train.data.folds import Fold
from train.data.index import DatasetError
from train.evaluate.svm import COSTS, svm_baseline

N, CLASSES = 90, 3
LABELS = np.arange(N) % CLASSES
PARTS = np.array_split(np.random.default_rng(3).permutation(N), 3)
FOLDS = [Fold(str(k), PARTS[k], PARTS[k - 1], PARTS[k - 2]) for k in range(3)]


def clips(noise: float = 0.3) -> list[np.ndarray]:
    """(steps, 4) features: class 1 has another mean, class 2 moves more."""
    random = np.random.default_rng(0)
    made = []
    for label in LABELS:
        steps = random.normal(0, 1, (int(random.integers(20, 40)), 4)) * (3 if label == 2 else 1)
        steps += random.normal(0, noise, 4) + (3 if label == 1 else 0)
        made.append(steps.astype(np.float32))
    return made


def test_means_and_deviations_tell_the_classes_apart() -> None:
    for fold, logits in zip(FOLDS, svm_baseline(clips(), LABELS, FOLDS, CLASSES), strict=True):
        assert logits.shape == (len(fold.test), CLASSES)
        assert logits.dtype == np.float32
        assert (logits.argmax(1) == LABELS[fold.test]).mean() > 0.9


def test_it_is_the_svm_that_scikit_learn_gives_by_hand() -> None:
    sequences, fold = clips(noise=3.0), FOLDS[0]
    table = np.stack([np.r_[s.mean(0, dtype=float), s.std(0, dtype=float)] for s in sequences])
    scaler = StandardScaler().fit(table[fold.train])
    recalls, decisions = [], []
    for cost in COSTS:
        machine = SVC(C=cost).fit(scaler.transform(table[fold.train]), LABELS[fold.train])
        said = machine.predict(scaler.transform(table[fold.valid]))
        truth = LABELS[fold.valid]
        recalls.append(np.mean([(said[truth == k] == k).mean() for k in range(CLASSES)]))
        decisions.append(machine.decision_function(scaler.transform(table[fold.test])))
    assert max(recalls) > min(recalls)  # there is something to choose
    [logits] = svm_baseline(sequences, LABELS, [fold], CLASSES)
    np.testing.assert_allclose(logits, decisions[int(np.argmax(recalls))], rtol=1e-4, atol=1e-5)


def test_layers_of_an_encoder_count_as_more_features() -> None:
    flat = clips()
    deep = [sequence.reshape(-1, 2, 2) for sequence in flat]
    for one, other in zip(
        svm_baseline(flat, LABELS, FOLDS, CLASSES),
        svm_baseline(deep, LABELS, FOLDS, CLASSES),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_truth_of_the_test_part_changes_nothing() -> None:
    fold = FOLDS[1]
    other = LABELS.copy()
    other[fold.test] = 0
    [logits] = svm_baseline(clips(), LABELS, [fold], CLASSES)
    [blind] = svm_baseline(clips(), other, [fold], CLASSES)
    np.testing.assert_array_equal(logits, blind)


def test_a_clip_is_judged_alike_whatever_else_is_in_the_test_part() -> None:
    fold = FOLDS[0]
    [every] = svm_baseline(clips(), LABELS, [fold], CLASSES)
    alone = Fold("0", fold.train, fold.valid, fold.test[:1])
    [one] = svm_baseline(clips(), LABELS, [alone], CLASSES)
    np.testing.assert_allclose(one, every[:1], rtol=1e-6)


def test_a_class_that_was_not_trained_is_never_named() -> None:
    known = [np.array([i for i in part if LABELS[i] != 1]) for part in PARTS]
    fold = Fold("0", known[0], known[1], PARTS[2])
    [logits] = svm_baseline(clips(), LABELS, [fold], CLASSES + 2)
    assert logits.shape == (len(PARTS[2]), CLASSES + 2)
    assert np.isfinite(logits).all()
    assert set(logits.argmax(1)) == {0, 2}
    told = LABELS[fold.test] != 1
    assert (logits.argmax(1) == LABELS[fold.test])[told].mean() > 0.9


def test_half_precision_features_do_not_overflow() -> None:
    # The sums over time are beyond float16, whose largest number is 65,504.
    half = [(2000 * sequence).astype(np.float16) for sequence in clips()]
    for fold, logits in zip(FOLDS, svm_baseline(half, LABELS, FOLDS, CLASSES), strict=True):
        assert (logits.argmax(1) == LABELS[fold.test]).mean() > 0.9


def test_what_can_not_be_done_is_said() -> None:
    none = np.array([], int)
    with pytest.raises(DatasetError, match="fold x: no validation part"):
        svm_baseline(clips(), LABELS, [Fold("x", PARTS[0], none, PARTS[2])], CLASSES)
    zeros = np.flatnonzero(LABELS == 0)
    with pytest.raises(DatasetError, match="fold x: an SVM needs two classes"):
        svm_baseline(clips(), LABELS, [Fold("x", zeros, PARTS[1], PARTS[2])], CLASSES)
    for bad in (np.zeros((0, 4), np.float32), np.full((2, 4), np.inf, np.float32)):
        with pytest.raises(DatasetError, match="clip 89 has no features, or some that are not"):
            svm_baseline([*clips()[:-1], bad], LABELS, FOLDS, CLASSES)
