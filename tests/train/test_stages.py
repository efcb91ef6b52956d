"""The stages of training, as in section V of the paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.train.synthetic import SMALL_EMOTION2VEC, SMALL_VIT, voice
from train.data.batches import Examples, Split, predict
from train.data.examples import FaceClips, FeatureExamples, SpeechExamples
from train.data.features import Features
from train.data.voice_changes import PAPER as PAPER_VOICES
from train.errors import TrainError
from train.models.arms import GruArm
from train.models.emotion2vec import Emotion2vec
from train.models.emotion_model import audio_arm, visual_arm
from train.models.fer_resnet import FerResnet
from train.models.vit import Vit
from train.models.whisper import WhisperEncoder
from train.options import NO_FOLDER, StageContext, TrainOptions
from train.presets import COMPACT, PAPER, FineTuning, Preset, Stage
from train.stages import (
    FaceOverBackbone,
    VoiceOverBackbone,
    fine_tune,
    train_audio_one,
    train_audio_two,
    train_visual,
)

N = 24  # examples
ALL = Split(np.arange(N), np.arange(0))
# Adam's first step is as long as the learning rate, in every weight that has a gradient.
ONE_STEP = TrainOptions(1, 1e-3, "constant", N, "adam", clip_norm=1e9, keep="last")


class Speech(nn.Module):
    """Stands for a backbone where only its width matters: its features are given."""

    width, depth = 12, 1


def features(width: int = 12, views: int = 1, classes: int = 8) -> FeatureExamples:
    """Sequences of like steps, whose class is in one number."""
    random = np.random.default_rng(0)
    labels = np.arange(N) % classes
    sequences = []
    for label in labels:
        clip = random.normal(0, 1, (views, 5 + label, width)).astype(np.float16)
        clip[:, :, label] += 2
        sequences.append(list(clip))
    return FeatureExamples(Features(sequences), labels)


def preset(stage: Stage) -> Preset:
    return replace(PAPER, visual_width=6, audio_width=6, audio_two=stage)


def audio_two(
    preset: Preset,
    start: GruArm | None = None,
    stage_context: StageContext = NO_FOLDER,
) -> GruArm:
    """Train the second audio stage on all features."""
    return train_audio_two(
        preset,
        Speech(),
        examples=features(),
        split=ALL,
        classes=8,
        stage=stage_context,
        start=start,
    )


def furthest(one: nn.Module, other: nn.Module) -> float:
    """The largest change of a weight."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


def changed(one: nn.Module, other: nn.Module) -> set[str]:
    """The names of weights and statistics that differ."""
    theirs = other.state_dict()
    return {name for name, value in one.state_dict().items() if not value.equal(theirs[name])}


def four_label_arm() -> GruArm:
    torch.manual_seed(0)
    return audio_arm(preset(PAPER.audio_two), Speech(), 4)


def test_the_second_audio_stage_keeps_the_gru_under_a_new_classifier() -> None:
    start = four_label_arm()
    crawl = replace(ONE_STEP, learning_rate=1e-12)
    stage = preset(Stage(crawl, gru_rate=0.1))
    arm = audio_two(stage, start)
    assert furthest(arm.gru, start.gru) < 1e-9
    assert arm.classifier.out_features == 8
    assert start.classifier.out_features == 4


def test_the_second_audio_stage_trains_the_gru_at_its_own_rate() -> None:
    start = four_label_arm()
    before = four_label_arm()
    steps = []
    for rate in (1e-12, ONE_STEP.learning_rate):
        stage = preset(Stage(replace(ONE_STEP, learning_rate=rate), PAPER.audio_two.gru_rate))
        steps.append(audio_two(stage, start, StageContext(seed=3)))
    assert furthest(steps[1].classifier, steps[0].classifier) == pytest.approx(1e-3, rel=0.01)
    assert furthest(steps[1].gru, start.gru) == pytest.approx(1e-4, rel=0.01)
    assert not changed(start, before)  # the first stage's arm serves other folds too


def test_without_a_first_stage_all_of_the_arm_learns_at_one_rate() -> None:
    steps = []
    for rate in (1e-12, ONE_STEP.learning_rate):
        stage = preset(Stage(replace(ONE_STEP, learning_rate=rate), gru_rate=0.1))
        steps.append(audio_two(stage))
    assert furthest(steps[1].gru, steps[0].gru) == pytest.approx(1e-3, rel=0.01)


