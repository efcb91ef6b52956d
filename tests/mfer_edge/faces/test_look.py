"""Cuts are told from movement by the look of a face and of the scene around it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.look import Look, Scene
from mfer_edge.model import Model
from tests.support.footage import at_a_dark_wall
from tests.support.sessions import Stream


def looks(model: Model, images: list[np.ndarray]) -> list[Look]:
    """Of the largest face in each image."""
    return [
        Look.of(Scene.of(image), crop_face(image, model.detector(image)[0], model.manifest.crop))
        for image in images
    ]


@pytest.fixture(scope="module")
def his(model: Model, stream: Stream) -> list[Look]:
    return looks(model, [frame.image for frame in stream.frames])


@pytest.fixture(scope="module")
def hers(model: Model, other_stream: Stream) -> list[Look]:
    return looks(model, [frame.image for frame in other_stream.frames])


def test_no_shot_is_cut(his: list[Look], hers: list[Look]) -> None:
    """Even with only every fourth frame of them: 0.8 s of acted anger lie between."""
    for shot in (his, hers, his[::2], hers[::2], his[::4], hers[::4]):
        assert not any(later.is_cut_from(earlier) for earlier, later in pairwise(shot))


def test_another_person_in_another_scene_is_a_cut(
    model: Model, his: list[Look], other_stream: Stream
) -> None:
    elsewhere = looks(model, [at_a_dark_wall(f.image) for f in other_stream.frames[::4]])
    for there in elsewhere:
        assert not any(there.is_cut_from(other) for other in elsewhere)
        assert all(there.is_cut_from(here) and here.is_cut_from(there) for here in his)


@pytest.mark.parametrize(("gain", "offset"), [(0.6, 0), (1.3, 0), (0.7, 60), (1.0, 40)])
def test_light_is_no_cut(model: Model, stream: Stream, gain: float, offset: int) -> None:
    image = stream.frames[5].image
    lit = np.clip(image * gain + offset, 0, 255).astype(np.uint8)
    dark, light = looks(model, [image, lit])
    assert not light.is_cut_from(dark) and not dark.is_cut_from(light)


def test_a_camera_that_pans_is_no_cut(model: Model, stream: Stream) -> None:
    image = stream.frames[5].image
    panned = np.pad(image, ((0, 0), (40, 0), (0, 0)), "edge")[:, : image.shape[1]]
    before, after = looks(model, [image, panned])
    assert not after.is_cut_from(before)


def test_plain_areas_are_alike() -> None:
    """Correlations of areas without any structure are not defined; they must not be cuts."""
    black, grey = (np.full((90, 160, 3), level, np.uint8) for level in (0, 128))
    face = np.zeros((48, 48), np.uint8)
    assert Scene.of(black).change(Scene.of(black)) == 0
    assert not Look.of(Scene.of(grey), face).is_cut_from(Look.of(Scene.of(black), face))


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_scenes_of_any_size(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    assert Scene.of(image).change(Scene.of(image)) == pytest.approx(0, abs=1e-6)
