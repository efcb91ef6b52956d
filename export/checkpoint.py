"""Models to export: trained ones, published backbones with untrained arms, or random weights."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from export.card import read_card
from mfer_edge.manifest import Weights
from train.models.emotion_model import CHECKPOINT, EmotionModel, load_model
from train.models.hub import Downloaded, Hub, Pin
from train.models.registry import FACE_BACKBONES, SPEECH_BACKBONES
from train.models.weights import CheckpointError
from train.presets import PRESETS, Preset

SEED = 0  # of random weights, so that untrained bundles are reproducible


@dataclass(frozen=True)
class Source:
    """A model to export, with the facts for its manifest and its model card."""

    model: EmotionModel
    trained: bool  # False: the scores mean nothing
    weights: tuple[Weights, ...]
    notes: tuple[str, ...]
    approximations: tuple[str, ...] = ()  # changes to the model that alter its scores
    card: str = ""  # in Markdown


DETECTORS = (
    Weights("vad", "Silero VAD 6.2.3, 16 kHz sequence model (Silero Team)", "MIT"),
    Weights("pnet, rnet, onet", "MTCNN, as shipped in facenet-pytorch 2.6.0", "MIT"),
)

COMPACT_ARMS = (
    Weights(
        "audio (arm), fusion",
        "trained here on ten corpora of acted speech and on ordinary speech: LICENSE-WEIGHTS.md",
        "attribution, non-commercial, research",
    ),
    Weights(
        "face, visual",
        "trained here on FER-2013, FER+ votes and ordinary talking faces",
        "non-commercial research",
    ),
)
"""Origin of the arms of the checkpoint in the package."""

RANDOM = ("random numbers", "none")  # source and licence of untrained weights


def open_source(
    preset: str | None = None,
    checkpoint: Path | None = None,
    weights: Path | None = None,
    random_init: bool = False,
    hub: Hub | None = None,
) -> Source:
    """Load a model to export.

    Args:
        preset: name of the preset; by default the checkpoint's, or `compact`.
        checkpoint: a trained model's file or its folder; by default the preset's in the package.
        weights: folder of published backbones to combine with untrained arms, instead of a
            checkpoint.
        random_init: initialize everything at random, instead of a checkpoint.
        hub: to download published backbones from, instead of a checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of another preset.
        CardError: the model card beside it can't be read.
        DownloadError: the hub, or a file there, can't be had.
    """
    if hub is not None:
        return _downloaded(PRESETS[preset or "compact"], hub)
    if random_init:
        return _random(PRESETS[preset or "compact"])
    if weights is not None:
        chosen = PRESETS[preset or "compact"]
        face, voice = FACE_BACKBONES[chosen.face], SPEECH_BACKBONES[chosen.speech]
        return _published(chosen, face.folder(weights), voice.folder(weights))
    if checkpoint is None:
        if preset not in (None, "compact"):
            raise CheckpointError(_no_checkpoint(PRESETS[preset]))
        return _packaged()
    return _trained(checkpoint_file(checkpoint), preset)


def model_identity(model: nn.Module) -> str:
    """SHA-256 of a model's weights by name, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def checkpoint_file(path: Path) -> Path:
    """The checkpoint's file: the path itself, or the file in that folder."""
    # Unlike Path.is_dir, os.path.isdir doesn't raise without permission: `load_model` reports it.
    return path / CHECKPOINT.name if os.path.isdir(path) else path


def _packaged() -> Source:
    model = load_model(CHECKPOINT)
    note = (
        "The visual arm learned from pictures, not video, and the voices are actors': "
        "see the model card."
    )
    weights = (*DETECTORS, _encoder(model), *COMPACT_ARMS)
    return Source(model, True, weights, (note,), card=read_card(CHECKPOINT.parent))


def _trained(file: Path, preset: str | None) -> Source:
    model = load_model(file)
    if preset not in (None, model.preset.name):
        raise CheckpointError(f"{file}: a model of the preset {model.preset.name}, not {preset}")
    face = FACE_BACKBONES[model.preset.face]
    terms = "those of its training data"
    weights = (
        *DETECTORS,
        _encoder(model),
        Weights("face", face.source, face.licence),
        Weights("visual, audio (arm), fusion", "trained with mfer-edge", terms),
    )
    return Source(model, True, weights, (), card=read_card(file.parent))


def _encoder(model: EmotionModel) -> Weights:
    voice = SPEECH_BACKBONES[model.preset.speech]
    return Weights("audio (encoder)", voice.source, voice.licence)


def _random(preset: Preset) -> Source:
    torch.manual_seed(SEED)
    model = EmotionModel(preset).eval()
    weights = (*DETECTORS, Weights("face, visual, audio, fusion", *RANDOM))
    return Source(model, False, weights, ("Untrained: random weights.",))


def _downloaded(preset: Preset, hub: Hub) -> Source:
    """Published backbones from the model hub; the manifest names their revisions and digests."""
    found: list[Downloaded] = []
    for backbone in (FACE_BACKBONES[preset.face], SPEECH_BACKBONES[preset.speech]):
        if backbone.hub is None:
            raise CheckpointError(
                f"the weights of the preset {preset.name} are not on the model hub: see --weights"
            )
        found.append(hub.fetch(backbone.hub, Pin.of(backbone.hub.repo), backbone.licence))
    face, voice = found
    source = _published(preset, face.folder, voice.folder)
    states = {"face": face, "audio (encoder)": voice}
    weights = tuple(
        replace(one, source=f"{one.source}, {states[one.part]}") if one.part in states else one
        for one in source.weights
    )
    return replace(source, weights=weights)


def _published(preset: Preset, face_files: Path, voice_files: Path) -> Source:
    face, voice = FACE_BACKBONES[preset.face], SPEECH_BACKBONES[preset.speech]
    torch.manual_seed(SEED)
    parts: list[nn.Module] = []
    missing: list[str] = []
    for backbone, folder in ((face, face_files), (voice, voice_files)):
        try:
            parts.append(backbone.load(folder))
        except CheckpointError as error:
            missing.append(str(error))
    if missing:  # all files at once: each is a large download
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


def _no_checkpoint(preset: Preset) -> str:
    wanted = f"{FACE_BACKBONES[preset.face].wanted} and {SPEECH_BACKBONES[preset.speech].wanted}"
    return (
        f"no trained model of the preset {preset.name} comes with the package: give --checkpoint "
        f"(`mfer-edge train all --preset {preset.name}` makes one), --download, or "
        f"--weights DIR with {wanted} downloaded into DIR, or --random-init for an "
        "untrained one to measure its speed"
    )
