"""The face network."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.train.synthetic import face_image
from train.labels import FACE_EMOTIONS
from train.models.fer_resnet import FACE_EMBEDDING, FACE_SIZE, FerResnet


@functools.cache
def encoder() -> FerResnet:
    torch.manual_seed(0)
    network = FerResnet()
    network(pictures(64).float())  # gives batch norm statistics of its own
    return network.eval()


@functools.cache
def pictures(n: int) -> Tensor:
    random = np.random.default_rng(n)
    images = [face_image(k % len(FACE_EMOTIONS), random) for k in range(n)]
    return torch.from_numpy(np.stack(images))[:, None]


def embed(faces: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return encoder()(faces).numpy()


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The greatest, over the faces, in lengths of the embedding."""
    return float((np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max())


def test_it_is_small() -> None:
    assert sum(p.numel() for p in FerResnet().parameters()) <= 3_000_000


def test_a_face_gives_one_embedding() -> None:
    assert embed(pictures(5)).shape == (5, FACE_EMBEDDING)
    assert (encoder().size, encoder().width) == (FACE_SIZE, FACE_EMBEDDING)


def test_faces_differ() -> None:
    one, other = embed(pictures(7)[:1]), embed(pictures(7)[3:4])
    assert distance(one, other) > 0.05


def test_in_use_a_face_and_its_mirror_image_are_the_same() -> None:
    faces = pictures(7)
    np.testing.assert_allclose(embed(faces.flip(3)), embed(faces), atol=1e-5)
    with torch.inference_mode():
        learning = FerResnet().train()
        assert distance(learning(faces.flip(3)).numpy(), learning(faces).numpy()) > 0.01


@settings(max_examples=25)
@given(st.floats(0.3, 3.0), st.floats(-100.0, 100.0))
def test_lighting_does_not_matter(contrast: float, brightness: float) -> None:
    faces = pictures(4).float()
    assert distance(embed(contrast * faces + brightness), embed(faces)) < 0.01


def test_bytes_and_floats_are_the_same_face() -> None:
    np.testing.assert_array_equal(embed(pictures(4)), embed(pictures(4).float()))


@pytest.mark.parametrize("n", [2, 9, 64])
def test_a_face_does_not_see_the_others_of_its_batch(n: int) -> None:
    faces = pictures(n)
    alone = np.concatenate([embed(face[None]) for face in faces[:9]])
    np.testing.assert_allclose(embed(faces)[:9], alone, atol=1e-4)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_blank_picture_gives_finite_numbers(grey: int) -> None:
    assert np.isfinite(embed(torch.full((1, 1, 48, 48), grey, dtype=torch.uint8))).all()


def test_the_last_blocks_are_those_nearest_the_embedding() -> None:
    made = FerResnet()
    assert made.trainable(7) == [made.stem, *made.blocks]
    assert made.trainable(2) == list(made.blocks)[-2:]
    assert made.trainable(0) == []
    for number in (-1, 8):
        with pytest.raises(ValueError, match=f"{number} of 7"):
            made.trainable(number)
    assert sum(p.numel() for block in made.trainable(7) for p in block.parameters()) == sum(
        p.numel() for p in made.parameters()
    )
