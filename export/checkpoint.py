"""What is exported: a trained model, published backbones without training, or random weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from export.card import read_card
from mfer_edge.manifest import Weights
from train.models.emotion_model import CHECKPOINT, EmotionModel, load_model
from train.models.registry import FACE_BACKBONES, SPEECH_BACKBONES
from train.models.weights import CheckpointError
from train.presets import PRESETS, Preset

SEED = 0  # of random weights, so that an untrained bundle too is the same each time


@dataclass(frozen=True)
class Source:
    """A model to export, and what is known of it."""

    model: EmotionModel
    trained: bool  # False: its scores mean nothing
    weights: tuple[Weights, ...]
    notes: tuple[str, ...]
    card: str = ""  # in Markdown


DETECTORS = (
    Weights("vad", "Silero VAD 6.2.3, 16 kHz sequence model (Silero Team)", "MIT"),
    Weights("pnet, rnet, onet", "MTCNN, as shipped in facenet-pytorch 2.6.0", "MIT"),
)

COMPACT_ARMS = (
    Weights(
        "audio (arm), fusion",
        "trained here on URDU and RAVDESS speech",
        "CC BY-NC-SA 4.0, research only",
    ),
    Weights("face, visual", "trained here on FER-2013", "non-commercial research"),
)
"""Of the checkpoint in the package."""

RANDOM = ("random numbers", "none")  # source and licence of what was not trained


def open_source(
    preset: str | None = None,
    checkpoint: Path | None = None,
    weights: Path | None = None,
    random_init: bool = False,
) -> Source:
    """Load what is to be exported.

    Args:
        preset: its name; by default that of the checkpoint, or `compact`.
        checkpoint: of a trained model: a file, or the folder that holds it. By default the
            preset's in the package.
        weights: a folder of published backbones, to be put under untrained arms instead.
        random_init: make everything untrained instead.

    Raises:
        CheckpointError: it is missing, damaged, or not of this preset.
        CardError: the model card beside it can't be read.
    """
    if random_init:
        return _untrained(PRESETS[preset or "compact"])
    if weights is not None:
        return _over_published(PRESETS[preset or "compact"], weights)
    if checkpoint is None:
        if preset not in (None, "compact"):
            raise CheckpointError(_how_to_come_by(PRESETS[preset]))
        return _packaged()
    return _trained(checkpoint_file(checkpoint), preset)


def checkpoint_file(path: Path) -> Path:
    """Give the checkpoint's file: the path itself, or the one in that folder."""
    # A place that is closed to us, of which Path.is_dir would raise, is for `load_model` to name.
    return path / CHECKPOINT.name if os.path.isdir(path) else path


def _packaged() -> Source:
    model = load_model(CHECKPOINT)
    note = (
        "The visual arm learned from pictures, not video, and the voices are actors': "
        "see the model card."
    )
    weights = (*DETECTORS, _encoder(model), *COMPACT_ARMS)
    return Source(model, True, weights, (note,), read_card(CHECKPOINT.parent))


def _trained(file: Path, preset: str | None) -> Source:
    model = load_model(file)
    if preset not in (None, model.preset.name):
        raise CheckpointError(f"{file}: a model of the preset {model.preset.name}, not {preset}")
    face = FACE_BACKBONES[model.preset.face]
    terms = "those of what it was trained on"
    weights = (
        *DETECTORS,
        _encoder(model),
        Weights("face", face.source, face.licence),
        Weights("visual, audio (arm), fusion", "trained with mfer-edge", terms),
    )
    return Source(model, True, weights, (), read_card(file.parent))


def _encoder(model: EmotionModel) -> Weights:
    voice = SPEECH_BACKBONES[model.preset.speech]
    return Weights("audio (encoder)", voice.source, voice.licence)


def _untrained(preset: Preset) -> Source:
    torch.manual_seed(SEED)
    model = EmotionModel(preset).eval()
    weights = (*DETECTORS, Weights("face, visual, audio, fusion", *RANDOM))
    return Source(model, False, weights, ("Untrained: random weights.",))


def _over_published(preset: Preset, folder: Path) -> Source:
    face, voice = FACE_BACKBONES[preset.face], SPEECH_BACKBONES[preset.speech]
    torch.manual_seed(SEED)
    parts: list[nn.Module] = []
    missing: list[str] = []
    for backbone in (face, voice):
        try:
            parts.append(backbone.load(folder))
        except CheckpointError as error:
            missing.append(str(error))
        except OSError as error:
            missing.append(f"{error.filename}: {error.strerror}")
    if missing:  # all of it, for what is missing is hundreds of megabytes away
        raise CheckpointError("; ".join(missing))
    model = EmotionModel(preset, *parts).eval()
    weights = (
        *DETECTORS,
        Weights("face", face.source, face.licence),
        Weights("audio (encoder)", voice.source, voice.licence),
        Weights("visual, audio (arm), fusion", *RANDOM),
    )
    note = "The backbones are as published; the arms and the fusion are untrained."
    return Source(model, False, weights, (note,))


def _how_to_come_by(preset: Preset) -> str:
    wanted = f"{FACE_BACKBONES[preset.face].wanted} and {SPEECH_BACKBONES[preset.speech].wanted}"
    return (
        f"no trained model of the preset {preset.name} comes with the package: give --checkpoint "
        f"(`mfer-edge train all --preset {preset.name}` makes one), or --weights DIR with {wanted} "
        "downloaded into DIR, or --random-init for an untrained one to measure speed with"
    )
