"""Recall of a corpus when an arm is adapted to some of its recordings, without their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from train.evaluate.metrics import closed_recall
from train.models.arms import StatisticsArm
from train.voices.statistics import adapted_place

REPEATS = 5  # random choices of the recordings to adapt to


@torch.no_grad()
def adapted_recalls(
    arm: StatisticsArm,
    sequences: Sequence[np.ndarray],
    truth: np.ndarray,
    counts: Sequence[int],
    seed: int = 0,
) -> Mapping[int, tuple[float, ...]]:
    """Measure closed recall on the recordings that a place is not heard in.

    Args:
        arm: that was not trained on the corpus.
        sequences: features of n recordings of one corpus.
        truth: (n,) classes.
        counts: recordings to adapt to; those that leave less than half of the corpus are skipped.

    Returns:
        By count, the recall after each random choice.
    """
    random = np.random.default_rng(seed)
    observed = [arm.observations(torch.from_numpy(s.astype(np.float32))) for s in sequences]
    standardised = arm.standardise(torch.cat(observed))
    recalls = {}
    for count in counts:
        if 2 * count > len(sequences):
            continue
        drawn = []
        for _ in range(REPEATS):
            order = random.permutation(len(sequences))
            heard, rest = order[:count], order[count:]
            place = adapted_place(standardised[heard])
            logits = arm.classifier(arm.state_of(standardised[rest], place)).numpy()
            drawn.append(closed_recall(logits, truth[rest]))
        recalls[count] = tuple(drawn)
    return recalls
