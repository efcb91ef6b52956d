"""The backbones by name: all keep the same promises, and none is loaded by halves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.paths import ROOT
from tests.train.synthetic import voice, whisper_file, whisper_weights
from train.models.registry import (
    FACE_BACKBONES,
    FER_FACE,
    MAX_STEPS,
    SPEECH_BACKBONES,
    WHISPER,
    BackboneSpec,
)
from train.models.weights import CheckpointError
from train.train_face import FaceClassifier

SHARED = ROOT.parent / "shared" / "weights"


def made_without_numbers(backbone: BackboneSpec) -> nn.Module:
    """Only shapes: there are backbones with 90 million weights."""
    with torch.device("meta"):
        return backbone.make().to("meta").eval()


def refused(backbone: BackboneSpec, weights: Path, *said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        backbone.load_from(weights)
    for part in (str(weights), *said):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def write(path: Path, tensors: Mapping[str, Tensor | None]) -> None:
    kept = {name: value.contiguous() for name, value in tensors.items() if value is not None}
    save_file(kept, path)


def assert_holds(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, value in module.state_dict().items():
        assert value.dtype == tensors[name].dtype, name
        assert torch.equal(value, tensors[name]), name


@pytest.mark.parametrize("name", FACE_BACKBONES)
def test_a_face_backbone_keeps_its_promises(name: str) -> None:
    network = made_without_numbers(FACE_BACKBONES[name])
    assert network.size == FACE_BACKBONES[name].size
    for kind in (torch.uint8, torch.float32):
        faces = torch.zeros(3, 1, network.size, network.size, dtype=kind, device="meta")
        with torch.device("meta"):
            assert network(faces).shape == (3, network.width)


@pytest.mark.parametrize("name", SPEECH_BACKBONES)
def test_a_speech_backbone_keeps_its_promises(name: str) -> None:
    network = made_without_numbers(SPEECH_BACKBONES[name])
    with torch.device("meta"):
        batch, steps, *rest = network(torch.zeros(1, 16_000)).shape
    assert batch == 1
    assert 20 <= steps <= 50  # of 20 to 40 ms
    assert rest == ([network.depth, network.width] if network.depth > 1 else [network.width])


@pytest.mark.parametrize("name", [*FACE_BACKBONES, *SPEECH_BACKBONES])
def test_the_last_blocks_come_in_the_order_in_which_they_run(name: str) -> None:
    network = made_without_numbers((FACE_BACKBONES | SPEECH_BACKBONES)[name])
    for number in (1, 2, 3):
        blocks = network.trainable(number)
        assert len(blocks) == number
        assert blocks[1:] == network.trainable(number - 1)
        assert all(len(list(block.parameters())) for block in blocks)
    ran: list[nn.Module] = []
    for block in blocks:
        part = next(block.children()) if isinstance(block, nn.ModuleList) else block
        part.register_forward_hook(lambda _module, _given, _made, block=block: ran.append(block))
    size = getattr(network, "size", None)
    with torch.device("meta"):
        network(torch.zeros(1, 1, size, size) if size else torch.zeros(1, 16_000))
    assert ran[: len(blocks)] == blocks  # a face may be looked at twice
    with pytest.raises(ValueError, match="99"):
        network.trainable(99)


@pytest.mark.parametrize("name", [*FACE_BACKBONES, *SPEECH_BACKBONES])
def test_missing_weights_are_an_error_that_says_where_they_belong(
    name: str, tmp_path: Path
) -> None:
    folders = {
        "fer-resnet": FER_FACE,
        "whisper-tiny-en": WHISPER,
        "vit": "facial_emotions_image_detection",
        "emotion2vec": "emotion2vec_plus_base",
    }
    refused((FACE_BACKBONES | SPEECH_BACKBONES)[name], tmp_path, str(tmp_path / folders[name]))


@pytest.mark.parametrize("name", [*FACE_BACKBONES, *SPEECH_BACKBONES])
def test_a_folder_that_can_not_be_looked_into_is_not_called_missing(
    name: str, tmp_path: Path
) -> None:
    """As one without permission, which root does not meet: here a name that is too long."""
    backbone, folder = (FACE_BACKBONES | SPEECH_BACKBONES)[name], tmp_path / ("w" * 300)
    refused(backbone, folder, "can't be read (File name too long)")


def test_whisper_is_taken_as_published(tmp_path: Path) -> None:
    whisper_file(tmp_path / WHISPER)
    loaded = SPEECH_BACKBONES["whisper-tiny-en"].load(tmp_path)
    assert not loaded.training
    published = {name: value.half().float() for name, value in whisper_weights().items()}
    published["embed_positions.weight"] = published["embed_positions.weight"][:MAX_STEPS]
    assert_holds(loaded, published)
    assert loaded.depth == 3


def test_the_real_whisper_is_taken() -> None:
    if not (SHARED / WHISPER).exists():
        pytest.skip(f"Whisper's weights are not on this machine: no {SHARED / WHISPER}")
    loaded = SPEECH_BACKBONES["whisper-tiny-en"].load(SHARED)
    with torch.inference_mode():
        (states,) = loaded.embed([torch.from_numpy(voice(1.0))])  # type: ignore[operator]
    assert states.shape == (25, 3, 384)
    assert states.isfinite().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers.2.fc1.bias": None}, "layers.2.fc1.bias"),
        ({"conv1.weight": torch.zeros(384, 128, 3)}, "conv1.weight"),  # of a larger Whisper
        ({"proj_out.weight": torch.zeros(3)}, "proj_out.weight"),
        ({"conv1.bias": torch.full((384,), torch.nan)}, "conv1.bias"),
    ],
)
def test_another_whisper_is_refused_by_name(
    change: dict[str, Tensor | None], said: str, tmp_path: Path
) -> None:
    write(tmp_path / WHISPER, whisper_weights() | change)
    refused(SPEECH_BACKBONES["whisper-tiny-en"], tmp_path, said)


@pytest.mark.parametrize("name", ["fer-resnet", "whisper-tiny-en"])
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    for file in (FER_FACE, WHISPER):
        (tmp_path / file).write_bytes(b"\xff" * 1000)
    refused((FACE_BACKBONES | SPEECH_BACKBONES)[name], tmp_path, "damaged")


def test_a_trained_face_network_is_taken_without_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = FaceClassifier().state_dict()
    write(tmp_path / FER_FACE, classifier)
    loaded = FACE_BACKBONES["fer-resnet"].load(tmp_path)
    assert not loaded.training
    assert_holds(loaded, {n.removeprefix("encoder."): v for n, v in classifier.items()})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder.stem.0.0.weight": None}, "missing (stem.0.0.weight)"),
        ({"encoder.blocks.6.weight": torch.zeros(3)}, "unexpected (blocks.6.weight)"),
        ({"encoder.stem.0.0.weight": torch.zeros(24, 3, 3, 3)}, "(24, 3, 3, 3) instead of"),
        ({"encoder.stem.0.1.bias": torch.full((24,), torch.inf)}, "NaN or infinity"),
    ],
)
def test_another_face_network_is_refused(
    change: dict[str, Tensor | None], said: str, tmp_path: Path
) -> None:
    write(tmp_path / FER_FACE, FaceClassifier().state_dict() | change)
    refused(FACE_BACKBONES["fer-resnet"], tmp_path, said)
