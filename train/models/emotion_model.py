"""The complete model, both backbones with their arms and the fusion, and its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from train.labels import LABEL_SETS
from train.models.arms import GruArm, SequenceArm, StatisticsArm
from train.models.base import one_view
from train.models.fusion import FittedFusion, OpinionPool
from train.models.mean_arm import MeanArm
from train.models.registry import FACE_BACKBONES, SPEECH_BACKBONES
from train.models.standardise import Place
from train.models.weights import CheckpointError, load_strict
from train.presets import PRESETS, Preset

MODEL_FILE = "model.safetensors"
CHECKPOINT = Path(__file__).parent.parent / "checkpoints" / "compact" / MODEL_FILE
"""The compact model that ships."""
BATCH_NORM_EPSILON = 1e-5  # of checkpoints from before there was adaptation


class EmotionModel(nn.Module):
    """Face and voice to the emotions of a preset.

    The arms and the fusion give logits; a probability is the softmax of logits over a temperature
    (Guo et al. 2017) that calibrates it on unseen speakers.

    Args:
        preset: architecture and labels.
        face, speech: trained backbones; by default new ones with random weights.
    """

    temperature: Tensor  # (3,): visual, audio, fusion

    def __init__(
        self, preset: Preset, face: nn.Module | None = None, speech: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.preset = preset
        self.face = face or FACE_BACKBONES[preset.face].make()
        self.speech = speech or SPEECH_BACKBONES[preset.speech].make()
        self.visual = visual_arm(preset, self.face, len(preset.labels))
        self.audio = audio_arm(preset, self.speech, len(preset.labels))
        self.fusion = make_fusion(preset, self.visual.width + self.audio.width)
        self.register_buffer("temperature", torch.ones(3))

    @torch.no_grad()
    def set_fusion(self, fitted: FittedFusion) -> None:
        """Take over the temperatures of both arms and the pool.

        A classifier over both states becomes the arms' own side by side: a pool without discounts
        and biases.
        """
        self.temperature.copy_(
            torch.tensor([fitted.visual_temperature, fitted.audio_temperature, 1.0])
        )
        if isinstance(self.fusion, OpinionPool):
            self.fusion.load_state_dict(fitted.pool.state_dict())
            return
        arms = [
            (self.visual.classifier, fitted.visual_temperature),
            (self.audio.classifier, fitted.audio_temperature),
        ]
        self.fusion.weight.copy_(torch.cat([arm.weight / t for arm, t in arms], 1))
        self.fusion.bias.copy_(sum((arm.bias / t for arm, t in arms), torch.zeros(())))

    def visual_scores(self, visual: Tensor) -> Tensor:
        """Score (1, visual width) states of the visual arm: (1, labels)."""
        return (self.visual.classifier(visual) / self.temperature[0]).softmax(1)

    def audio_scores(self, audio: Tensor) -> Tensor:
        """Score (1, audio width) states of the audio arm: (1, labels)."""
        return (self.audio.classifier(audio) / self.temperature[1]).softmax(1)

    def fused_scores(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Score the states of both arms together: (1, labels)."""
        if isinstance(self.fusion, OpinionPool):
            seen = self.visual.classifier(visual) / self.temperature[0]
            logits = self.fusion(seen, self.audio.classifier(audio) / self.temperature[1])
        else:
            logits = self.fusion(torch.cat([visual, audio], 1))
        return (logits / self.temperature[2]).softmax(1)

    def networks(self) -> dict[str, Callable[..., tuple[Tensor, ...]]]:
        """The model as a bundle's engines: functions of named arrays to tuples of arrays."""

        def visual(
            embeddings: Tensor, shift: Tensor | None = None, scale: Tensor | None = None
        ) -> tuple[Tensor, ...]:
            state, observations = self.visual.state(embeddings, _place(shift, scale))
            return self.visual_scores(state), state, observations

        def audio(
            wave: Tensor, shift: Tensor | None = None, scale: Tensor | None = None
        ) -> tuple[Tensor, ...]:
            state, observations = self.audio.state(self.speech(wave), _place(shift, scale))
            return self.audio_scores(state), state, observations

        return {
            "face": lambda faces: (one_view(self.face)(faces),),
            "visual": visual,
            "audio": audio,
            "fusion": lambda visual, audio: (self.fused_scores(visual, audio),),
        }


def _place(shift: Tensor | None, scale: Tensor | None) -> Place | None:
    return None if shift is None or scale is None else Place(shift, scale)


def visual_arm(preset: Preset, face: nn.Module, classes: int) -> SequenceArm:
    """Make the untrained arm over a face backbone."""
    width = int(face.width)  # type: ignore[arg-type]
    if preset.visual_arm == "mean":
        return MeanArm(width, preset.visual_width, classes)
    return GruArm(width, preset.visual_width, classes, preset.dropout, norm=preset.norm)


