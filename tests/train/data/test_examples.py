"""Sources of examples: fixed as they are, random in training, and what they say they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.train.synthetic import RATE, voice
from train.data.examples import (
    FaceClips,
    FaceImages,
    FeatureExamples,
    SpeechExamples,
)
from train.data.features import Features
from train.data.voice_changes import PAPER, STRONG, VoiceChanges

UNCHANGED = VoiceChanges(speed=0.0, keep=1.0, colour_db=0.0, noise_db=(20.0, 20.0), noisy=0.0)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


class TestFeatureExamples:
    @pytest.fixture
    def examples(self) -> FeatureExamples:
        """Three clips, the second empty, of 4 views, whose steps hold clip and view."""
        sequences = [
            [np.full((length + view, 2), 10 * clip + view, np.float16) for view in range(4)]
            if length
            else [np.zeros((0, 2), np.float16)] * 4
            for clip, length in enumerate((3, 0, 5))
        ]
        return FeatureExamples(Features(sequences), np.array([0, 1, 2]))

    def test_without_randomness_every_clip_is_itself(self, examples: FeatureExamples) -> None:
        batch = examples.batch(np.array([2, 0]), None)
        assert equal(batch, [torch.full((5, 2), 20.0), torch.full((3, 2), 0.0)])
        assert examples.lengths.tolist() == [3, 0, 5]
        assert examples.features.present.tolist() == [True, False, True]

    def test_training_meets_all_views_alike(self, examples: FeatureExamples) -> None:
        drawn = random()
        seen = [examples.batch(np.array([2, 0]), drawn) for _ in range(400)]
        views = np.array([[float(x[0, 0]) for x in batch] for batch in seen]) - (20, 0)
        for clip in range(2):
            counts = np.bincount(views[:, clip].astype(int), minlength=4)
            assert counts.sum() == 400 and counts.min() > 70
        assert (views[:, 0] != views[:, 1]).any()  # each clip is drawn for itself


class TestSpeechExamples:
    WAVES = (voice(0.6), voice(1.5, seed=1))

    def examples(self, changes: VoiceChanges = STRONG, longest_s: float = 1.0) -> SpeechExamples:
        return SpeechExamples(self.WAVES, np.array([3, 4]), changes, longest_s)

    def test_without_randomness_a_recording_is_itself_cut_at_the_longest(self) -> None:
        examples, both = self.examples(), np.array([1, 0])
        batch = examples.batch(both, None)
        assert equal(
            batch, [torch.from_numpy(self.WAVES[1][:RATE]), torch.from_numpy(self.WAVES[0])]
        )
        assert equal(examples.batch(both, None), batch)

    @settings(max_examples=20)
    @given(
        seed=st.integers(0, 99),
        longest_s=st.floats(0.5, 2.0),
        changes=st.sampled_from([STRONG, PAPER]),
    )
    def test_training_changes_recordings_and_cuts_them_too(
        self, seed: int, longest_s: float, changes: VoiceChanges
    ) -> None:
        examples, both = self.examples(changes, longest_s), np.array([0, 1])
        batch = examples.batch(both, random(seed))
        assert all(x.dtype == torch.float32 and x.isfinite().all() for x in batch)
        assert max(map(len, batch)) <= int(longest_s * RATE)
        assert equal(batch, examples.batch(both, random(seed)))
        assert not any(map(torch.equal, batch, examples.batch(both, None)))

    def test_the_changes_are_those_given(self) -> None:
        batch = self.examples(UNCHANGED, 2.0).batch(np.array([0]), random())
        torch.testing.assert_close(batch[0], torch.from_numpy(self.WAVES[0][:-1]))


class TestFaceClips:
    @pytest.fixture
    def crops(self) -> list[np.ndarray]:
        """A still face, and a changing one."""
        still = random(0).integers(60, 200, (1, 12, 12)).repeat(4, 1).repeat(4, 2)
        return [
            np.repeat(still, 5, axis=0).astype(np.uint8),
            random(1).integers(0, 256, (3, 48, 48)).astype(np.uint8),
        ]

    def test_without_randomness_a_clip_is_itself(self, crops: list[np.ndarray]) -> None:
        batch = FaceClips(crops, np.array([0, 1]), 1.0).batch(np.array([1, 0]), None)
        assert equal(batch, [torch.from_numpy(crops[i])[:, None].float() for i in (1, 0)])

    def test_all_faces_of_a_clip_are_changed_alike_but_for_noise(
        self, crops: list[np.ndarray]
    ) -> None:
        examples, noise = FaceClips(crops, np.array([0, 1]), 1.0), []
        torch.manual_seed(0)
        for _ in range(20):
            still, other = examples.batch(np.array([0, 1]), random())
            assert still.shape == (5, 1, 48, 48) and other.shape == (3, 1, 48, 48)
            within = (still - still.mean(0)).std()
            noise.append(float(within))
            assert within < 7  # the strongest noise has a deviation of 6
            assert (still.mean(0)[0] - torch.from_numpy(crops[0][0])).std() > 2 * within
        assert max(noise) > 1  # every face has noise of its own

    def test_two_clips_are_changed_each_in_its_own_way(self, crops: list[np.ndarray]) -> None:
        torch.manual_seed(0)
        one, other = FaceClips(crops, np.array([0, 1]), 1.0).batch(np.array([0, 0]), random())
        assert (one.mean(0) - other.mean(0)).std() > 20


class TestFaceImages:
    FACES = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)

    def test_without_randomness_a_batch_is_grey_images_as_they_are(self) -> None:
        batch = FaceImages(self.FACES, np.arange(3), 1.0).batch(np.array([2, 0]), None)
        assert batch.shape == (2, 1, 48, 48)
        np.testing.assert_array_equal(batch[:, 0].numpy(), self.FACES[[2, 0]])

    def test_training_augments_with_the_strength_set(self) -> None:
        examples = FaceImages(self.FACES, np.arange(3), 1.0)
        far = []
        for strength in (1.0, 0.2):
            torch.manual_seed(0)
            examples.strength = strength
            batch = examples.batch(np.zeros(64, np.int64), random())
            upright = torch.minimum(
                (batch - batch.new_tensor(self.FACES[0])).abs().mean((1, 2, 3)),
                (batch.flip(3) - batch.new_tensor(self.FACES[0])).abs().mean((1, 2, 3)),
            )
            far.append(float(upright.mean()))
        assert far[0] > far[1] > 0

    def test_targets_replace_no_labels(self) -> None:
        targets = np.full((3, 7), 1 / 7, np.float32)
        examples = FaceImages(self.FACES, np.arange(3), 1.0, targets)
        assert examples.targets is targets and examples.labels.tolist() == [0, 1, 2]
