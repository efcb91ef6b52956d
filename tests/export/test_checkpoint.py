"""Models to export: checkpoints, published backbones and random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from export.checkpoint import Source, open_source
from mfer_edge.manifest import CARD, ENGINES
from tests.train.synthetic import published_weights, small_presets
from train.models.emotion2vec import FOLDER as VOICE_FOLDER
from train.models.emotion_model import EmotionModel, save_model
from train.models.vit import FOLDER as FACE_FOLDER
from train.models.weights import CheckpointError
from train.presets import PRESETS


@pytest.fixture
def small() -> Iterator[None]:
    with small_presets():
        yield


def checkpoint_error(**wanted: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_source(**wanted)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def parts(source: Source) -> set[str]:
    """Engines with a source and licence, `audio (arm)` as `audio`."""
    named = ",".join(weights.part for weights in source.weights)
    return {name.split("(")[0].strip() for name in named.split(",")}


def test_the_default_is_the_packages_compact_model() -> None:
    source = open_source()
    assert source.model.preset.name == "compact"
    assert source.trained and source.card and source.notes
    assert parts(source) == set(ENGINES)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_the_preset_is_the_checkpoints(preset: str, tmp_path: Path) -> None:
    model = EmotionModel(PRESETS[preset])
    save_model(model, tmp_path / "model.safetensors")
    (tmp_path / CARD).write_text("# Mine\n")
    for wanted in (None, preset):
        source = open_source(wanted, tmp_path)
        assert source.model.preset.name == preset
        assert source.trained
        assert source.card == "# Mine\n"
        assert parts(source) == set(ENGINES)
        assert "trained here" not in next(w.source for w in source.weights if "fusion" in w.part)
    other = "paper" if preset == "compact" else "compact"
    message = checkpoint_error(preset=other, checkpoint=tmp_path)
    assert message == f"{tmp_path}/model.safetensors: a model of the preset {preset}, not {other}"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_random_weights_are_reproducible(preset: str) -> None:
    source = open_source(preset, random_init=True)
    assert not source.trained
    assert "random" in source.notes[0].lower()
    assert parts(source) == set(ENGINES)
    torch.manual_seed(1)
    assert same_weights(source.model, open_source(preset, random_init=True).model)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_published_backbones_with_untrained_arms(preset: str, tmp_path: Path) -> None:
    folder = published_weights(tmp_path / "weights")
    source = open_source(preset, weights=folder)
    assert not source.trained
    assert "arms" in source.notes[0] and "untrained" in source.notes[0]
    assert parts(source) == set(ENGINES)
    untrained = open_source(preset, random_init=True).model
    for backbone in ("face", "speech"):
        assert not same_weights(getattr(source.model, backbone), getattr(untrained, backbone))
    assert same_weights(source.model, open_source(preset, weights=folder).model)


def test_all_missing_files_are_named(tmp_path: Path) -> None:
    message = checkpoint_error(preset="paper", weights=tmp_path)
    for wanted in (
        f"{tmp_path / FACE_FOLDER}/config.json is missing",
        "dima806/facial_emotions_image_detection",
        f"{tmp_path / VOICE_FOLDER}/model.pt is missing",
        "emotion2vec/emotion2vec_plus_base",
    ):
        assert wanted in message


def test_the_paper_preset_needs_weights() -> None:
    message = checkpoint_error(preset="paper")
    for wanted in (
        "--checkpoint",
        "mfer-edge train all --preset paper",
        "--weights DIR",
        "emotion2vec_plus_base/model.pt",
        "facial_emotions_image_detection/config.json and model.safetensors",
        "--random-init",
    ):
        assert wanted in message