def test_the_papers_stages_are_those_of_its_section_v() -> None:
    stages = {
        "visual": (PAPER.visual.options, 30, 1e-3, "exponential"),
        "audio one": (PAPER.audio_one.options, 30, 1e-3, "plateau"),
        "audio two": (PAPER.audio_two.options, 25, 1e-3, "plateau"),
    }
    for name, (options, epochs, rate, schedule) in stages.items():
        found = options.epochs, options.learning_rate, options.schedule, options.batch
        assert found == (epochs, rate, schedule, 16), name
    assert PAPER.visual.options.weight_decay == 5e-4
    assert PAPER.audio_one.options.optimizer == PAPER.audio_two.options.optimizer == "adam"
    assert PAPER.audio_two.gru_rate * PAPER.audio_two.options.learning_rate == pytest.approx(1e-4)
    combined = PAPER.combined
    assert combined is not None
    assert (combined.epochs, combined.learning_rate, combined.batch) == (8, 5e-4, 16)
    assert (PAPER.visual_width, PAPER.audio_width) == (384, 384)


@pytest.mark.parametrize("made", [COMPACT, PAPER], ids=lambda preset: preset.name)
def test_every_stage_learns(made: Preset) -> None:
    def longer(stage: Stage) -> Stage:
        options = replace(stage.options, epochs=40, accumulate=1, batch=8, learning_rate=1e-2)
        return replace(stage, options=options)

    made = replace(
        made,
        visual_width=16,
        audio_width=16,
        visual=longer(made.visual),
        audio_one=longer(made.audio_one or made.audio_two),
        audio_two=longer(made.audio_two),
    )
    four, eight = features(classes=4), features()
    split = Split(np.arange(N), np.arange(N))
    first = train_audio_one(made, Speech(), examples=four, split=split, classes=4, stage=NO_FOLDER)
    second = train_audio_two(
        made, Speech(), examples=eight, split=split, classes=8, stage=NO_FOLDER, start=first
    )
    visual = train_visual(made, Speech(), examples=eight, split=split, classes=8, stage=NO_FOLDER)
    arms = [(first, four), (second, eight), (visual, eight)]
    for arm, examples in arms:
        predicted = predict(arm, examples, np.arange(N)).argmax(1)
        assert (predicted == examples.labels).mean() > 0.8
        assert not arm.training


def test_a_stage_repeats_itself_and_the_seed_decides() -> None:
    stage = preset(Stage(replace(ONE_STEP, epochs=2)))

    def trained(seed: int) -> GruArm:
        return audio_two(stage, stage_context=StageContext(seed=seed))

    assert not changed(trained(1), trained(1))
    assert changed(trained(1), trained(2))


def test_each_stage_has_a_folder_of_its_own(tmp_path: Path) -> None:
    stage = preset(Stage(ONE_STEP))
    context = StageContext(tmp_path).stage("audio-two")
    audio_two(stage, stage_context=context)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio-two"]
    assert {"last.pt", "log.jsonl"} == {path.name for path in (tmp_path / "audio-two").iterdir()}
    assert StageContext().stage("audio-two").folder is None


def test_a_split_is_masked() -> None:
    split = Split(np.array([0, 2, 4]), np.array([1, 3]))
    kept = split.where(np.array([True, False, False, True, True]))
    assert (kept.train.tolist(), kept.valid.tolist()) == ([0, 4], [3])


def spoken() -> SpeechExamples:
    """Voices of very different lengths."""
    waves = [voice(0.1 + 0.07 * k, k, 100 + 40 * (k % 8)) for k in range(N)]
    return SpeechExamples(waves, np.arange(N) % 8, PAPER_VOICES, 10.0)


def shown(size: int) -> Callable[[], FaceClips]:
    """Faces over very different times."""

    def made() -> FaceClips:
        random = np.random.default_rng(0)
        clips = [random.integers(0, 256, (1 + k, size, size)).astype(np.uint8) for k in range(N)]
        return FaceClips(clips, np.arange(N) % 8, 1.0)

    return made


BACKBONES: dict[str, tuple[Callable[[], nn.Module], Callable[[], SpeechExamples | FaceClips]]] = {
    "emotion2vec": (lambda: Emotion2vec(SMALL_EMOTION2VEC), spoken),
    "whisper": (lambda: WhisperEncoder(2, 100), spoken),
    "vit": (lambda: Vit(SMALL_VIT), shown(32)),
    "fer-resnet": (FerResnet, shown(48)),
}


