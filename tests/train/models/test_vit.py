"""ViT-B/16 as published, against transformers' own classifier and on its own promises."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from export.onnx_io import OPSET, quiet_exporter
from train.models.vit import LABELS, Vit, VitConfig, load_vit
from train.models.weights import CheckpointError

SMALL = VitConfig(size=32, patch=8, width=24, depth=3, heads=4, feed_forward=48)
ORDER = ["sad", "disgust", "angry", "neutral", "fear", "surprise", "happy"]
CONFIG: dict[str, Any] = {
    "architectures": ["ViTForImageClassification"],
    "attention_probs_dropout_prob": 0.0,
    "encoder_stride": 16,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 24,
    "id2label": {str(index): label for index, label in enumerate(ORDER)},
    "image_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "label2id": {label: index for index, label in enumerate(ORDER)},
    "layer_norm_eps": 1e-12,
    "model_type": "vit",
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": 8,
    "problem_type": "single_label_classification",
    "qkv_bias": True,
}
"""Of the small model, in the published form."""


def drawn(model: torch.nn.Module) -> Any:
    """Give a model random weights of which none is at zero or one, as they are at its start."""
    random = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        offset = 1.0 if value.dim() == 1 and name.endswith("weight") else 0.0
        inputs = value[0].numel() if value.dim() > 1 and "embeddings.p" not in name else 50
        value.data = torch.randn(value.shape, generator=random) * inputs**-0.5 + offset
    return model.eval()


@functools.cache
def small() -> Vit:
    return drawn(Vit(SMALL))


@functools.cache
def transformers() -> ModuleType:
    return pytest.importorskip("transformers", reason="transformers, the oracle, is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small model as published."""
    path = tmp_path / "facial_emotions_image_detection"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    save_file(small().state_dict(), path / "model.safetensors")
    return path


def faces(number: int = 3, size: int = SMALL.size) -> np.ndarray:
    random = np.random.default_rng(number)
    return random.integers(0, 256, (number, 1, size, size), dtype=np.uint8)


def embed(model: Vit, pictures: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(pictures)).numpy()


