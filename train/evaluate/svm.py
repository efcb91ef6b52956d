"""The baseline beside the audio arm, as in the paper's Table III: an SVM on averaged features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.data.folds import Fold
from train.data.index import DatasetError
from train.evaluate.metrics import unweighted_recall

COSTS = (0.1, 1.0, 10.0, 100.0)  # values of C to choose from; scikit-learn's default is 1


def svm_baseline(
    sequences: Sequence[np.ndarray], labels: np.ndarray, folds: Sequence[Fold], classes: int
) -> list[np.ndarray]:
    """Train a support vector machine on each fold, and predict the fold's test part.

    Its input is the mean and the standard deviation over time of each clip's features, scaled as
    the training part is; its kernel is RBF. C is the one with the best unweighted recall on the
    validation part.

    Args:
        sequences: n clips' features, each (steps, width) or (steps, depth, width), steps > 0.
        labels: (n,) int64 true classes.
        classes: how many there are. One that a training part lacks is never predicted.

    Returns:
        For each fold the (len(fold.test), classes) float32 decision values.

    Raises:
        DatasetError: a fold has no validation part, or one class alone to train on; a clip has no
            steps, or features that are not finite.
    """
    for number, sequence in enumerate(sequences):
        if not len(sequence) or not np.isfinite(sequence).all():
            raise DatasetError(f"clip {number} has no features, or some that are not finite")
    features = np.stack([_over_time(sequence) for sequence in sequences])
    return [_judge(features, labels, fold, classes) for fold in folds]


def _over_time(sequence: np.ndarray) -> np.ndarray:
    steps = sequence.reshape(len(sequence), -1).astype(np.float64)  # half precision overflows
    return np.concatenate([steps.mean(0), steps.std(0)])


def _judge(features: np.ndarray, labels: np.ndarray, fold: Fold, classes: int) -> np.ndarray:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    known = np.unique(labels[fold.train])
    if not len(fold.valid):
        raise DatasetError(f"fold {fold.name}: no validation part to choose the SVM's C on")
    if len(known) < 2:
        raise DatasetError(f"fold {fold.name}: an SVM needs two classes to train on")
    machines = [
        make_pipeline(StandardScaler(), SVC(C=cost)).fit(features[fold.train], labels[fold.train])
        for cost in COSTS
    ]
    best = max(
        machines,  # of equals the first: the smoothest
        key=lambda m: unweighted_recall(m.predict(features[fold.valid]), labels[fold.valid]),
    )
    decisions = best.decision_function(features[fold.test])
    if decisions.ndim == 1:  # of two classes only the second's is given
        decisions = np.stack([-decisions, decisions], 1)
    logits = np.repeat(decisions.min(1, keepdims=True) - 1, classes, axis=1)
    logits[:, known] = decisions
    return logits.astype(np.float32)