def backbone_and_arm(name: str) -> tuple[nn.Module, GruArm, SpeechExamples | FaceClips]:
    make, examples = BACKBONES[name]
    torch.manual_seed(0)
    backbone, raw = make().eval(), examples()
    narrow = replace(COMPACT, visual_width=6, audio_width=6)
    arm = (audio_arm if isinstance(raw, SpeechExamples) else visual_arm)(narrow, backbone, 8)
    return backbone, arm, raw


def over(backbone: nn.Module, arm: GruArm, raw: SpeechExamples | FaceClips) -> nn.Module:
    kind = VoiceOverBackbone if isinstance(raw, SpeechExamples) else FaceOverBackbone
    return kind(backbone, arm)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_prediction_does_not_depend_on_what_else_is_in_the_batch(name: str) -> None:
    backbone, arm, raw = backbone_and_arm(name)
    model, some = over(backbone, arm, raw), np.arange(0, N, 4)
    alone = predict(model, raw, some, batch=1)
    np.testing.assert_allclose(predict(model, raw, some, batch=N), alone, atol=2e-5)
    assert np.ptp(alone, axis=0).min() > 1e-4  # they are not all the same anyway


@pytest.mark.parametrize("name", BACKBONES)
def test_over_its_backbone_an_arm_says_what_it_says_of_features(name: str) -> None:
    backbone, arm, raw = backbone_and_arm(name)
    some = np.arange(0, N, 4)
    with torch.no_grad():
        sequences: list[list[np.ndarray]] = []
        for index in range(N):
            (example,) = raw.batch(np.array([index]), None)
            single: Tensor = backbone(example[None] if isinstance(raw, SpeechExamples) else example)
            states = single[0] if isinstance(raw, SpeechExamples) else single
            sequences.append([states.half().numpy()])
    kept: Examples = FeatureExamples(Features(sequences), raw.labels)
    np.testing.assert_allclose(
        predict(arm, kept, some), predict(over(backbone, arm, raw), raw, some), atol=5e-3
    )


@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("name", BACKBONES)
def test_fine_tuning_changes_the_arm_and_the_last_blocks_alone(name: str, last: int) -> None:
    backbone, arm, raw = backbone_and_arm(name)
    tuning = FineTuning(replace(ONE_STEP, batch=8, learning_rate=1e-2), 0.1, 0.8)
    split = Split(np.arange(16), np.arange(0))
    before = {n: v.clone() for n, v in backbone.state_dict().items()}
    tuned, taught = fine_tune(
        tuning, backbone, arm, last=last, examples=raw, split=split, stage=NO_FOLDER
    )
    blocks = tuned.trainable(last)  # type: ignore[operator]
    inside = {id(value) for block in blocks for value in block.state_dict(keep_vars=True).values()}
    meant = {n for n, v in tuned.state_dict(keep_vars=True).items() if id(v) in inside}
    moved = changed(tuned, backbone)
    assert moved <= meant
    assert last == 0 or len(moved) > 0.5 * len(meant)
    assert changed(taught, arm)
    assert all(value.equal(before[name]) for name, value in backbone.state_dict().items())
    assert not tuned.training and not taught.training


def test_fine_tuning_is_the_slower_the_deeper() -> None:
    backbone, arm, raw = backbone_and_arm("emotion2vec")
    tuning = FineTuning(ONE_STEP, layer_rate=0.1, layer_decay=0.5)
    tuned, taught = fine_tune(
        tuning, backbone, arm, last=3, examples=raw, split=ALL, stage=NO_FOLDER
    )
    pairs = zip(tuned.trainable(3), backbone.trainable(3), strict=True)  # type: ignore[operator]
    steps = [furthest(one, other) for one, other in pairs]
    np.testing.assert_allclose(steps, [2.5e-5, 5e-5, 1e-4], rtol=0.02)
    assert furthest(taught, arm) == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize("name", BACKBONES)
def test_more_blocks_than_there_are_can_not_be_fine_tuned(name: str) -> None:
    backbone, arm, raw = backbone_and_arm(name)
    with pytest.raises(TrainError, match="can't fine-tune the backbone: 99 of"):
        fine_tune(
            COMPACT.fine_tuning,
            backbone,
            arm,
            last=99,
            examples=raw,
            split=ALL,
            stage=NO_FOLDER,
        )