def make_fusion(preset: Preset, width: int) -> OpinionPool | nn.Linear:
    """Make the untrained fusion: the paper's classifier over both states, or a pool of opinions.

    Args:
        width: of both arms' states together.
    """
    if preset.fusion == "classifier":
        return nn.Linear(width, len(preset.labels))
    return OpinionPool(len(preset.labels))


def audio_arm(preset: Preset, speech: nn.Module, classes: int) -> SequenceArm:
    """Make the untrained arm over a speech backbone."""
    width, depth = int(speech.width), int(speech.depth)  # type: ignore[arg-type]
    if preset.audio_arm == "statistics":
        return StatisticsArm(width, preset.audio_width, classes, preset.audio_dropout, depth)
    return GruArm(width, preset.audio_width, classes, preset.audio_dropout, depth, preset.norm)


def save_model(model: EmotionModel, path: Path) -> None:
    """Write the checkpoint.

    Raises:
        CheckpointError: a weight is not finite, or too large for fp16.
    """
    tensors = {
        name: (value.half() if model.preset.fp16 and _may_be_fp16(name, value) else value)
        for name, value in model.state_dict().items()
    }
    if wrong := [name for name, value in tensors.items() if not value.isfinite().all()]:
        kind = "fp16 can't hold" if model.preset.fp16 else "not finite:"
        raise CheckpointError(f"{path}: not written; {kind} {', '.join(wrong[:5])}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # One entry: safetensors writes several in an order that changes from run to run.
    metadata = {"model": f"mfer-edge {model.preset.name}"}
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
    path.chmod(0o644)  # safetensors lets its owner alone read it


def load_model(path: Path = CHECKPOINT) -> EmotionModel:
    """Read a checkpoint, strictly.

    Raises:
        CheckpointError: it is missing, or no model of a preset that this version knows.
    """
    try:
        with safe_open(path, "pt") as file:
            name = (file.metadata() or {}).get("model", "").removeprefix("mfer-edge ")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: no usable checkpoint ({error})") from error
    if name not in PRESETS:
        raise CheckpointError(f"{path}: not a model of {' or '.join(PRESETS)}")
    preset = _with_architecture(_with_labels(PRESETS[name], tensors), tensors)
    model = EmotionModel(PRESETS[name] if preset == PRESETS[name] else preset)
    own = model.state_dict()
    tensors = _with_statistics(tensors, own)
    load_strict(
        model, {n: v.to(own[n].dtype) if n in own else v for n, v in tensors.items()}, str(path)
    )
    return model.eval()


def _with_labels(preset: Preset, tensors: Mapping[str, Tensor]) -> Preset:
    """Give a preset the labels of a checkpoint: those of the preset, or another set of as many."""
    bias = tensors.get("visual.classifier.bias")
    classes = len(preset.labels) if bias is None else len(bias)
    if classes == len(preset.labels) or classes not in LABEL_SETS:
        return preset
    return replace(preset, labels=LABEL_SETS[classes])


def _with_architecture(preset: Preset, tensors: Mapping[str, Tensor]) -> Preset:
    """Give a preset the arms and the fusion of a checkpoint, which may be an earlier version's."""
    if "visual.gru.weight_ih_l0" in tensors:
        preset = replace(preset, visual_arm="gru")
    if "fusion.weight" in tensors or "fusion.discount" in tensors:
        fusion: Literal["classifier", "pool"]
        fusion = "classifier" if "fusion.weight" in tensors else "pool"
        preset = replace(preset, fusion=fusion)
    audio = tensors.get("audio.classifier.weight")
    if audio is not None and audio.dim() == 2:
        preset = replace(preset, audio_width=audio.shape[1])
    return preset


def _may_be_fp16(name: str, value: Tensor) -> bool:
    """Whether a checkpoint in fp16 holds a weight as such; statistics of the training set are few,
    and what a place is compared with."""
    return value.is_floating_point() and ".standardise." not in name


def _with_statistics(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a checkpoint from before there was adaptation its arms' training statistics.

    They were those of a batch normalisation, or none.
    """
    old = {name for name in tensors if name.startswith("audio.norm.running_")}
    if not old and any(".standardise." in name for name in tensors):
        return tensors
    upgraded = {name: value for name, value in own.items() if ".standardise." in name}
    if old:
        upgraded["audio.standardise.mean"] = tensors["audio.norm.running_mean"].float()
        variance = tensors["audio.norm.running_var"].float()
        upgraded["audio.standardise.deviation"] = (variance + BATCH_NORM_EPSILON).sqrt()
        old.add("audio.norm.num_batches_tracked")
    return {**upgraded, **{name: v for name, v in tensors.items() if name not in old}}
