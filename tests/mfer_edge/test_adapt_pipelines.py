"""Adaptation of pipelines: collected from sources, applied, told."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.adapt import (
    FACE_N0,
    N0,
    Adaptation,
    Face,
    Voice,
)
from mfer_edge.errors import AdaptationError, MediaError
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import AudioChunk, AudioOnly
from mfer_edge.sources.clip import read_audio
from mfer_edge.sources.replay import Replay
from tests.mfer_edge.test_adapt import MODEL, adaptation
from tests.support.commands import scores_of
from tests.support.old_bundle import without_places


class TestPipelines:
    def test_statistics_are_those_of_the_windows(
        self, adaptable: Pipeline, anger: Path, fear: Path
    ) -> None:
        made = adaptable.collect(anger)
        assert made.voice.windows == made.voice.count == 1
        assert made.face.windows == made.face.count == 1
        assert made.model == adaptable.bundle.manifest.model
        both = made + adaptable.collect(fear)
        assert both.voice.windows == both.face.windows == 2
        audio = read_audio(anger)
        long = adaptable.collect(Sound(np.tile(audio, 4)))  # 16.5 s: windows do not overlap
        assert 4 <= long.voice.windows <= 5 and not long.face.windows

    def test_video_and_its_sound_alone_give_the_same(
        self, adaptable: Pipeline, anger: Path
    ) -> None:
        expected = adaptable.collect(anger)
        replayed = Replay.read(anger, adaptable.bundle.manifest.frame_rate)
        for source in (Sound(read_audio(anger)), replayed):
            made = adaptable.collect(source)
            np.testing.assert_allclose(made.voice.mean, expected.voice.mean, atol=1e-5)
        np.testing.assert_allclose(made.face.mean, expected.face.mean, atol=1e-5)

    def test_an_adapted_pipeline_hears_with_other_statistics(
        self, adaptable: Pipeline, anger: Path, fear: Path, tmp_path: Path
    ) -> None:
        before = adaptable.analyze(anger)
        heard = adaptable.collect(anger) + adaptable.collect(fear)
        heard.adaptation().save(tmp_path / "office.npz")
        there = adaptable.adapted(Adaptation.load(tmp_path / "office.npz"))
        after = there.analyze(anger)
        assert after.windows[0].audio != before.windows[0].audio
        assert after.windows[0].visual != before.windows[0].visual
        assert after.adaptation is not None and before.adaptation is None
        info = after.adaptation
        assert (info.name, info.windows) == ("office.npz", 2)
        assert info.weight == pytest.approx(2 / (2 + N0))
        assert (info.face_windows, info.face_weight) == (2, pytest.approx(2 / (2 + FACE_N0)))
        # the engines are shared, and the pipeline is as before
        assert there.model.audio.engine is adaptable.model.audio.engine
        assert scores_of(adaptable.analyze(anger).to_dict()) == scores_of(before.to_dict())
        assert scores_of(there.adapted(None).analyze(anger).to_dict()) == scores_of(
            before.to_dict()
        )
        opened = Pipeline.open(
            adaptable.bundle.folder, "cpu", 1, adaptation=tmp_path / "office.npz"
        )
        assert scores_of(opened.analyze(anger).to_dict()) == scores_of(after.to_dict())

    def test_no_window_heard_changes_nothing(self, adaptable: Pipeline, anger: Path) -> None:
        manifest = adaptable.bundle.manifest
        far, wide = (
            [np.full(manifest.observed(arm), number, np.float32) for arm in ("audio", "visual")]
            for number in (7, 9)
        )
        identity = Adaptation(manifest.model, Voice(0, far[0], wide[0]), Face(0, far[1], wide[1]))
        expected = scores_of(adaptable.analyze(anger).to_dict())
        assert scores_of(adaptable.adapted(identity).analyze(anger).to_dict()) == expected

    def test_statistics_do_not_depend_on_the_adaptation_in_use(
        self, adaptable: Pipeline, anger: Path
    ) -> None:
        expected = adaptable.collect(anger)
        there = adaptable.adapted(expected.adaptation())
        again = there.collect(anger)
        np.testing.assert_array_equal(again.voice.mean, expected.voice.mean)
        np.testing.assert_array_equal(again.face.mean, expected.face.mean)

    def test_each_part_alone_changes_its_arm_alone(self, adaptable: Pipeline, anger: Path) -> None:
        made, before = adaptable.collect(anger).adaptation(), adaptable.analyze(anger).windows[0]
        heard = adaptable.adapted(replace(made, face=None)).analyze(anger).windows[0]
        assert heard.visual == before.visual and heard.audio != before.audio
        seen = adaptable.adapted(replace(made, voice=None)).analyze(anger)
        assert seen.windows[0].visual != before.visual and seen.windows[0].audio == before.audio
        assert seen.adaptation is not None and seen.warnings == adaptable.analyze(anger).warnings
        assert (seen.adaptation.windows, seen.adaptation.face_windows) == (0, 1)
        # and with it all faces of a recording
        every = adaptable.adapted(made).analyze(anger, adaptable.options(faces="all"))
        assert every.windows[0].visual == seen.windows[0].visual

    def test_a_bundle_whose_face_can_not_be_adapted_adapts_the_voice_and_says_so(
        self, adaptable: Pipeline, anger: Path, tmp_path: Path
    ) -> None:
        made = replace(adaptable.collect(anger).adaptation(), name="here")
        deaf = Pipeline.open(without_places(adaptable.bundle, tmp_path / "old").folder, "cpu", 1)
        found = deaf.collect(anger)
        assert (found.voice.windows, found.face.windows) == (1, 0)
        after, before = deaf.adapted(made).analyze(anger), deaf.analyze(anger)
        assert after.windows[0].visual == before.windows[0].visual
        assert after.windows[0].audio != before.windows[0].audio
        assert after.adaptation is not None and after.adaptation.face_windows == 0
        assert [w for w in after.warnings if "not applied to the face" in w]
        assert not any("not applied" in warning for warning in before.warnings)
        with pytest.raises(AdaptationError, match=r"here: holds a face alone"):
            deaf.adapted(replace(made, voice=None))

    def test_the_adaptation_is_in_the_json(self, adaptable: Pipeline, anger: Path) -> None:
        assert json.loads(json.dumps(adaptable.analyze(anger).to_dict()))["adaptation"] is None
        there = adaptable.adapted(replace(adaptable.collect(anger).adaptation(), name="here"))
        made = there.analyze(anger).to_dict()["adaptation"]
        assert made == {
            "name": "here",
            "windows": 1,
            "weight": 0.091,
            "face_windows": 1,
            "face_weight": 0.167,
        }

    def test_another_models_adaptation_is_refused(self, adaptable: Pipeline, anger: Path) -> None:
        made = adaptable.collect(anger).adaptation()
        with pytest.raises(AdaptationError, match=r"here: made with another model"):
            adaptable.adapted(replace(made, model=MODEL, name="here"))

    def test_another_width_is_refused(self, adaptable: Pipeline) -> None:
        made = adaptation(model=adaptable.bundle.manifest.model, name="here")
        with pytest.raises(
            AdaptationError, match=r"here: damaged: it has 5 numbers, the model \d+"
        ):
            adaptable.adapted(made)

    def test_a_model_without_inputs_for_it_is_refused(self, rigid: Pipeline, anger: Path) -> None:
        for call in (lambda: rigid.collect(anger), lambda: rigid.adapted(adaptation())):
            with pytest.raises(AdaptationError, match="can't be adapted"):
                call()
        assert rigid.adapted(None).analyze(anger).adaptation is None

    def test_a_source_without_sound(self, adaptable: Pipeline) -> None:
        silent = AudioOnly(Sound(np.zeros(0, np.float32)))
        silent.has_audio = False
        with pytest.raises(MediaError, match="no sound track"):
            adaptable.collect(silent)

    def test_silence_is_no_speech(self, adaptable: Pipeline) -> None:
        assert adaptable.collect(Sound(np.zeros(80_000, np.float32))).voice.windows == 0

    def test_progress_reaches_the_end(self, adaptable: Pipeline, anger: Path) -> None:
        shares: list[float] = []
        adaptable.collect(anger, shares.append)
        reached = np.maximum.accumulate(shares)  # sound and pictures take turns
        assert np.max(reached - shares) < 0.05 and shares[-1] == pytest.approx(1, abs=0.05)
        assert len(shares) > 3


class Sound:
    """A recording in memory."""

    name, has_video, has_audio, max_lag_s = "sound", False, True, 5.0

    def __init__(self, samples: np.ndarray) -> None:
        self.samples, self.duration_s = samples, len(samples) / 16_000

    def __iter__(self) -> itertools.chain[AudioChunk]:
        return itertools.chain([AudioChunk(self.samples)])

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def warnings(self) -> tuple[str, ...]:
        return ()
