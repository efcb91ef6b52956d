"""The model of both presets, and its checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.paths import ROOT
from tests.train.synthetic import small_presets, voice
from train.models.arms import StatisticsArm
from train.models.emotion_model import (
    CHECKPOINT,
    EmotionModel,
    audio_arm,
    load_model,
    save_model,
    visual_arm,
)
from train.models.fer_resnet import FerResnet
from train.models.fusion import FittedFusion, OpinionPool
from train.models.mean_arm import MeanArm
from train.models.registry import FACE_BACKBONES, MAX_STEPS, WHISPER
from train.models.weights import CheckpointError
from train.models.whisper import WIDTH
from train.presets import COMPACT, PAPER, PRESETS

PUBLISHED = ROOT.parent / "shared" / "weights" / WHISPER
MAX_BYTES = 20_000_000  # of the checkpoint that ships


def pool(labels: int) -> OpinionPool:
    """A pool that discounts both arms, with biases."""
    made = OpinionPool(labels)
    made.discount.copy_(torch.tensor([0.25, 0.5]))
    made.bias.copy_(torch.linspace(-1, 1, 2 * labels).view(2, labels))
    return made


def taught(model: EmotionModel) -> EmotionModel:
    """Set by hand what training would."""
    fitted = FittedFusion(0.7, 1.3, pool(len(model.preset.labels)))
    model.set_fusion(fitted)
    model.temperature[2] = 1.1
    for name, buffer in model.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.fill_(70_001)  # more than fp16 can count
    return model.eval()


@functools.cache
def compact() -> EmotionModel:
    torch.manual_seed(0)
    return taught(EmotionModel(COMPACT))


@pytest.fixture
def paper() -> Iterator[EmotionModel]:
    """The other preset, with small backbones of its own classes, which checkpoints find too."""
    with small_presets():
        torch.manual_seed(0)
        yield taught(EmotionModel(PRESETS["paper"]))


def rewritten(path: Path, change: Mapping[str, Tensor | None], name: str = "compact") -> Path:
    """Save the checkpoint once more with some tensors replaced or left out, or as another's."""
    save_model(compact(), path)
    tensors = load_file(path) | dict(change)
    kept = {name: value for name, value in tensors.items() if value is not None}
    save_file(kept, path, {"model": f"mfer-edge {name}"})
    return path


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


