"""The audio arm, the visual arm, and their fusion."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.arms import ArmOutput, AudioArm, Fusion, Place, VisualArm
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import (
    SAMPLE_RATE,
)
from tests.support.face_engines import CountingEngine

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def engines(pipeline: Pipeline) -> dict[str, Engine]:
    return load_engines(pipeline.bundle)


@pytest.fixture(scope="module")
def audio(anger: Path) -> np.ndarray:
    return read_audio(anger)


class TestAudioArm:
    @pytest.fixture
    def arm(self, pipeline: Pipeline) -> AudioArm:
        return pipeline.model.audio

    @pytest.mark.parametrize("seconds", [0.4, 1.0, 4.0, 10.0])
    def test_scores_sum_to_1_up_to_the_longest_window(
        self, arm: AudioArm, pipeline: Pipeline, audio: np.ndarray, seconds: float
    ) -> None:
        assert seconds <= pipeline.bundle.manifest.max_window_s
        speech = np.resize(audio, round(seconds * SAMPLE_RATE))
        result = arm(speech)
        assert result.scores.shape == (len(pipeline.bundle.manifest.labels),)
        assert result.scores.min() >= 0 and result.scores.sum() == pytest.approx(1, abs=1e-5)
        assert result.embedding.shape[0] == 1

    def test_other_speech_gives_other_scores(self, arm: AudioArm, audio: np.ndarray) -> None:
        middle = len(audio) // 2
        scores = [arm(part).scores for part in (audio, audio[:middle], audio[middle:])]
        assert min(np.abs(a - b).max() for a, b in itertools.combinations(scores, 2)) > 1e-3

    def test_the_same_speech_gives_the_same_scores(self, arm: AudioArm, audio: np.ndarray) -> None:
        assert (arm(audio).scores == arm(audio.copy()).scores).all()


class TestPlaces:
    """Of a small engine with random weights."""

    def test_the_training_set_is_the_default_and_changes_nothing(self, adaptable: Pipeline) -> None:
        arm, speech = adaptable.model.audio, RNG.normal(0, 0.1, 20_000).astype(np.float32)
        width = adaptable.bundle.manifest.observed("audio")
        same = replace(arm, place=Place(np.zeros(width, "f"), np.ones(width, "f")))
        assert (arm(speech).embedding == same(speech).embedding).all()

    def test_the_engine_standardises_by_the_place(self, adaptable: Pipeline) -> None:
        speech = RNG.normal(0, 0.1, 20_000).astype(np.float32)
        heard: list[np.ndarray] = []
        width = adaptable.bundle.manifest.observed("audio")
        place = Place(np.linspace(-1, 1, width).astype("f"), np.linspace(0.5, 2, width).astype("f"))
        arm = replace(adaptable.model.audio, place=place, observer=heard.append)
        made = arm(speech)
        ((observation,),) = heard  # as without a place
        expected = (observation - place.shift) / place.scale
        np.testing.assert_allclose(made.embedding[0], expected, atol=1e-5)

    def test_an_engine_without_places_is_called_without(self) -> None:
        def engine(**arrays: np.ndarray) -> dict[str, np.ndarray]:
            assert list(arrays) == ["wave"]
            return {"scores": np.ones((1, 1), "f"), "embedding": np.ones((1, 2), "f")}

        assert AudioArm(engine)(np.zeros(400, np.float32)).scores == 1


@pytest.fixture(scope="module")
def arm(pipeline: Pipeline) -> VisualArm:
    return pipeline.model.visual


class TestVisualArm:
    def test_faces_are_embedded_each_on_its_own(self, arm: VisualArm, pipeline: Pipeline) -> None:
        size = pipeline.bundle.manifest.crop.size
        faces = RNG.integers(0, 256, (5, size, size), np.uint8)
        together = arm.embed(faces)
        alone = np.concatenate([arm.embed(face[None]) for face in faces])
        np.testing.assert_allclose(together, alone, atol=1e-4)
        assert np.abs(together[0] - together[1]).max() > 0.01

    def test_faces_are_embedded_so_many_at_once(
        self, arm: VisualArm, pipeline: Pipeline, engines: dict[str, Engine]
    ) -> None:
        face = CountingEngine(engines["face"])
        size = pipeline.bundle.manifest.crop.size
        faces = RNG.integers(0, 256, (7, size, size), np.uint8)
        found = VisualArm(face, engines["visual"], at_once=3).embed(faces)
        assert face.calls == [3, 3, 1]
        np.testing.assert_allclose(found, arm.embed(faces), atol=1e-4)

    def test_padded_calls_come_in_few_sizes(
        self, arm: VisualArm, pipeline: Pipeline, engines: dict[str, Engine]
    ) -> None:
        """Repeated faces fill a call up, and change nothing."""
        face = CountingEngine(engines["face"])
        padded = VisualArm(face, engines["visual"], at_once=16, padded=True)
        size = pipeline.bundle.manifest.crop.size
        faces = RNG.integers(0, 256, (21, size, size), np.uint8)
        for count in range(1, len(faces) + 1):
            found = padded.embed(faces[:count])
            assert found.shape[0] == count
            np.testing.assert_allclose(found, arm.embed(faces[:count]), atol=1e-4)
        assert set(face.calls) == {1, 2, 4, 8, 16}

    def test_scores_of_a_sequence_sum_to_1(self, arm: VisualArm, pipeline: Pipeline) -> None:
        size = pipeline.bundle.manifest.crop.size
        embeddings = arm.embed(RNG.integers(0, 256, (30, size, size), np.uint8))
        for frames in (1, 2, 20, 30):
            scores = arm(embeddings[:frames]).scores
            assert scores.shape == (len(pipeline.bundle.manifest.labels),)
            assert scores.min() >= 0 and scores.sum() == pytest.approx(1, abs=1e-5)

    def test_a_place_moves_the_observation_of_a_face(self, arm: VisualArm) -> None:
        """One that is the place's mean gives the same as any other that is its place's."""
        assert arm.place is not None
        seen: list[np.ndarray] = []
        width = arm.place.shift.shape[0]
        for scale in (1.0, 2.0):
            states = []
            for embeddings in RNG.normal(0, 1, (2, 7, 192)).astype(np.float32):
                replace(arm, observer=seen.append)(embeddings)
                assert seen[-1].shape == (1, width)
                there = Place(seen[-1][0], np.full(width, scale, np.float32))
                heard: list[np.ndarray] = []
                states.append(replace(arm, place=there, observer=heard.append)(embeddings))
                np.testing.assert_allclose(heard[0], seen[-1], atol=1e-5)
            np.testing.assert_allclose(states[0].embedding, states[1].embedding, atol=1e-4)


@pytest.fixture(scope="module")
def fusion(engines: dict[str, Engine]) -> Fusion:
    return Fusion(engines["fusion"])


def output(pipeline: Pipeline, arm: str) -> ArmOutput:
    """Scores and an embedding of the bundle's widths."""
    tensors = {t.name: t for t in pipeline.bundle.manifest.engines[arm].outputs}
    scores = RNG.dirichlet(np.ones(tensors["scores"].shape[1])).astype(np.float32)
    return ArmOutput(scores, RNG.normal(0, 1, tensors["embedding"].shape).astype(np.float32))