def rewritten_config(folder: Path, **change: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def rewritten_weights(folder: Path, **change: Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path) | change
    save_file({name: value for name, value in tensors.items() if value is not None}, path)


def refused(folder: Path, reason: str) -> str:
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_vit(folder, SMALL)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def theirs_on(model: Any, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """transformers' embeddings and logits, with the pixels prepared by its own processor."""
    processor = transformers().ViTImageProcessor(
        do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    rgb = [np.repeat(picture.transpose(1, 2, 0), 3, 2) for picture in pictures]
    with torch.inference_mode():
        pixels = processor(rgb, return_tensors="pt")["pixel_values"]
        return model.vit(pixels).last_hidden_state[:, 0].numpy(), model(pixels).logits.numpy()


def test_the_embeddings_are_those_of_transformers(tmp_path: Path) -> None:
    """With a checkpoint that it wrote: in the published names, whatever it calls its modules."""
    config = transformers().ViTConfig.from_dict(CONFIG)
    theirs = drawn(transformers().ViTForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    ours = load_vit(tmp_path, SMALL)
    embeddings, logits = theirs_on(theirs, faces())
    found = embed(ours, faces())
    assert found.shape == (3, 24)
    assert found.std() > 0.1
    np.testing.assert_allclose(found, embeddings, atol=1e-5)
    with torch.inference_mode():
        np.testing.assert_allclose(ours.classifier(torch.from_numpy(found)), logits, atol=1e-5)


def test_the_full_size_is_the_published_one() -> None:
    ours = drawn(Vit())
    assert (ours.size, ours.width) == (224, 768)
    assert len(ours.state_dict()) == 200
    encoder = sum(value.numel() for value in ours.vit.parameters())
    assert encoder == 85_798_656  # a pooler, which the published model lacks, would add 590,592
    assert sum(value.numel() for value in ours.parameters()) == encoder + 768 * 7 + 7
    assert len(ours.trainable(12)) == 12
    # Sizes are its own defaults; only its loader knows the published names in every version.
    theirs, report = transformers().ViTForImageClassification.from_pretrained(
        None,
        config=transformers().ViTConfig(num_labels=len(ORDER)),
        state_dict=ours.state_dict(),
        output_loading_info=True,
    )
    assert not any(report.values())
    embeddings, _ = theirs_on(theirs.eval(), faces(1, 224))
    np.testing.assert_allclose(embed(ours, faces(1, 224)), embeddings, atol=1e-5)


def test_the_names_are_the_published_ones() -> None:
    shapes = {name: tuple(value.shape) for name, value in small().state_dict().items()}
    assert len(shapes) == 16 * 3 + 8
    published = {
        "vit.embeddings.cls_token": (1, 1, 24),
        "vit.embeddings.position_embeddings": (1, 17, 24),
        "vit.embeddings.patch_embeddings.projection.weight": (24, 3, 8, 8),
        "vit.encoder.layer.0.attention.attention.query.weight": (24, 24),
        "vit.encoder.layer.1.attention.attention.key.bias": (24,),
        "vit.encoder.layer.1.attention.attention.value.bias": (24,),
        "vit.encoder.layer.1.attention.output.dense.weight": (24, 24),
        "vit.encoder.layer.1.intermediate.dense.weight": (48, 24),
        "vit.encoder.layer.2.output.dense.weight": (24, 48),
        "vit.encoder.layer.2.layernorm_before.weight": (24,),
        "vit.encoder.layer.2.layernorm_after.bias": (24,),
        "vit.layernorm.weight": (24,),
        "classifier.weight": (7, 24),
    }
    assert {name: shapes.get(name) for name in published} == published


def test_it_exports_for_any_number_of_faces() -> None:
    model = drawn(Vit(replace(SMALL, depth=1)))
    with quiet_exporter():
        program = torch.onnx.export(
            model,
            (torch.from_numpy(faces(3)),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["faces"],
            dynamic_shapes=({0: torch.export.Dim("number", min=1, max=64)},),
            verbose=False,
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for number in (1, 2, 9):
        (found,) = session.run(None, {"faces": faces(number)})
        np.testing.assert_allclose(found, embed(model, faces(number)), atol=1e-5)


def test_floats_give_the_same_as_bytes() -> None:
    np.testing.assert_array_equal(
        embed(small(), faces()), embed(small(), faces().astype(np.float32))
    )


def test_a_face_does_not_depend_on_the_others() -> None:
    together = embed(small(), faces(4))
    alone = np.concatenate([embed(small(), face[None]) for face in faces(4)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.01


@pytest.mark.parametrize("sizes", [VitConfig(), SMALL])
def test_random_weights_tell_faces_apart(sizes: VitConfig) -> None:
    torch.manual_seed(0)
    found = embed(Vit(replace(sizes, depth=1)), faces(2, sizes.size))
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_half_precision_on_disk_is_full_precision_in_memory(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v.half() for k, v in tensors.items()}, folder / "model.safetensors")
    rewritten_config(folder, dtype="float16")
    model = load_vit(folder, SMALL)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    theirs = tensors["vit.layernorm.weight"].half().float()
    assert torch.equal(model.state_dict()["vit.layernorm.weight"], theirs)


def test_the_last_blocks_are_those_nearest_the_embedding(folder: Path) -> None:
    model = load_vit(folder, SMALL)
    assert model.trainable(0) == []
    assert model.trainable(3)[1:] == model.trainable(2)
    for number in (-1, 4):
        with pytest.raises(ValueError, match=f"{number} of 3"):
            model.trainable(number)
    model.requires_grad_(False)
    (last,) = model.trainable(1)
    last.requires_grad_(True)
    before = embed(model, faces())
    loss = model(torch.from_numpy(faces())).square().sum()
    loss.backward()
    graded = {name for name, value in model.named_parameters() if value.grad is not None}
    assert len(graded) == len(list(last.parameters()))
    assert all(".2." in name for name in graded)
    with torch.no_grad():
        last.get_parameter("layernorm_before.bias").add_(1.0)
    assert np.abs(embed(model, faces()) - before).max() > 0.01


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"], "angry, disgust"),
        (ORDER[:6], "fear, surprise instead"),
        ([*ORDER, "contempt"], "happy, contempt instead"),
    ],
)
def test_another_order_of_labels_is_refused_with_both(
    folder: Path, labels: list[str], told: str
) -> None:
    rewritten_config(folder, id2label={str(index): label for index, label in enumerate(labels)})
    line = refused(folder, r"config\.json: its labels are")
    assert told in line
    assert line.endswith(f"instead of {', '.join(LABELS)}")


@pytest.mark.parametrize(
    "change",
    [
        {"id2label": None},
        {"id2label": {"sad": 0}},
        {"id2label": ORDER},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(folder: Path, change: dict[str, Any]) -> None:
    rewritten_config(folder, **change)
    refused(folder, r"config\.json: no usable config")


def test_a_config_without_a_size_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in CONFIG.items() if name != "hidden_size"})
    )
    refused(folder, r"config\.json: no usable config .*hidden_size")


@pytest.mark.parametrize("text", ["", "weights", "[1, 2]", "{}", "\x00\xff"])
def test_a_config_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    refused(folder, r"config\.json: no usable config")


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    rewritten_config(folder, model_type="deit")
    refused(folder, r"config\.json: of a deit model")


def test_weights_that_do_not_fit_are_refused_all_at_once(folder: Path) -> None:
    rewritten_weights(
        folder,
        **{
            "classifier.bias": None,
            "pooler.weight": torch.ones(2),
            "vit.layernorm.bias": torch.ones(3),
        },
    )
    line = refused(folder, r"model\.safetensors: not the weights of this model")
    assert "1 missing (classifier.bias)" in line
    assert "1 unexpected (pooler.weight)" in line
    assert "(vit.layernorm.bias is (3,) instead of (24,))" in line


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_attention_heads": 6}, "num_attention_heads is 6 instead of 4"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps is 1e-06 instead of 1e-12"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu' instead of 'gelu'"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide' instead of 24"),
        (
            {"image_size": 48, "patch_size": 4},
            "image_size is 48 instead of 32, patch_size is 4 instead of 8",
        ),
        ({"num_hidden_layers": 2, "intermediate_size": 96}, "intermediate_size is 96"),
    ],
)
def test_another_config_is_refused(folder: Path, change: dict[str, Any], reason: str) -> None:
    rewritten_config(folder, **change)
    assert reason in refused(folder, r"config\.json: not this model's config: ")


def test_the_sizes_of_the_base_model_are_wanted_unless_told_otherwise(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="hidden_size is 24 instead of 768"):
        load_vit(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    save_file(Vit(replace(SMALL, depth=2)).state_dict(), folder / "model.safetensors")
    refused(folder, r"model\.safetensors: not the weights of this model: 16 missing")


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    name = "vit.encoder.layer.1.output.dense.bias"
    rewritten_weights(folder, **{name: torch.full((24,), torch.nan)})
    refused(folder, rf"model\.safetensors: NaN or infinity .*{name}")


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, r"model\.safetensors: damaged")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_says_what_to_download(folder: Path, name: str) -> None:
    (folder / name).unlink()
    line = refused(folder, f"{name} is missing")
    assert f"download {name} of dima806/facial_emotions_image_detection" in line
    assert line.endswith(f"into {folder}")