def refused(path: Path, *said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    for part in (str(path), *said):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_compact_checkpoint_keeps_every_weight_to_half_precision(tmp_path: Path) -> None:
    save_model(compact(), tmp_path / "made" / "model.safetensors")
    loaded = load_model(tmp_path / "made" / "model.safetensors")
    assert loaded.preset is COMPACT
    assert not loaded.training
    own, read = compact().state_dict(), loaded.state_dict()
    assert own.keys() == read.keys()
    for name, value in own.items():
        assert read[name].dtype == value.dtype, name
        torch.testing.assert_close(read[name], value, atol=1e-7, rtol=5e-4)
        if not value.is_floating_point():
            assert torch.equal(read[name], value), name


def test_a_compact_checkpoint_is_exact_from_the_second_time_on(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save_model(compact(), one)
    save_model(load_model(one), two)
    assert one.read_bytes() == two.read_bytes()
    assert_equal(load_model(one).state_dict(), load_model(two).state_dict())


def test_a_checkpoint_of_the_paper_is_exact(paper: EmotionModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(paper, path)
    loaded = load_model(path)
    assert loaded.preset is PRESETS["paper"]
    assert not loaded.training
    assert_equal(loaded.state_dict(), paper.state_dict())
    wave = torch.from_numpy(voice(0.5))[None]
    with torch.inference_mode():
        for one, other in zip(
            loaded.networks()["audio"](wave), paper.networks()["audio"](wave), strict=True
        ):
            assert torch.equal(one, other)


def test_weights_are_kept_in_the_presets_precision(paper: EmotionModel, tmp_path: Path) -> None:
    for model, kind in ((compact(), torch.float16), (paper, torch.float32)):
        save_model(model, tmp_path / "model.safetensors")
        tensors = load_file(tmp_path / "model.safetensors")
        floats = [
            value
            for name, value in tensors.items()
            if value.is_floating_point() and ".standardise." not in name  # these are in fp32
        ]
        assert {value.dtype for value in floats} == {kind}


def test_a_checkpoint_says_whose_it_is(paper: EmotionModel, tmp_path: Path) -> None:
    for model, name in ((compact(), "compact"), (paper, "paper")):
        save_model(model, tmp_path / "model.safetensors")
        with safe_open(tmp_path / "model.safetensors", "pt") as file:
            assert file.metadata() == {"model": f"mfer-edge {name}"}


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    broken = EmotionModel(COMPACT)
    with torch.no_grad():
        broken.visual.hidden.weight[0, 0] = value
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"fp16 can't hold visual\.hidden\.weight"):
        save_model(broken, path)
    assert not path.exists()


def test_single_precision_holds_more_but_no_infinity(paper: EmotionModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with torch.no_grad():
        paper.fusion.weight[0, 0] = 1e6
        save_model(paper, path)
        assert load_model(path).fusion.weight[0, 0] == 1e6
        path.unlink()
        paper.fusion.weight[0, 0] = torch.inf
    with pytest.raises(CheckpointError, match=r"not finite: fusion\.weight"):
        save_model(paper, path)
    assert not path.exists()


def test_the_checkpoint_can_be_read_by_others(tmp_path: Path) -> None:
    """It ships in the package, which another user may install."""
    save_model(compact(), tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o044 == 0o044


@pytest.mark.parametrize("name", ["face.stem.0.0.weight", "temperature", "audio.hidden.weight"])
@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, name: str, change: str
) -> None:
    value = None if change == "missing" else compact().state_dict()[name][None].contiguous()
    refused(rewritten(tmp_path / "model.safetensors", {name: value}), change, name)


def test_an_unknown_weight_is_refused_by_name(tmp_path: Path) -> None:
    """A checkpoint of an earlier version, in which the voice's arm had one of its own, is too."""
    change = {"audio.arm.norm.weight": torch.zeros(WIDTH)}
    refused(rewritten(tmp_path / "model.safetensors", change), "audio.arm.norm.weight")


def test_a_weight_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    change = {"fusion.bias": torch.full((2, len(COMPACT.labels)), torch.nan)}
    refused(rewritten(tmp_path / "model.safetensors", change), "NaN", "fusion.bias")


@pytest.mark.parametrize("name", ["huge", ""])
def test_a_model_of_no_preset_is_refused(tmp_path: Path, name: str) -> None:
    refused(rewritten(tmp_path / "model.safetensors", {}, name), "not a model of compact or paper")


def test_tensors_without_a_name_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", "not a model of compact or paper")


def test_one_presets_checkpoint_is_not_taken_for_the_others(
    paper: EmotionModel, tmp_path: Path
) -> None:
    refused(rewritten(tmp_path / "model.safetensors", {}, "paper"), "not the weights of this model")


@pytest.mark.parametrize("kind", ["missing", "a folder", "cut off"])
def test_what_is_no_checkpoint_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    if kind == "a folder":
        path.mkdir()
    elif kind == "cut off":
        path.write_bytes(CHECKPOINT.read_bytes()[:-1000])
    refused(path, "no usable checkpoint")


def test_trained_backbones_are_taken_as_they_are() -> None:
    face, speech = compact().face, compact().speech
    made = EmotionModel(COMPACT, face, speech)
    assert made.face is face
    assert made.speech is speech


def test_a_backbone_is_known_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding one touches nothing else: the arms and the checkpoint follow."""

    class Narrow(FerResnet):
        width = 5

        def forward(self, faces: Tensor) -> Tensor:
            return super().forward(faces)[:, :5]

    narrow = replace(FACE_BACKBONES["fer-resnet"], make=Narrow, load=lambda folder: Narrow())
    monkeypatch.setitem(FACE_BACKBONES, "narrow", narrow)
    preset = replace(COMPACT, name="mine", face="narrow")
    monkeypatch.setitem(PRESETS, "mine", preset)
    path = tmp_path / "model.safetensors"
    save_model(EmotionModel(preset), path)
    loaded = load_model(path)
    assert isinstance(loaded.face, Narrow)
    assert loaded.visual.hidden.in_features == 5


@pytest.mark.parametrize("name", ["compact", "paper"])
def test_arms_are_made_as_the_preset_says(name: str, paper: EmotionModel) -> None:
    model = compact() if name == "compact" else paper
    preset, speech = model.preset, model.speech
    faces, voices = visual_arm(preset, model.face, 3), audio_arm(preset, speech, 4)
    assert (faces.classifier.out_features, voices.classifier.out_features) == (3, 4)
    recurrent = []
    if name == "paper":
        recurrent.append((faces, model.face.width, preset.visual_width))
        recurrent.append((voices, speech.width, preset.audio_width))
    else:
        assert isinstance(faces, MeanArm)
        assert faces.hidden.in_features == model.face.width
        assert faces.hidden.out_features == preset.visual_width
        assert isinstance(voices, StatisticsArm)
        pooled = (voices.hidden.in_features, voices.hidden.out_features)
        assert pooled == (2 * speech.depth * speech.width, preset.audio_width)
    for arm, width_in, width in recurrent:
        assert arm.gru.num_layers == 2
        assert (arm.gru.input_size, arm.gru.hidden_size) == (width_in, width)
        assert arm.gru.dropout == arm.dropout.p == preset.dropout
        assert isinstance(arm.norm, torch.nn.LayerNorm) == preset.norm
        assert len(list(arm.mix.parameters())) == 0


def test_fusion_pools_the_arms_calibrated_scores() -> None:
    model, made = compact(), pool(len(COMPACT.labels))
    visual, audio = torch.randn(1, model.visual.width), torch.randn(1, model.audio.width)
    with torch.inference_mode():
        seen, heard = model.visual_scores(visual).log(), model.audio_scores(audio).log()
        (scores,) = model.networks()["fusion"](visual, audio)
        expected = (made(seen, heard) / 1.1).softmax(1)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


def test_a_classifier_over_both_states_is_the_arms_own_side_by_side(paper: EmotionModel) -> None:
    visual, audio = torch.randn(1, paper.visual.width), torch.randn(1, paper.audio.width)
    with torch.inference_mode():
        logits = paper.visual.classifier(visual) / 0.7 + paper.audio.classifier(audio) / 1.3
        (scores,) = paper.networks()["fusion"](visual, audio)
    torch.testing.assert_close(scores, (logits / 1.1).softmax(1), atol=1e-5, rtol=0)


def test_every_network_of_the_compact_model_is_small() -> None:
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in compact().named_children()
    }
    assert parts["face"] <= 3_000_000
    assert parts["visual"] <= 100_000
    assert parts["speech"] <= 8_208_384 - 1000 * WIDTH  # Whisper's, but for most positions
    assert parts["audio"] <= 900_000
    assert parts["fusion"] == 0  # its few numbers are fitted, not trained
    assert sum(buffer.numel() for buffer in compact().fusion.buffers()) == 2 + 2 * 7


def test_the_papers_arms_are_as_large_as_it_says() -> None:
    """Section III: GRUs of two layers, 768 to 384, and 768 to 8 in the fusion."""
    with torch.device("meta"):  # shapes without the work of drawing 180 million numbers
        model = EmotionModel(PAPER)
    gru = 3 * 384 * (768 + 384 + 2) + 3 * 384 * (384 + 384 + 2)
    for arm in (model.visual, model.audio):
        assert sum(p.numel() for p in arm.parameters()) == gru + (384 + 1) * 8
    assert tuple(model.fusion.weight.shape) == (8, 768)


def test_the_shipped_checkpoint_is_whole_and_small() -> None:
    assert CHECKPOINT.stat().st_size <= MAX_BYTES
    shipped = load_model()
    assert shipped.preset.name == "compact"
    for name, value in shipped.state_dict().items():
        assert torch.isfinite(value).all(), name
    assert (shipped.temperature > 0).all()


def test_the_shipped_voice_has_whispers_positions() -> None:
    """They are never trained; the table is cut to the longest input."""
    if not PUBLISHED.exists():
        pytest.skip(f"Whisper's weights are not on this machine: no {PUBLISHED}")
    theirs = load_file(PUBLISHED)["embed_positions.weight"][:MAX_STEPS].float()
    torch.testing.assert_close(
        load_model().speech.embed_positions.weight.data, theirs, atol=1e-7, rtol=5e-4
    )


def test_a_checkpoint_from_before_adaptation_keeps_its_batch_statistics(tmp_path: Path) -> None:
    save_model(compact(), tmp_path / "new.safetensors")
    state = load_file(tmp_path / "new.safetensors")
    old = {name: value for name, value in state.items() if ".standardise." not in name}
    mean, variance = torch.randn(2, compact().audio.observed).half()
    old["audio.norm.running_mean"], old["audio.norm.running_var"] = mean, variance.square()
    old["audio.norm.num_batches_tracked"] = torch.tensor(7)
    path = tmp_path / "model.safetensors"
    save_file(old, path, {"model": "mfer-edge compact"})
    loaded = load_model(path)
    assert torch.equal(loaded.audio.standardise.mean, mean.float())
    expected = (variance.square().float() + 1e-5).sqrt()
    assert torch.equal(loaded.audio.standardise.deviation, expected)
    assert torch.equal(loaded.visual.standardise.mean, torch.zeros(loaded.visual.observed))


def test_training_statistics_are_not_rounded_to_fp16(tmp_path: Path) -> None:
    model = EmotionModel(COMPACT)
    model.audio.standardise.set(*torch.rand(2, model.audio.observed) + 100)
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert torch.equal(loaded.audio.standardise.mean, model.audio.standardise.mean)
    assert torch.equal(loaded.audio.standardise.deviation, model.audio.standardise.deviation)


def test_a_checkpoint_with_a_gru_and_a_classifier_over_both_states_still_opens(
    tmp_path: Path,
) -> None:
    """As earlier versions wrote it."""
    earlier = replace(COMPACT, visual_arm="gru", fusion="classifier")
    torch.manual_seed(1)
    model = EmotionModel(earlier).eval()
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.preset == earlier
    faces = torch.randn(1, 5, FerResnet.width)
    with torch.inference_mode():
        ours, theirs = loaded.networks()["visual"](faces), model.networks()["visual"](faces)
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-3, rtol=0)
