"""Summaries of speech for an arm over statistics, cached view by view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.train.data.extraction import DEPTH, PRESET, same, speech_network
from train.data.cache import Cache
from train.data.features import FeatureExtractor, Features
from train.data.index import Entry
from train.data.preprocess import Preprocessor


class TestSummaries:
    """An arm over statistics needs the mean and deviation of the steps alone."""

    SUMMED = replace(PRESET, audio_arm="statistics")

    def test_a_summary_has_the_statistics_of_all_steps(
        self, inputs: Preprocessor, cache: Cache, voices: list[Entry], tmp_path: Path
    ) -> None:
        every = FeatureExtractor(PRESET, inputs, Cache(tmp_path), speech=speech_network())(voices)
        found = FeatureExtractor(self.SUMMED, inputs, cache, speech=speech_network())(voices)
        for summed, frames in zip(found.sequences, every.sequences, strict=True):
            assert len(summed) == 3
            assert {two.shape for two in summed} == {(2, DEPTH, 384)}
            assert {two.dtype for two in summed} == {np.dtype(np.float32)}
            clean, exact = summed[0], frames[0].astype(np.float64)
            np.testing.assert_allclose(clean.mean(0), exact.mean(0), atol=2e-3)
            np.testing.assert_allclose(clean.std(0), exact.std(0), atol=2e-3)

    def test_views_are_cached_one_by_one(
        self, inputs: Preprocessor, cache: Cache, voices: list[Entry]
    ) -> None:
        one, three = (
            FeatureExtractor(replace(self.SUMMED, views=n), inputs, cache, speech=speech_network())
            for n in (1, 3)
        )
        told: list[str] = []
        clean = one(voices, say=told.append)
        found = three(voices, say=told.append)
        assert [line.split()[0] for line in told] == ["4", "8"]
        for before, after in zip(clean.sequences, found.sequences, strict=True):
            np.testing.assert_array_equal(before[0], after[0])

    def test_other_augmentation_leaves_the_clean_view(
        self, inputs: Preprocessor, cache: Cache, voices: list[Entry]
    ) -> None:
        quiet = replace(self.SUMMED.voice_changes, noisy=0.0)
        FeatureExtractor(self.SUMMED, inputs, cache, speech=speech_network())(voices)
        told: list[str] = []
        changed = replace(self.SUMMED, voice_changes=quiet)
        FeatureExtractor(changed, inputs, cache, speech=speech_network())(voices, say=told.append)
        assert told[0].startswith("8 views to go")

    def test_babble_comes_from_the_background(
        self, inputs: Preprocessor, voices: list[Entry], tmp_path: Path
    ) -> None:
        babbling = replace(
            self.SUMMED, voice_changes=replace(PRESET.voice_changes, babbling=1.0, noisy=0.0)
        )

        def extract(name: str, background: Sequence[Entry]) -> Features:
            made = FeatureExtractor(
                babbling,
                inputs,
                Cache(tmp_path / name),
                speech=speech_network(),
                background=background,
            )
            return made(voices[:1])

        quiet = extract("none", [])
        loud = extract("two", voices[1:3])
        assert same(extract("turned round", voices[2:0:-1]), loud)
        np.testing.assert_array_equal(quiet.sequences[0][0], loud.sequences[0][0])
        assert np.abs(quiet.sequences[0][1] - loud.sequences[0][1]).max() > 1e-3
