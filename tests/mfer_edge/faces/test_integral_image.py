"""Area resampling: PyTorch's bins, from a summed-area table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.faces.integral_image import IntegralImage


@settings(max_examples=40)
@given(data=st.data(), height=st.integers(30, 120), width=st.integers(30, 120))
def test_a_part_of_a_resized_image(data: st.DataObject, height: int, width: int) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    left, top = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 20))
    right, bottom = data.draw(st.integers(left + 1, 29)), data.draw(st.integers(top + 1, 24))
    integral = IntegralImage(image)
    whole, part = integral.resized(25, 30), integral.resized(25, 30, (left, top, right, bottom))
    np.testing.assert_array_equal(part, whole[top:bottom, left:right])


sides = st.integers(1, 60)


@settings(max_examples=60)
@given(height=sides, width=sides, rows=sides, columns=sides, seed=st.integers(0, 99))
def test_resized_is_pytorchs_area_mode(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(planes, (rows, columns), mode="area")
    ours = IntegralImage(image).resized(rows, columns)
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0).numpy(), atol=1e-4)


@settings(max_examples=60)
@given(data=st.data(), size=st.sampled_from([1, 5, 24, 48]), seed=st.integers(0, 99))
def test_crops_are_the_parts_resized(data: st.DataObject, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (40, 70, 3), np.uint8)
    spans = []
    for _ in range(data.draw(st.integers(0, 4))):
        left, top = data.draw(st.integers(0, 69)), data.draw(st.integers(0, 39))
        right, bottom = data.draw(st.integers(left + 1, 70)), data.draw(st.integers(top + 1, 40))
        spans.append((left, top, right, bottom))
    crops = IntegralImage(image).crops(np.array(spans, np.int64).reshape(-1, 4), size)
    assert crops.shape == (len(spans), size, size, 3)
    for crop, (left, top, right, bottom) in zip(crops, spans, strict=True):
        part = IntegralImage(image[top:bottom, left:right]).resized(size, size)
        np.testing.assert_array_equal(crop, part)


def test_sums_of_a_very_large_white_image_do_not_overflow() -> None:
    integral = IntegralImage(np.full((3000, 4000, 3), 255, np.uint8))  # 3.06e9 > 2**31
    np.testing.assert_allclose(integral.resized(7, 9), 255, rtol=1e-6)
    np.testing.assert_allclose(integral.crops(np.array([[9, 8, 4000, 3000]]), 3), 255, rtol=1e-6)
