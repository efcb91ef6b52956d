"""Embedding cache: an embedding is reused only where the crop is like the embedded one."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.live.views import both_views
from mfer_edge.arms import ArmOutput, VisualArm
from mfer_edge.cli.main import main
from mfer_edge.faces.embedding_cache import (
    FEW,
    CachedFace,
    EmbeddingCache,
    embed_missing,
    embed_window,
)
from mfer_edge.faces.integral_image import IntegralImage
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.model import Model
from mfer_edge.options import SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading
from mfer_edge.session import Session
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.footage import filmed, images_of

FRAME_S = 0.2
LEVELS = 5.0


def grey(level: int) -> np.ndarray:
    return np.full((4, 4), level, np.uint8)


class TestCache:
    def test_a_small_change_shares_the_embedding(self) -> None:
        still = EmbeddingCache(2.0)
        [first] = still([7], [grey(100)])
        assert still([7], [grey(102)]) == [first]
        [other] = still([7], [grey(103)])
        assert other is not first
        assert (other.crop == 103).all()

    def test_darker_counts_as_lighter(self) -> None:
        still = EmbeddingCache(2.0)
        [first] = still([0], [grey(1)])
        assert still([0], [grey(0)]) == [first]  # in bytes, 0 - 1 is 255
        assert still([0], [grey(4)]) != [first]

    @given(levels=st.lists(st.integers(0, 255), min_size=1), most=st.integers(1, 40))
    def test_no_crop_is_farther_away_than_allowed(self, levels: list[int], most: int) -> None:
        """However many small changes there were before."""
        still = EmbeddingCache(most)
        for level in levels:
            [cached] = still([0], [grey(level)])
            assert abs(int(cached.crop[0, 0]) - level) <= most

    def test_faces_don_t_mix(self) -> None:
        still = EmbeddingCache(2.0)
        one, other = still([0, 1], [grey(10), grey(200)])
        assert still([1, 0], [grey(201), grey(9)]) == [other, one]
        [third] = still([2], [grey(10)])
        assert third not in (one, other)

    def test_a_face_that_was_gone_is_embedded_again(self) -> None:
        still = EmbeddingCache(2.0)
        first = still([0], [grey(10)])
        still([], [])
        assert still([0], [grey(10)]) != first

    def test_off_not_even_the_same_image_is_skipped(self) -> None:
        still = EmbeddingCache(0.0)
        assert still([0], [grey(10)]) != still([0], [grey(10)])


class TestViews:
    """Every second crop is mirrored, for a face engine that is better on both views."""

    def test_every_second_crop_of_a_face_is_mirrored(self) -> None:
        cache = EmbeddingCache(0.0, mirror=True)
        rows = [cache([0], [grey(10)]), cache([0, 1], [grey(10), grey(20)])]
        rows += [cache([1, 0], [grey(20), grey(10)]), cache([], []), cache([0], [grey(10)])]
        mirrored = [[face.mirror for face in row] for row in rows]
        assert mirrored == [[False], [True, False], [True, False], [], [False]]
        plain = EmbeddingCache(0.0)
        assert not any(face.mirror for _ in range(3) for face in plain([0], [grey(10)]))

    def test_a_crop_that_is_embedded_for_others_keeps_its_view(self) -> None:
        cache = EmbeddingCache(2.0, mirror=True)
        levels = [10, 11, 50, 51, 90, 91]
        faces = [face for level in levels for face in cache([0], [grey(level)])]
        assert [face.mirror for face in faces] == [False, False, True, True, False, False]

    @pytest.mark.parametrize("mirror", [False, True])
    def test_views_are_the_crop_and_its_mirror_image(self, mirror: bool) -> None:
        crop = np.arange(16, dtype=np.uint8).reshape(4, 4)
        face = CachedFace(crop, mirror)
        np.testing.assert_array_equal(face.view(int(mirror)), crop)
        np.testing.assert_array_equal(face.view(int(not mirror)), np.fliplr(crop))

    @given(counts=st.lists(st.integers(1, 2 * FEW), min_size=1, max_size=5))
    def test_a_window_s_embeddings_depend_on_its_crops_alone(self, counts: list[int]) -> None:
        """Not on the windows before, in which some of them were, nor on what was prepared."""
        crops = np.random.default_rng(0).integers(0, 256, (2 * FEW, 4, 4), dtype=np.uint8)
        faces = [CachedFace(crop, bool(number % 2)) for number, crop in enumerate(crops)]
        embed_missing(faces[:1], first_column)
        for count in counts:
            expected = crops[:count, :, 0].astype(np.float32)
            other = crops[:count, :, -1].astype(np.float32)
            if count < FEW:
                expected = (expected + other) / 2
            else:
                expected[1::2] = other[1::2]
            found = embed_window(faces[:count], first_column, mirror=True)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)

    def test_without_views_each_crop_is_embedded_once(self) -> None:
        calls: list[int] = []

        def embed(crops: np.ndarray) -> np.ndarray:
            calls.append(len(crops))
            return first_column(crops)

        face, other = CachedFace(grey(1)), CachedFace(grey(2))
        found = embed_window([face, face, other], embed, mirror=False)
        embed_window([other], embed, mirror=False)
        assert (found[:, 0].tolist(), calls) == ([1.0, 1.0, 2.0], [2])


def first_column(crops: np.ndarray) -> np.ndarray:
    return crops[:, :, 0].astype(np.float32)


class CountingArm(VisualArm):
    """The visual arm; records what it embeds."""

    def __init__(self, arm: VisualArm) -> None:
        self._arm = arm
        self.embedded: list[np.ndarray] = []

    def embed(self, faces: np.ndarray) -> np.ndarray:
        self.embedded += list(faces)
        return self._arm.embed(faces)

    def __call__(self, embeddings: np.ndarray) -> ArmOutput:
        return self._arm(embeddings)


class FixedDetector(FaceDetector):
    """A detector that finds the face where it was in the first frame."""

    def __init__(self, detector: FaceDetector, box: FaceBox) -> None:
        super().__init__(detector.pnet, detector.rnet, detector.onet)
        self._box = box

    def search(self, image: IntegralImage, near: Sequence[FaceBox] | None = None) -> list[FaceBox]:
        return [self._box]


@pytest.fixture(scope="module")
def model(pipeline: Pipeline, images: list[np.ndarray]) -> Model:
    """The compact model without mirror images, so that equal crops give equal embeddings."""
    detector, bundle = pipeline.model.detector, pipeline.bundle
    crop = replace(bundle.manifest.crop, mirror=False)
    return replace(
        pipeline.model,
        detector=FixedDetector(detector, detector(images[0])[0]),
        bundle=replace(bundle, manifest=replace(bundle.manifest, crop=crop)),
    )


@pytest.fixture(scope="module")
def images(anger: Path) -> list[np.ndarray]:
    return images_of(anger)


def read(model: Model, images: list[np.ndarray], options: SessionOptions) -> list[Reading]:
    session = Session(model, options, has_audio=False)
    for index, image in enumerate(images):
        session.push_frame(image, index * FRAME_S)
    session.close()
    return session.readings()


def test_a_single_picture_is_read_by_both_views(
    pipeline: Pipeline, images: list[np.ndarray]
) -> None:
    both, options = both_views(pipeline.model), SessionOptions(2.0, 2.0)
    for count in range(1, FEW):
        [expected] = read(both, images[:count], options)
        [given_] = read(pipeline.model, images[:count], options)
        assert given_.visual == pytest.approx(expected.visual, abs=1e-5)


class TestSessions:
    def test_a_face_that_holds_still_is_embedded_once(
        self, model: Model, images: list[np.ndarray]
    ) -> None:
        noise = np.random.default_rng(0).integers(-3, 4, (40, *images[0].shape))
        still = [(images[0] + n).clip(0, 255).astype(np.uint8) for n in noise]
        arm = CountingArm(model.visual)
        options = SessionOptions(2.0, 0.5, skip_still=LEVELS)
        readings = read(replace(model, visual=arm), still, options)
        # It is reused in windows that the first frame is no longer in.
        assert len(arm.embedded) == 1
        assert [reading.reused for reading in readings] == [9] * 13
        exact = read(model, still, SessionOptions(2.0, 0.5))
        assert {reading.reused for reading in exact} == {0}
        for given_, expected in zip(readings, exact, strict=True):
            assert given_.scores and expected.scores
            # The noise alone moves the scores of this face by 0.036.
            assert given_.scores == pytest.approx(expected.scores, abs=0.05)

    def test_whoever_moves_is_read_exactly(self, model: Model, images: list[np.ndarray]) -> None:
        moving = images[8:14]
        arm = CountingArm(model.visual)
        skipping = read(
            replace(model, visual=arm), moving, SessionOptions(2.0, 0.5, skip_still=1.0)
        )
        assert skipping == read(model, moving, SessionOptions(2.0, 0.5))
        assert len(arm.embedded) == len(moving)

    def test_what_is_reused_is_the_exact_embedding_of_a_frame(
        self, model: Model, images: list[np.ndarray]
    ) -> None:
        """Two images in turn, repeated: as if each were embedded by itself."""
        first, second = images[0], images[8]
        film = [first] * 3 + [second] * 4 + [first] * 3
        arm = CountingArm(model.visual)
        options = SessionOptions(2.0, 2.0, skip_still=LEVELS)
        [reading] = read(replace(model, visual=arm), film, options)
        [exact] = read(model, film, replace(options, skip_still=0.0))
        assert (len(arm.embedded), reading.reused, reading.faces) == (3, 7, 10)
        assert reading.scores == pytest.approx(exact.scores, abs=1e-5)

    def test_how_a_stream_is_cut_does_not_show(
        self, model: Model, images: list[np.ndarray]
    ) -> None:
        options = SessionOptions(2.0, 0.5, skip_still=8.0)
        film = [image for image in images for _ in range(2)]
        expected, *others = [in_some_order(model, film, options, seed) for seed in range(4)]
        assert others == [expected] * 3
        assert all(0 < reading.reused < reading.faces for reading in expected)

    def test_windows_don_t_decide_what_is_embedded(
        self, model: Model, images: list[np.ndarray]
    ) -> None:
        film = [image for image in images[:20] for _ in range(2)]  # 8 s: windows end with it
        embedded = []
        for window_s, hop_s in ((1.0, 0.5), (2.0, 2.0), (4.0, 1.0)):
            arm = CountingArm(model.visual)
            read(replace(model, visual=arm), film, SessionOptions(window_s, hop_s, skip_still=8.0))
            embedded.append([crop.tobytes() for crop in arm.embedded])
        assert embedded[0] == embedded[1] == embedded[2]
        assert len(embedded[0]) < len(film)


def in_some_order(
    model: Model, images: list[np.ndarray], options: SessionOptions, seed: int
) -> list[Reading]:
    """Push frames and silence in chunks, in random order."""
    rng = random.Random(seed)
    audio = np.zeros(round(len(images) * FRAME_S * SAMPLE_RATE), np.float32)
    chunks = np.array_split(audio, rng.randrange(1, 30))
    session, shown, heard = Session(model, options, max_lag_s=60.0), 0, 0
    while shown < len(images) or heard < len(chunks):
        if heard == len(chunks) or (shown < len(images) and rng.random() < 0.5):
            session.push_frame(images[shown], shown * FRAME_S)
            shown += 1
        else:
            session.push_audio(chunks[heard])
            heard += 1
    session.close()
    return session.readings()


@pytest.fixture(scope="module")
def still_clip(images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a real face that does not move."""
    return filmed(tmp_path_factory.mktemp("still") / "still.mp4", images[8:9] * 5, None)


@pytest.mark.parametrize(("options", "reused"), [([], 0), (["--skip-still", "5"], 4)])
def test_on_the_command_line(still_clip: Path, options: list[str], reused: int) -> None:
    ran = CliRunner().invoke(main, ["infer", str(still_clip), "--json", "-", *options])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    [window] = told["windows"]
    assert (window["faces"], window["reused"]) == (5, reused)
    said = [warning for warning in told["warnings"] if "approximate" in warning]
    assert len(said) == bool(options)
    assert not said or "at most 5 grey levels" in said[0]


def test_wrong_levels_on_the_command_line(still_clip: Path) -> None:
    ran = CliRunner().invoke(main, ["infer", str(still_clip), "--skip-still", "-1"])
    assert ran.exit_code == 2
    assert "0 to 255" in ran.output
