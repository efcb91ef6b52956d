"""The presets: what they name exists and takes what they give it, and `paper` is as published."""

from __future__ import annotations

import pytest
import torch

from train.models.registry import FACE_BACKBONES, MAX_STEPS, SPEECH_BACKBONES
from train.presets import PAPER, PRESETS, Preset

every = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)


@every
def test_backbones_are_known_by_their_names(preset: Preset) -> None:
    assert PRESETS[preset.name] is preset
    assert preset.face in FACE_BACKBONES
    assert preset.speech in SPEECH_BACKBONES


@every
def test_no_more_blocks_are_fine_tuned_than_there_are(preset: Preset) -> None:
    with torch.device("meta"):
        speech = SPEECH_BACKBONES[preset.speech].make()
    assert len(speech.trainable(preset.fine_tuned)) == preset.fine_tuned  # type: ignore[operator]


@every
def test_the_longest_recording_fits_the_longest_input(preset: Preset) -> None:
    assert preset.longest_s * 50 <= MAX_STEPS


def test_the_paper_is_trained_as_published() -> None:
    """Sections III and V: stage by stage, epochs, learning rate, schedule and batch."""
    combined = PAPER.combined
    assert combined is not None
    stages = [PAPER.visual.options, PAPER.audio_one.options, PAPER.audio_two.options, combined]
    assert [stage.epochs for stage in stages] == [30, 30, 25, 8]
    assert [stage.learning_rate for stage in stages] == [1e-3, 1e-3, 1e-3, 5e-4]
    assert [stage.schedule for stage in stages[:2]] == ["exponential", "plateau"]
    assert {stage.batch for stage in stages} == {16}
    assert PAPER.visual.options.weight_decay == 5e-4
    assert PAPER.audio_two.gru_rate * PAPER.audio_two.options.learning_rate == pytest.approx(1e-4)
    assert (PAPER.visual_width, PAPER.audio_width) == (384, 384)
    assert PAPER.dropout == 0.4
