"""Crops of faces, as the face backbone takes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.manifest import Crop

AS_IS = Crop(48, 1.0)


HEIGHT, WIDTH = 120, 160


RNG = np.random.default_rng(0)


def grey_image(levels: np.ndarray) -> np.ndarray:
    """A colour image whose grey levels are known exactly."""
    return np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)


def box(left: float, top: float, right: float, bottom: float) -> FaceBox:
    return FaceBox(left, top, right, bottom, 1.0)


LEVELS = RNG.integers(0, 256, (HEIGHT, WIDTH))
PICTURE = grey_image(LEVELS)


def repeated(left: int, top: int, side: int) -> np.ndarray:
    """What lies in a square, the border repeated: NumPy's own padding as the oracle."""
    far = 400
    padded = np.pad(LEVELS, far, mode="edge")
    return padded[top + far : top + far + side, left + far : left + far + side]


class TestCrop:
    def test_a_box_of_the_size_is_cut_out_as_it_is(self) -> None:
        crop = crop_face(PICTURE, box(30, 20, 78, 68), AS_IS)
        assert crop.dtype == np.uint8
        assert (crop == LEVELS[20:68, 30:78]).all()

    @pytest.mark.parametrize(
        ("left", "top"),
        [(-10, 20), (30, -10), (-10, -10), (140, 20), (30, 100), (140, 100), (-47, -47)],
        ids=["left", "top", "both", "right", "bottom", "corner", "a pixel"],
    )
    def test_what_sticks_out_repeats_the_border(self, left: int, top: int) -> None:
        crop = crop_face(PICTURE, box(left, top, left + 48, top + 48), AS_IS)
        assert (crop == repeated(left, top, 48)).all()

    @pytest.mark.parametrize(
        ("left", "top"),
        [(-200, 40), (300, 40), (60, -200), (60, 300), (300, 300), (-200, -200)],
        ids=["left", "right", "above", "below", "corner", "other corner"],
    )
    def test_wholly_outside(self, left: int, top: int) -> None:
        crop = crop_face(PICTURE, box(left, top, left + 48, top + 48), AS_IS)
        assert (crop == repeated(left, top, 48)).all()

    def test_larger_than_the_image(self) -> None:
        crop = crop_face(PICTURE, box(-16, -36, 176, 156), AS_IS)  # 192 pixels: 4 for one
        means = repeated(-16, -36, 192).reshape(48, 4, 48, 4).mean(axis=(1, 3))
        assert np.abs(crop - means).max() <= 0.5

    def test_shrinking_averages(self) -> None:
        crop = crop_face(PICTURE, box(10, 5, 106, 101), AS_IS)  # 96 pixels: 2 for one
        means = LEVELS[5:101, 10:106].reshape(48, 2, 48, 2).mean(axis=(1, 3))
        assert np.abs(crop - means).max() <= 0.5

    def test_growing_interpolates(self) -> None:
        ramp = grey_image(np.tile(np.arange(WIDTH), (HEIGHT, 1)))
        crop = crop_face(ramp, box(40, 40, 64, 64), AS_IS)  # 24 pixels: half a one for each
        expected = np.clip(40 + (np.arange(48) + 0.5) / 2 - 0.5, 40, 63)
        assert np.abs(crop - expected).max() <= 0.5

    def test_a_long_box_gives_a_square_around_its_centre(self) -> None:
        crop = crop_face(PICTURE, box(40, 20, 60, 68), AS_IS)
        assert (crop == LEVELS[20:68, 26:74]).all()
        crop = crop_face(PICTURE, box(26, 34, 74, 54), AS_IS)
        assert (crop == LEVELS[20:68, 26:74]).all()

    def test_scale_widens_around_the_centre(self) -> None:
        crop = crop_face(PICTURE, box(38, 28, 70, 60), Crop(48, 1.5))
        assert (crop == LEVELS[20:68, 30:78]).all()

    def test_grey_is_the_eyes_own(self) -> None:
        """Blue, green and red weigh as in ITU-R BT.601."""
        for colour, weight in enumerate((0.114, 0.587, 0.299)):
            image = np.zeros((60, 60, 3), np.uint8)
            image[:, :, colour] = 255
            crop = crop_face(image, box(5, 5, 53, 53), AS_IS)
            assert np.abs(crop.astype(float) - 255 * weight).max() <= 0.5

    def test_image_is_left_as_it_was(self) -> None:
        image = PICTURE.copy()
        crop = crop_face(image, box(30, 20, 78, 68), AS_IS)
        crop[:] = 0
        assert (image == PICTURE).all()

    @given(
        height=st.integers(1, 60),
        width=st.integers(1, 60),
        corner=st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
        sides=st.tuples(st.floats(0, 300), st.floats(0, 300)),
        size=st.integers(1, 64),
        scale=st.floats(0.1, 3),
    )
    @settings(max_examples=200)
    def test_any_box_in_any_image(
        self,
        height: int,
        width: int,
        corner: tuple[float, float],
        sides: tuple[float, float],
        size: int,
        scale: float,
    ) -> None:
        image = np.random.default_rng(height * 61 + width).integers(
            90, 160, (height, width, 3), np.uint8
        )
        left, top = corner
        found = box(left, top, left + sides[0], top + sides[1])
        crop = crop_face(image, found, Crop(size, scale))
        assert crop.shape == (size, size) and crop.dtype == np.uint8
        assert crop.min() >= 90 and crop.max() < 160  # nothing that is not in the image
