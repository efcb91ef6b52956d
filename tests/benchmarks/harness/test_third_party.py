"""Replaced parts of third-party packages, and the error where a package is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.harness import third_party
from mfer_edge.errors import MferError


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(
        MferError, match=r"silero-vad can't be imported.*pip install --no-deps .*sil"
    ):
        third_party.silero()


def batched_nms_oracle(
    boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float
) -> list[int]:
    """torchvision's `batched_nms`, by its documentation: a plain loop, box by box."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        left, top, right, bottom = boxes[index]
        for other in kept:
            width = min(right, boxes[other, 2]) - max(left, boxes[other, 0])
            height = min(bottom, boxes[other, 3]) - max(top, boxes[other, 1])
            intersection = max(width, np.float32(0)) * max(height, np.float32(0))
            areas = [(r - x) * (b - y) for x, y, r, b in boxes[[index, other]]]
            iou = float(intersection / (areas[0] + areas[1] - intersection))
            if groups[other] == groups[index] and iou > iou_threshold:
                break
        else:
            kept.append(index)
    return kept


@settings(max_examples=150)
@given(
    count=st.integers(0, 40),
    seed=st.integers(0, 2**32 - 1),
    threshold=st.sampled_from([0.3, 0.5, 0.7]),
    off_grid=st.sampled_from([0.0, 0.01]),  # on the grid many IoUs equal the threshold or nearly
)
def test_suppression_is_torchvisions(
    count: int, seed: int, threshold: float, off_grid: float
) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(-5, 25, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 25, (count, 2))], axis=1)
    boxes = (boxes + off_grid * rng.random(boxes.shape)).astype(np.float32)
    scores = (rng.integers(1, 30, count) / 30).astype(np.float32)  # some are equal
    groups = rng.integers(0, 2, count)
    found = third_party.batched_nms(*map(torch.from_numpy, (boxes, scores, groups)), threshold)
    assert found.dtype == torch.int64
    assert found.tolist() == batched_nms_oracle(boxes, scores, groups, threshold)


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (0.3, [0]),  # in single precision it is more than that
        (0.5, [0, 1]),  # that
        (0.7, [0, 1]),  # and less
    ],
)
def test_a_threshold_is_not_rounded(share: float, kept: list[int]) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 10 * share, 1]])
    scores, groups = torch.tensor([0.9, 0.8]), torch.tensor([0, 0])
    assert third_party.batched_nms(boxes, scores, groups, share).tolist() == kept


def test_boxes_without_an_area_stay() -> None:
    scores, groups = torch.tensor([0.8, 0.9]), torch.tensor([0, 0])
    assert third_party.batched_nms(torch.ones(2, 4), scores, groups, 0.5).tolist() == [1, 0]
