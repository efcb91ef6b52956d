"""Random changes to faces: random, repeatable, and never beyond what is real."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.synthetic import face_image
from train.data.faces.augment import cover, vary_faces
from train.labels import FACE_EMOTIONS


def faces(n: int) -> Tensor:
    random = np.random.default_rng(n)
    images = [face_image(k % len(FACE_EMOTIONS), random) for k in range(n)]
    return torch.from_numpy(np.stack(images)).float()[:, None]


def varied(batch: Tensor, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    return vary_faces(batch).numpy()


@pytest.mark.parametrize("n", [1, 2, 37])
def test_varied_faces_are_faces_still(n: int) -> None:
    batch = faces(n)
    result = varied(batch, 0)
    assert result.shape == batch.shape
    assert result.dtype == np.float32
    # Noise is added last, of at most 6 grey levels.
    assert result.min() > -40
    assert result.max() < 295


@pytest.mark.parametrize("grey", [0.0, 255.0])
def test_black_and_white_pictures_stay_near_themselves(grey: float) -> None:
    result = varied(torch.full((16, 1, 48, 48), grey), 1)
    assert np.isfinite(result).all()
    assert np.abs(result.mean((1, 2, 3)) - grey).max() < 1


def test_varied_faces_repeat_with_the_seed_alone() -> None:
    batch = faces(8)
    np.testing.assert_array_equal(varied(batch, 5), varied(batch, 5))
    assert np.abs(varied(batch, 5) - varied(batch, 6)).mean() > 5


def test_equal_faces_are_varied_each_in_its_own_way() -> None:
    result = varied(faces(1).expand(12, 1, 48, 48), 0)
    for k in range(1, 12):
        assert np.abs(result[k] - result[0]).mean() > 2


def test_without_strength_faces_are_only_mirrored() -> None:
    batch = faces(40)
    torch.manual_seed(0)
    result = vary_faces(batch, 0.0).numpy()
    gaps = [
        np.abs(result - candidate.numpy()).max((1, 2, 3)) for candidate in (batch, batch.flip(3))
    ]
    assert np.minimum(*gaps).max() < 0.01
    assert 8 < (gaps[1] < gaps[0]).sum() < 32


def test_less_strength_changes_less() -> None:
    batch = faces(1).expand(60, 1, 48, 48)
    spread = []
    for strength in (0.0, 0.4, 1.0):
        torch.manual_seed(0)
        result = vary_faces(batch, strength).numpy()
        mirrored = np.minimum(
            np.abs(result - batch.numpy()).mean((1, 2, 3)),
            np.abs(result - batch.flip(3).numpy()).mean((1, 2, 3)),
        )
        spread.append(mirrored.mean())
    assert spread[0] < 0.1 * spread[1] < 0.1 * spread[2]


@pytest.mark.parametrize("together", [False, True])
def test_the_input_is_left_alone(together: bool) -> None:
    batch = faces(6)
    before = batch.clone()
    torch.manual_seed(0)
    vary_faces(batch, together=together)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("seed", range(20))
def test_one_face_over_time_is_changed_alike_but_for_noise(seed: int) -> None:
    torch.manual_seed(seed)
    result = vary_faces(faces(1).expand(12, 1, 48, 48), together=True).numpy()
    gap = result[1:] - result[:1]
    assert np.abs(gap.mean((1, 2, 3))).max() < 1  # grey levels
    assert gap.std((1, 2, 3)).max() < 2**0.5 * 6.5  # two times noise of at most 6


def test_one_face_over_time_is_changed_anew_every_time() -> None:
    face = faces(1)
    torch.manual_seed(0)
    results = [vary_faces(face.expand(3, 1, 48, 48), together=True) for _ in range(12)]
    for k in range(1, 12):
        assert (results[k][0] - results[0][0]).abs().mean() > 2


def test_what_moves_in_a_face_over_time_moves_still() -> None:
    """A lamp goes on: no frame's contrast is stretched by itself to make up for it."""
    lamp = torch.linspace(0.3, 1.0, 8).view(8, 1, 1, 1)
    for seed in range(40):
        torch.manual_seed(seed)
        result = vary_faces(faces(1) * lamp, together=True)
        assert (result.mean((1, 2, 3)).diff() > 0).all(), seed


@pytest.mark.parametrize("together", [False, True])
def test_faces_come_in_the_layout_that_convolutions_want(together: bool) -> None:
    result = vary_faces(faces(5), together=together)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_contrast_is_stretched_in_a_fifth_of_the_faces() -> None:
    """A dull face has all of black to white then; nothing else could give it that."""
    dull = 128 + (faces(400) - 128) * 0.1
    torch.manual_seed(0)
    result = vary_faces(dull).numpy()
    wide = np.percentile(result, 98, (1, 2, 3)) - np.percentile(result, 2, (1, 2, 3)) > 110
    assert 0.12 < wide.mean() < 0.28


def test_faces_are_mirrored_half_of_the_time_and_never_upside_down() -> None:
    ramp = torch.linspace(30, 220, 48)
    to_the_right = varied(ramp.expand(200, 1, 48, 48), 0)
    slope = to_the_right[:, 0, :, 36:].mean((1, 2)) - to_the_right[:, 0, :, :12].mean((1, 2))
    assert 0.4 < (slope < 0).mean() < 0.6
    downwards = varied(ramp[:, None].expand(200, 1, 48, 48), 0)
    assert (downwards[:, 0, 36:].mean((1, 2)) > downwards[:, 0, :12].mean((1, 2))).all()


def test_half_of_the_faces_are_partly_covered_with_their_mean() -> None:
    torch.manual_seed(0)
    batch = faces(400)
    covered = (cover(batch) != batch).numpy()
    share = covered.mean((1, 2, 3))
    assert 0.4 < (share > 0).mean() < 0.6
    assert share.max() <= 0.2
    result = cover(batch).numpy()
    mask = result != batch.numpy()
    means = batch.mean((1, 2, 3)).numpy()
    for face, where, mean in zip(result, mask, means, strict=True):
        np.testing.assert_allclose(face[where], mean, atol=1e-3)


def test_a_face_over_time_is_covered_in_one_place() -> None:
    batch = faces(40)
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        covered = cover(batch, together=True) != batch
        places = covered.any(0)[0]
        assert torch.equal(covered.float().mean(0)[0] > 0.9, places)
        seen.add(bool(places.any()))
    assert seen == {False, True}


def test_varied_faces_are_covered_half_of_the_time() -> None:
    """What is covered is flat, and nothing else is: there is noise on it."""
    flat = [np.unique(face, return_counts=True)[1].max() for face in varied(faces(300), 0)]
    assert 0.4 < (np.array(flat) >= 10).mean() < 0.6
