"""Frames are what a player shows: all orientations, any pixel shape."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.outputs.overlay import write_overlay
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis
from mfer_edge.sources.base import MAX_PIXELS, Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.geometry import MAX_STRETCH, Orientation, shown_size
from tests.support.analyses import analysis, reading
from tests.support.clips import write_clip
from tests.support.footage import filmed, images_of
from tests.support.paths import shared_cases

SIZE = 96, 64
COLOURS = np.array([[(40, 40, 220), (40, 200, 40)], [(220, 60, 40), (230, 230, 230)]], np.uint8)
QUADRANTS = np.kron(COLOURS, np.ones((SIZE[1] // 2, SIZE[0] // 2, 1), np.uint8))
MATRICES = {
    "none": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "half turn": (-1, 0, 0, -1),
    "flipped": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "quarter turn": (0, 1, -1, 0),
    "transversed": (0, -1, -1, 0),
    "three quarter turns": (0, -1, 1, 0),
}
"""a, b, c, d of each: (x, y) is shown at (a x + c y, b x + d y). In the order of EXIF's numbers."""


def first_image(path: Path) -> np.ndarray:
    with Clip(path) as clip:
        return next(item.image for item in clip if isinstance(item, Frame))


def with_matrix(path: Path, matrix: tuple[float, ...]) -> Path:
    """Write a display matrix into the first track of an mp4."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    a, b, c, d = (round(65536 * value) for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def with_exif(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG with an orientation in its EXIF data."""
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    tags = struct.pack("<HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tags
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def assert_shown(image: np.ndarray, matrix: tuple[float, ...]) -> None:
    """Each quadrant is where the matrix maps its centre."""
    a, b, c, d = matrix
    for row, y in enumerate((-1, 1)):
        for column, x in enumerate((-1, 1)):
            at_x, at_y = a * x + c * y, b * x + d * y
            height, width = image.shape[:2]
            pixel = image[round((2 + at_y) / 4 * height), round((2 + at_x) / 4 * width)]
            assert np.abs(pixel.astype(int) - COLOURS[row, column]).max() < 40


class TestOrientation:
    @pytest.mark.parametrize("name", MATRICES)
    def test_of_a_display_matrix(self, name: str, tmp_path: Path) -> None:
        matrix = MATRICES[name]
        plain = write_clip(tmp_path / "clip.mp4", 0.2, size=SIZE, video=lambda index: QUADRANTS)
        image = first_image(with_matrix(plain, matrix))
        assert image.shape == ((64, 96, 3) if matrix[0] else (96, 64, 3))
        assert image.flags.c_contiguous
        assert_shown(image, matrix)

    @pytest.mark.parametrize("number", range(1, 9))
    def test_of_exif_data_is_opencvs(self, number: int, tmp_path: Path) -> None:
        path = tmp_path / "photo.jpg"
        path.write_bytes(with_exif(QUADRANTS, number))
        image = first_image(path)
        assert_shown(image, list(MATRICES.values())[number - 1])
        expected = cv2.imread(str(path))
        assert expected is not None and image.shape == expected.shape
        assert np.abs(image.astype(int) - expected).mean() < 5  # but for chroma at the edges

    @given(st.tuples(*[st.sampled_from([-(1 << 31), -65536, -3, 0, 1, 65536, (1 << 31) - 1])] * 4))
    def test_any_matrix_gives_one_of_eight(self, values: tuple[int, ...]) -> None:
        a, b, c, d = values
        found = Orientation.of_matrix(struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30))
        assert found(QUADRANTS).size == QUADRANTS.size
        if a * d == b * c:
            assert found == Orientation()

    def test_of_a_slightly_turned_frame_is_the_nearest(self) -> None:
        slight = struct.pack("=9i", 3000, 65000, 0, -65000, 3000, 0, 0, 0, 1 << 30)
        assert Orientation.of_matrix(slight) == Orientation(transposed=True, mirrored=True)

    def test_a_mirrored_clip_is_read_as_a_player_shows_it(
        self, pipeline: Pipeline, anger_analysis: Analysis
    ) -> None:
        [window] = pipeline.analyze(shared_cases("o_mirror.mp4")).windows
        assert (window.frames, window.faces) == (21, 21)
        assert window.label == anger_analysis.windows[0].label

    @pytest.mark.parametrize("name", ["mirrored", "transposed", "three quarter turns"])
    def test_the_overlay_is_upright(self, name: str, tmp_path: Path) -> None:
        plain = write_clip(tmp_path / "clip.mp4", 0.2, size=SIZE, video=lambda index: QUADRANTS)
        source, out = with_matrix(plain, MATRICES[name]), tmp_path / "out.mp4"
        write_overlay(source, analysis([reading(0, 0.2)], 0.2), out)
        with av.open(str(out)) as written:
            assert next(written.decode(video=0)).rotation == 0
        assert_shown(first_image(out), MATRICES[name])


