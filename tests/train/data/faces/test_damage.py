"""Damage to faces: within the range of grey levels, each in its own way, repeatable."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.synthetic import face_image
from train.data.faces import damage
from train.data.faces.damage import (
    DAMAGES,
    Damage,
    blur,
    damage_faces,
    half_light,
    jpeg,
    low_contrast,
    low_resolution,
    motion_blur,
    occlusion,
    overexposure,
)

KINDS = [damage for damage, _ in DAMAGES]
each_kind = pytest.mark.parametrize("damage", KINDS, ids=lambda damage: damage.__name__)


def faces(n: int) -> Tensor:
    random = np.random.default_rng(n)
    images = [face_image(k % 7, random) for k in range(n)]
    return torch.from_numpy(np.stack(images)).float()[:, None]


def damaged(damage: Damage, batch: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return damage(batch)


@each_kind
@pytest.mark.parametrize("n", [1, 9])
def test_every_damage_changes_faces_within_their_range(damage: Damage, n: int) -> None:
    batch = faces(n)
    before = batch.clone()
    result = damaged(damage, batch)
    assert torch.equal(batch, before)
    assert result.shape == batch.shape and result.dtype == torch.float32
    assert result.min() >= -1e-3 and result.max() <= 255 + 1e-3
    assert ((result - batch).abs().mean((1, 2, 3)) > 0.5).all()
    assert torch.equal(result, damaged(damage, batch))


def steepness(batch: Tensor) -> Tensor:
    return batch.diff(dim=3).abs().mean((1, 2, 3))


@pytest.mark.parametrize("damage", [low_resolution, blur, motion_blur, low_contrast])
def test_detail_is_lost(damage: Damage) -> None:
    batch = faces(14)
    for seed in range(5):
        assert (steepness(damaged(damage, batch, seed)) < steepness(batch)).all()


@pytest.mark.parametrize("damage", [blur, motion_blur])
def test_blur_keeps_the_brightness(damage: Damage) -> None:
    flat = torch.full((2, 1, 48, 48), 90.0)
    torch.testing.assert_close(damaged(damage, flat), flat)


def test_half_a_face_is_darker_than_the_other() -> None:
    flat = torch.full((40, 1, 48, 48), 200.0)
    result = damaged(half_light, flat)
    contrast = result.amax((1, 2, 3)) - result.amin((1, 2, 3))
    assert result.max() <= 200
    assert contrast.median() > 50


def test_overexposed_faces_are_brighter() -> None:
    batch = faces(10)
    assert (damaged(overexposure, batch) >= batch.clamp(max=255)).all()


def test_a_band_is_covered() -> None:
    batch = faces(60)
    changed = (damaged(occlusion, batch) != batch).float().mean((1, 2, 3))
    assert changed.min() > 0.02 and changed.max() < 0.4
    assert changed.unique().numel() > 8


def test_compression_leaves_whole_grey_levels() -> None:
    result = damaged(jpeg, faces(4))
    assert (result == result.round()).all()


@pytest.mark.parametrize("quality", [6, 25, 49])
def test_compression_loses_what_a_codec_does(quality: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "JPEG_QUALITY", (quality, quality + 1))
    batch = faces(8).round()
    coded = [
        cv2.imdecode(
            cv2.imencode(".jpg", face.byte().numpy(), [cv2.IMWRITE_JPEG_QUALITY, quality])[1],
            cv2.IMREAD_GRAYSCALE,
        )
        for face in batch[:, 0]
    ]
    difference = (jpeg(batch)[:, 0] - torch.from_numpy(np.stack(coded)).float()).abs()
    assert difference.mean() < 0.3 < (jpeg(batch) - batch).abs().mean()


def test_sides_that_blocks_do_not_divide_are_compressed() -> None:
    batch = faces(3)[:, :, :45, :45]
    result = damaged(jpeg, batch)
    assert result.shape == batch.shape
    assert 0.5 < (result - batch).abs().mean() < 20


def test_strength_is_the_share_of_faces_that_are_damaged() -> None:
    batch = faces(1).expand(2000, 1, 48, 48)
    torch.manual_seed(0)
    assert torch.equal(damage_faces(batch, 0.0), batch)
    for strength in (0.5, 1.0):
        torch.manual_seed(0)
        result = damage_faces(batch, strength)
        untouched = (result == batch).flatten(1).all(1).float().mean()
        expected = np.prod([1 - strength * share for _, share in DAMAGES])
        assert float(untouched) == pytest.approx(expected, abs=0.04)
        assert result.is_contiguous(memory_format=torch.channels_last)
        assert result.min() >= 0 and result.max() <= 255
