"""The compact model and its checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.train.made import whisper_weights
from train.arms import VoiceArm
from train.compact import (
    AUDIO_WIDTH,
    CHECKPOINT,
    DEPTH,
    VISUAL_WIDTH,
    CompactModel,
    load_compact,
    save_compact,
)
from train.datasets import EMOTIONS
from train.speech_encoder import WIDTH

MAX_BYTES = 20_000_000  # of the checkpoint that ships


@functools.cache
def model() -> CompactModel:
    torch.manual_seed(0)
    made = CompactModel().eval()
    made.temperature.copy_(torch.tensor([0.7, 1.3, 1.1]))
    made.set_fusion(0.4, 0.8, torch.linspace(-1, 1, len(EMOTIONS)))
    for name, buffer in made.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.fill_(70_001)  # more than half precision can count
    return made


def rewritten(path: Path, change: Mapping[str, Tensor | None]) -> Path:
    """Save the checkpoint once more with some tensors replaced, or left out."""
    save_compact(model(), path)
    tensors = load_file(path) | dict(change)
    save_file({name: value for name, value in tensors.items() if value is not None}, path)
    return path


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


def test_a_checkpoint_keeps_every_weight_to_half_precision(tmp_path: Path) -> None:
    save_compact(model(), tmp_path / "made" / "model.safetensors")
    loaded = load_compact(tmp_path / "made" / "model.safetensors")
    assert not loaded.training
    own, read = model().state_dict(), loaded.state_dict()
    assert own.keys() == read.keys()
    for name, value in own.items():
        assert read[name].dtype == value.dtype, name
        torch.testing.assert_close(read[name], value, atol=1e-7, rtol=5e-4)
        if not value.is_floating_point():
            assert torch.equal(read[name], value), name


def test_a_checkpoint_is_exact_from_the_second_time_on(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save_compact(model(), one)
    save_compact(load_compact(one), two)
    assert one.read_bytes() == two.read_bytes()
    assert_equal(load_compact(one).state_dict(), load_compact(two).state_dict())


def test_weights_are_kept_in_half_precision(tmp_path: Path) -> None:
    save_compact(model(), tmp_path / "model.safetensors")
    tensors = load_file(tmp_path / "model.safetensors")
    floats = [value for value in tensors.values() if value.is_floating_point()]
    assert {value.dtype for value in floats} == {torch.float16}


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    broken = CompactModel()
    with torch.no_grad():
        broken.fusion.weight[0, 0] = value
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"fusion\.weight"):
        save_compact(broken, path)
    assert not path.exists()


def test_the_checkpoint_can_be_read_by_others(tmp_path: Path) -> None:
    """It ships in the package, which another user may install."""
    save_compact(model(), tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o044 == 0o044


@pytest.mark.parametrize("name", ["face.stem.0.0.weight", "temperature", "audio.mix.weight"])
@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, name: str, change: str
) -> None:
    value = None if change == "missing" else model().state_dict()[name][None].contiguous()
    path = rewritten(tmp_path / "model.safetensors", {name: value})
    with pytest.raises(ValueError, match=f"{path}.*{name}"):
        load_compact(path)


def test_an_unknown_weight_is_refused_by_name(tmp_path: Path) -> None:
    path = rewritten(tmp_path / "model.safetensors", {"voice.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"voice\.weight"):
        load_compact(path)


def test_a_missing_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        load_compact(tmp_path / "nowhere.safetensors")


def test_voice_and_whisper_are_taken_strictly() -> None:
    made = CompactModel()
    arm = VoiceArm(DEPTH, WIDTH, AUDIO_WIDTH, len(EMOTIONS)).state_dict()
    made.load_voice(arm, whisper_weights())
    assert torch.equal(made.audio.arm.classifier.weight, arm["arm.classifier.weight"])
    assert torch.equal(made.speech.conv1.weight, whisper_weights()["conv1.weight"])
    del arm["mix.weight"]
    with pytest.raises(RuntimeError, match=r"mix\.weight"):
        made.load_voice(arm, whisper_weights())


def test_every_network_of_the_model_is_small() -> None:
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model().named_children()
    }
    assert parts["face"] <= 3_000_000
    assert parts["visual"] <= 100_000
    assert parts["speech"] <= 8_208_384 - 1000 * WIDTH  # Whisper's, but for most positions
    assert parts["audio"] <= 400_000
    assert parts["fusion"] == (VISUAL_WIDTH + AUDIO_WIDTH + 1) * len(EMOTIONS)


def test_the_shipped_checkpoint_is_whole_and_small() -> None:
    assert CHECKPOINT.stat().st_size <= MAX_BYTES
    shipped = load_compact()
    for name, value in shipped.state_dict().items():
        assert torch.isfinite(value).all(), name
    assert (shipped.temperature > 0).all()
