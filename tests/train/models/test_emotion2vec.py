"""emotion2vec, against funasr's own class and on its own promises."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.harness import third_party
from mfer_edge.errors import MferError
from mfer_edge.sources.clip import read_audio
from tests.support.paths import shared_data
from tests.train.synthetic import voice
from train.models.emotion2vec import (
    LABELS,
    Emotion2vec,
    Emotion2vecConfig,
    alibi_slopes,
    load_emotion2vec,
)
from train.models.weights import CheckpointError

SMALL = Emotion2vecConfig(
    convolutions=((16, 10, 5), *((16, 3, 2),) * 4, *((16, 2, 2),) * 2),
    width=48,
    heads=6,  # no power of two, as in the published model
    feed_forward=96,
    prenet_depth=2,
    depth=3,
    position_groups=4,
)
LENGTHS = [400, 6_400, 6_719, 6_720, 12_345, 33_333, 64_000]  # samples


def funasr() -> ModuleType:
    """funasr's module with the model; skip the test where it is not installed."""
    try:
        return third_party.emotion2vec()
    except MferError as error:
        pytest.skip(f"funasr, the oracle: {error}")


def oracle(config: Emotion2vecConfig, decoder: bool = True) -> nn.Module:
    """funasr's model with random weights: no tensor at zero or one, as they are at its start."""
    conf = third_party.emotion2vec_conf(config)
    if decoder:
        conf["modalities"]["audio"]["decoder"] = {
            "decoder_dim": 24,
            "decoder_groups": 4,
            "decoder_kernel": 7,
            "decoder_layers": 2,
            "projection_layers": 1,
            "projection_ratio": 2.0,
        }
    model = funasr().Emotion2vec(model_conf=conf, vocab_size=len(LABELS))
    random = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        offset = 1.0 if value.dim() == 1 and name.endswith("weight") else 0.0
        inputs = value[0].numel() if value.dim() > 1 and "extra" not in name else 50
        value.data = torch.randn(value.shape, generator=random) * inputs**-0.5 + offset
    scale = model.modality_encoders["AUDIO"].alibi_scale
    scale.data = torch.linspace(-0.2, 1.5, scale.numel()).view_as(scale)  # below 0 counts as 0
    return model.eval()


def published(model: nn.Module) -> dict[str, Tensor]:
    """An oracle's weights under their published names."""
    return {
        name if name.startswith("proj.") else f"d2v_model.{name}": value
        for name, value in model.state_dict().items()
    }