class TestFusion:
    def test_an_arm_alone_gives_its_own_scores(self, pipeline: Pipeline, fusion: Fusion) -> None:
        visual, audio = output(pipeline, "visual"), output(pipeline, "audio")
        assert fusion(visual, None) is visual.scores
        assert fusion(None, audio) is audio.scores

    def test_nothing_gives_nothing(self, fusion: Fusion) -> None:
        assert fusion(None, None) is None

    def test_both_arms_give_a_distribution_over_every_label(
        self, pipeline: Pipeline, fusion: Fusion
    ) -> None:
        for _ in range(20):
            scores = fusion(output(pipeline, "visual"), output(pipeline, "audio"))
            assert scores is not None
            assert scores.shape == (len(pipeline.bundle.manifest.labels),)
            assert scores.min() >= 0 and scores.sum() == pytest.approx(1, abs=1e-5)

    def test_both_arms_count(self, pipeline: Pipeline, fusion: Fusion) -> None:
        visual, audio = output(pipeline, "visual"), output(pipeline, "audio")
        both = fusion(visual, audio)
        other_face = fusion(output(pipeline, "visual"), audio)
        other_voice = fusion(visual, output(pipeline, "audio"))
        assert both is not None and other_face is not None and other_voice is not None
        assert np.abs(both - other_face).max() > 1e-3
        assert np.abs(both - other_voice).max() > 1e-3