class TestPixelShape:
    @pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
    @pytest.mark.parametrize("shape", [Fraction(64, 45), Fraction(3, 4), Fraction(1)])
    def test_frames_have_square_pixels(self, ending: str, shape: Fraction, tmp_path: Path) -> None:
        path = tmp_path / f"clip{ending}"
        write_clip(path, 0.2, size=SIZE, video=lambda index: QUADRANTS, pixel_shape=shape)
        image = first_image(path)
        expected = {Fraction(64, 45): (64, 137), Fraction(3, 4): (85, 96), Fraction(1): (64, 96)}
        assert image.shape[:2] == expected[shape]
        assert_shown(image, MATRICES["none"])

    def test_with_a_quarter_turn(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.mp4"
        write_clip(path, 0.2, size=SIZE, video=lambda index: QUADRANTS, pixel_shape=Fraction(3, 2))
        image = first_image(with_matrix(path, MATRICES["quarter turn"]))
        assert image.shape[:2] == (144, 64)
        assert_shown(image, MATRICES["quarter turn"])

    @given(
        width=st.integers(64, 8192),
        height=st.integers(64, 8192),
        shape=st.fractions(Fraction(1, 1000), 1000),
    )
    def test_any_shape_keeps_its_ratio_and_is_bounded(
        self, width: int, height: int, shape: Fraction
    ) -> None:
        wide, high = shown_size(width, height, shape)
        assert wide >= 1 and high >= 1
        assert (
            wide * high <= 1.5 * MAX_STRETCH * width * height
        )  # rounding up to one pixel included
        if wide > 20 and high > 20:
            assert wide / high == pytest.approx(float(width / height * shape), rel=0.06)
        fits = MAX_STRETCH * width * height <= MAX_PIXELS
        if fits and 1 / MAX_STRETCH <= shape <= MAX_STRETCH:
            assert wide >= width and high >= height

    def test_reads_as_with_square_pixels(
        self, pipeline: Pipeline, moment: Path, tmp_path: Path
    ) -> None:
        """A wide-screen recording as broadcasts store it: 45/64 of its width."""
        images = images_of(moment)
        narrow = [cv2.resize(image, (448, 360), interpolation=cv2.INTER_AREA) for image in images]
        size = narrow[0].shape[1], narrow[0].shape[0]
        stored = write_clip(
            tmp_path / "narrow.mp4",
            len(images) / 5,
            5,
            size,
            video=lambda index: narrow[index],
            pixel_shape=Fraction(640, 448),
        )
        [expected] = pipeline.analyze(filmed(tmp_path / "wide.mp4", images, None)).windows
        [window] = pipeline.analyze(stored).windows
        assert window.faces == expected.faces == len(images)
        assert window.scores is not None and expected.scores is not None
        for label, score in expected.scores.items():
            assert window.scores[label] == pytest.approx(score, abs=0.05)

    def test_the_overlay_has_square_pixels(self, tmp_path: Path) -> None:
        source, out = tmp_path / "clip.mp4", tmp_path / "out.mp4"
        write_clip(
            source, 0.2, size=SIZE, video=lambda index: QUADRANTS, pixel_shape=Fraction(4, 3)
        )
        write_overlay(source, analysis([reading(0, 0.2)], 0.2), out)
        with av.open(str(out)) as written:
            assert written.streams.video[0].sample_aspect_ratio in (None, 1)
        assert first_image(out).shape[:2] == (64, 128)
