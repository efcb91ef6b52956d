"""Non-maximum suppression, against its definition."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.faces.mtcnn import (
    non_maximum_suppression,
)


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Boxes on a small field, so that many overlap, with scores that repeat."""
    count = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corner = rng.integers(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 25, (count, 2))], axis=1)
    return boxes.astype(np.float32), rng.integers(0, 100, count).astype(np.float32) / 100


def share(a: np.ndarray, b: np.ndarray, of_smaller: bool) -> float:
    """How much two boxes overlap, by the definition."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.prod(np.maximum(sides, 0))
    one, other = np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])
    return float(common / (min(one, other) if of_smaller else one + other - common))


@settings(max_examples=60)
@given(
    scored=scored_boxes(),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.95]),
    of_smaller=st.booleans(),
)
def test_suppression_keeps_the_best_of_each_heap(
    scored: tuple[np.ndarray, np.ndarray], threshold: float, of_smaller: bool
) -> None:
    boxes, probability = scored
    with mock.patch("mfer_edge.faces.mtcnn.BATCH", 7):
        kept = non_maximum_suppression(boxes, probability, threshold, of_smaller)
    assert (np.diff(probability[kept]) <= 0).all()
    assert len(set(kept.tolist())) == len(kept)
    for place, index in enumerate(kept):
        for other in kept[:place]:
            assert share(boxes[index], boxes[other], of_smaller) <= threshold + 1e-6
    for index in set(range(len(boxes))) - set(kept.tolist()):
        assert any(
            probability[other] >= probability[index]
            and share(boxes[index], boxes[other], of_smaller) > threshold - 1e-6
            for other in kept
        )


def test_suppression_of_a_box_within_another() -> None:
    boxes = np.array([[0, 0, 100, 100], [10, 10, 40, 40], [200, 0, 230, 30]], np.float32)
    probability = np.array([0.8, 0.9, 0.7], np.float32)
    assert non_maximum_suppression(boxes, probability, 0.7).tolist() == [1, 0, 2]
    assert non_maximum_suppression(boxes, probability, 0.7, of_smaller=True).tolist() == [1, 2]