def write(folder: Path, state: Mapping[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": dict(state)}, folder / "model.pt")
    return folder


def oracle_features(model: Any, wave: np.ndarray) -> np.ndarray:
    """As funasr's `inference` does it, without the reading of files."""
    source = torch.from_numpy(wave)
    with torch.inference_mode():
        source = nn.functional.layer_norm(source, source.shape)
        return model.extract_features(source.view(1, -1), padding_mask=None)["x"].numpy()


def features(model: Emotion2vec, wave: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(wave)[None]).numpy()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Emotion2vec]:
    theirs = oracle(SMALL)
    folder = write(tmp_path_factory.mktemp("weights"), published(theirs))
    return theirs, load_emotion2vec(folder, SMALL)


@functools.cache
def small() -> Emotion2vec:
    torch.manual_seed(0)
    return Emotion2vec(SMALL).eval()


@pytest.mark.parametrize("length", LENGTHS)
def test_the_features_are_funasrs_at_any_length(
    pair: tuple[nn.Module, Emotion2vec], length: int
) -> None:
    theirs, ours = pair
    wave = voice(4.0)[:length]
    found = features(ours, wave)
    assert found.shape == (1, (length - 80) // 320, SMALL.width)
    np.testing.assert_allclose(found, oracle_features(theirs, wave), atol=2e-5)
    assert found.std() > 0.1


@pytest.mark.parametrize("actor", ["05", "23"])
def test_the_features_of_real_speech_are_funasrs(
    pair: tuple[nn.Module, Emotion2vec], actor: str
) -> None:
    theirs, ours = pair
    folder = shared_data("RAVDESS", f"Actor_{actor}")
    wave = read_audio(folder / f"03-01-05-02-01-02-{actor}.flac")
    assert len(wave) > 40_000
    np.testing.assert_allclose(features(ours, wave), oracle_features(theirs, wave), atol=2e-5)


def test_the_full_size_is_the_published_one(tmp_path: Path) -> None:
    theirs = oracle(Emotion2vecConfig(), decoder=False)
    ours = load_emotion2vec(write(tmp_path, published(theirs)))
    for model in (theirs, ours):
        assert len(model.state_dict()) == 185
        assert sum(value.numel() for value in model.parameters()) == 93_178_133
    assert (ours.width, ours.config.shortest) == (768, 400)
    wave = voice(0.5)
    np.testing.assert_allclose(features(ours, wave), oracle_features(theirs, wave), atol=1e-4)


@pytest.mark.parametrize("heads", [1, 2, 6, 8, 12, 16])
def test_the_slopes_are_funasrs(heads: int) -> None:
    funasr()
    base: Any = importlib.import_module("funasr.models.emotion2vec.base")
    theirs = -base.get_alibi(2, heads)[:, 0, 1]
    np.testing.assert_allclose(alibi_slopes(heads), theirs.numpy(), rtol=1e-6)


def test_a_recordings_features_do_not_depend_on_the_others() -> None:
    waves = [torch.from_numpy(voice(s, seed)) for seed, s in enumerate([0.5, 1.2, 0.5, 0.025])]
    model = small()  # made outside of inference mode, whose tensors are good for nothing else
    with torch.inference_mode():
        together = model.embed(waves)
        assert model.embed([]) == []
    assert len(together) == len(waves)
    for wave, found in zip(waves, together, strict=True):
        assert found.shape == ((len(wave) - 80) // 320, SMALL.width)
        np.testing.assert_allclose(found.numpy(), features(model, wave.numpy())[0], atol=1e-5)


def test_a_recording_too_short_for_a_feature_is_refused() -> None:
    with pytest.raises(MferError, match="400 samples of audio or more, not 399"):
        small().embed([torch.zeros(16_000), torch.zeros(399)])


@pytest.mark.parametrize(("gain", "offset"), [(0.2, 0.0), (9.0, 0.3)])
def test_level_and_offset_do_not_matter(gain: float, offset: float) -> None:
    wave = voice(1.0)
    moved = (gain * wave + offset).astype(np.float32)
    np.testing.assert_allclose(features(small(), moved), features(small(), wave), atol=0.05)


def test_silence_gives_finite_features() -> None:
    assert np.isfinite(features(small(), np.zeros(8_000, np.float32))).all()


def test_it_exports_for_every_length_after_having_run() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Emotion2vec(replace(SMALL, prenet_depth=1, depth=1)).eval()
    features(model, voice(2.0))
    samples = torch.export.Dim("samples", min=720)  # two steps: torch.export sets one apart
    wave = torch.from_numpy(voice(1.0))[None]
    program = torch.export.export(
        model,
        (wave,),
        dynamic_shapes=({1: samples},),
        prefer_deferred_runtime_asserts_over_guards=True,  # as the ONNX exporter has it
    )
    for length in (720, 6_719, 50_001):
        wave = torch.from_numpy(voice(4.0)[:length])[None]
        with torch.inference_mode():
            found = program.module()(wave).numpy()
        np.testing.assert_allclose(found, features(model, wave[0].numpy()), atol=1e-5)


def test_the_last_blocks_are_those_nearest_the_features() -> None:
    model = Emotion2vec(SMALL)
    assert model.trainable(0) == []
    assert model.trainable(3) == list(model.d2v_model.blocks)
    every = model.trainable(5)
    assert every[2:] == model.trainable(3)
    for number in (-1, 6):
        with pytest.raises(ValueError, match=f"{number} of 5"):
            model.trainable(number)
    model.requires_grad_(False)
    every[-1].requires_grad_(True)
    model.embed([torch.from_numpy(voice(0.3))])[0].sum().backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == {
        f"d2v_model.blocks.2.{name}" for name, _ in every[-1].named_parameters()
    }


BLOCK = "d2v_model.blocks.1.attn.qkv.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({BLOCK: None}, rf"1 missing \({BLOCK}\)"),
        ({"proj.bias": None}, r"1 missing \(proj\.bias\)"),
        ({"d2v_model.norm.weight": torch.ones(48)}, r"1 unexpected \(d2v_model\.norm\.weight\)"),
        ({"proj.weight": torch.ones(8, 48)}, r"proj\.weight is \(8, 48\) instead of \(9, 48\)"),
        ({BLOCK: torch.full((144, 48), torch.nan)}, f"NaN or infinity .*{BLOCK}"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, change: dict[str, Tensor | None], reason: str
) -> None:
    state = {**small().state_dict(), **change}
    folder = write(tmp_path, {name: value for name, value in state.items() if value is not None})
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_emotion2vec(folder, SMALL)
    assert str(folder / "model.pt") in str(caught.value)


def test_weights_without_their_prefix_or_key_are_refused(tmp_path: Path) -> None:
    bare = {name.removeprefix("d2v_model."): v for name, v in small().state_dict().items()}
    with pytest.raises(CheckpointError, match=r"missing \(d2v_model\."):
        load_emotion2vec(write(tmp_path / "bare", bare), SMALL)
    torch.save(small().state_dict(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="'model'"):
        load_emotion2vec(tmp_path, SMALL)


def test_a_missing_checkpoint_says_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"download model\.pt of emotion2vec/emotion2vec_pl"):
        load_emotion2vec(tmp_path / "emotion2vec_plus_base")
