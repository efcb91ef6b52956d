"""Small synthetic datasets and weights in the forms in which the real ones are published."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mfer_edge.samples import ANGER
from tests.support.clips import write_clip
from tests.support.footage import filmed, images_of
from train import fuse, train_arms
from train.data.index import Entry
from train.faces import training
from train.labels import EMOTIONS, FACE_EMOTIONS, FOUR_EMOTIONS
from train.models import emotion2vec, vit
from train.models.emotion2vec import Emotion2vec, Emotion2vecConfig, load_emotion2vec
from train.models.fer_resnet import FerResnet
from train.models.registry import FACE_BACKBONES, FER_FACE, SPEECH_BACKBONES, WHISPER
from train.models.vit import Vit, VitConfig, load_vit
from train.models.whisper import WhisperEncoder
from train.presets import COMPACT, PAPER, PRESETS, Preset, Stage

RATE = 16_000  # Hz
CAST = (1, 2, 3, 5, 6, 8, 10, 11, 17, 22)  # two RAVDESS actors of each published fold


def voice(seconds: float, seed: int = 0, pitch: float = 120.0) -> np.ndarray:
    """A hum with harmonics, syllables and some noise, which Silero VAD mostly takes for speech."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE)) / RATE
    glide = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.9 * time_s))) / RATE
    hum = sum(np.sin(k * glide + k) / k for k in range(1, 25))
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * 3.5 * time_s)
    hiss = 0.02 * random.standard_normal(len(time_s))
    return (0.05 * syllables * hum + 0.05 * hiss).astype(np.float32)


def write_sound(path: Path, wave: np.ndarray) -> Path:
    """Write (n,) float32 samples, 16 kHz, to a wav file."""
    return write_clip(path, video=None, audio=wave[None], rate=RATE)


def entry(path: Path, kind: str = "audio", label: str = "neutral", **fields: Any) -> Entry:
    """A file as an index lists it, with the sha256 of its bytes as its content."""
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    made = Entry(path, -1, "own", kind, label, "", "", "", f"own/{path.stem}", content)
    return replace(made, **fields)


def whisper_weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights with the names and shapes of Whisper tiny.en's encoder."""
    random = torch.Generator().manual_seed(seed)
    shapes = {name: value.shape for name, value in WhisperEncoder(4, 1500).state_dict().items()}
    shapes |= {"layer_norm.weight": torch.Size([384]), "layer_norm.bias": torch.Size([384])}
    weights = {}
    for name, shape in shapes.items():
        inputs = int(np.prod(shape[1:])) if len(shape) > 1 else 100
        weights[name] = torch.randn(shape, generator=random) * inputs**-0.5
        if name.endswith("layer_norm.weight"):
            weights[name] += 1.0
    return weights


def whisper_file(path: Path, seed: int = 0) -> Path:
    """Write `whisper_weights` as they are published."""
    save_file({name: value.half() for name, value in whisper_weights(seed).items()}, path)
    return path


def ravdess_tree(root: Path, actors: int = 24, takes: int = 2, seconds: float = 0.6) -> Path:
    """Write short hums in RAVDESS's layout; an emotion's pitch is its own."""
    for actor in range(1, actors + 1):
        folder = root / f"Actor_{actor:02}"
        folder.mkdir(parents=True)
        for take in range(takes):
            emotion = (actor * takes + take) % len(EMOTIONS)
            sound = voice(seconds + 0.01 * actor, seed=100 * actor + take, pitch=90 + 30 * emotion)
            name = f"03-01-{emotion + 1:02}-01-01-01-{actor:02}.wav"
            write_sound(folder / name, sound)
    return root


def face_image(label: int, random: np.random.Generator) -> np.ndarray:
    """A noisy image of a bar at its label's angle: (48, 48) uint8."""
    angle = np.pi * label / len(FACE_EMOTIONS)
    rows, columns = np.mgrid[-1:1:48j, -1:1:48j]
    bar = np.abs(rows * np.cos(angle) + columns * np.sin(angle)) < 0.3
    grey = 60 + 120 * bar + 15 * random.standard_normal((48, 48))
    return grey.clip(0, 255).astype(np.uint8)


def fer_tree(root: Path, each: int, seed: int = 0) -> Path:
    """Write images in FER-2013's layout, so many for each emotion."""
    random = np.random.default_rng(seed)
    for label, emotion in enumerate(FACE_EMOTIONS):
        folder = root / emotion
        folder.mkdir(parents=True)
        for index in range(each):
            cv2.imwrite(str(folder / f"{index}.png"), face_image(label, random))
    return root


def spoken_tree(root: Path, actors: int = 16, takes: int = 4) -> Path:
    """Write short hums in RAVDESS's layout; two actors in a row act all emotions."""
    for actor in range(1, actors + 1):
        folder = root / f"Actor_{actor:02}"
        folder.mkdir(parents=True)
        for take in range(takes):
            emotion = (actor * takes + take) % len(EMOTIONS)
            name = f"03-01-{emotion + 1:02}-01-01-01-{actor:02}.wav"
            sound = voice(0.5 + 0.005 * actor, 100 * actor + take, 90 + 30 * emotion)
            write_sound(folder / name, sound)
    return root


@functools.cache
def real_faces() -> list[np.ndarray]:
    """Faces from a real clip, close up, in which MTCNN finds them again: (64, 64, 3) uint8 BGR."""
    images = images_of(ANGER)[::5]
    return [cv2.resize(image[51:315, 201:465], (64, 64)) for image in images]


def write_film(path: Path, sound: np.ndarray | None, seed: int) -> Path:
    """Write 0.6 s of a real face, with or without a voice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    faces = real_faces()
    shades = [faces[(seed + n) % len(faces)] // 2 + 10 * (seed % 8) for n in range(3)]
    return filmed(path, shades, sound)


def film_tree(root: Path, actors: Sequence[int] = CAST, takes: int = 4) -> Path:
    """Write short films in the layout of RAVDESS's full clips."""
    for number, actor in enumerate(actors):
        for take in range(takes):
            emotion = (number * takes + take) % len(EMOTIONS)
            name = f"01-01-{emotion + 1:02}-01-01-01-{actor:02}.mp4"
            sound = voice(0.6, 100 * actor + take, 90 + 30 * emotion)
            write_film(root / f"Actor_{actor:02}" / name, sound, 4 * actor + take)
    return root


def published_trees(root: Path) -> list[str]:
    """Write a few files in each layout that the paper's training knows: NAME=FOLDER of each."""
    film_tree(root / "RAVDESS")
    for number, emotion in enumerate(EMOTIONS):
        sound = voice(0.6, 5000 + number)
        write_film(root / "Own" / emotion / f"ann_{number}.mp4", sound, number)
    names: list[str] = []
    for number, emotion in enumerate(FOUR_EMOTIONS):
        code, letter = emotion[:3].upper(), emotion[0].upper()
        for actor in (1, 2, 3, 4, 5):
            names.append(f"CREMA-D/AudioWAV/100{actor}_DFA_{code}_XX.wav")
        for actor in (1, 2):
            names += [
                f"ShEMO/female/F0{actor}{letter}0{number}.wav",
                f"URDU/{emotion.title()}/SM{actor}_F{number}_{letter}01.wav",
                f"Saudi/{emotion.title()}/clip-{actor}.wav",
            ]
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sound(path, voice(0.5, 9000 + seed, 90 + 10 * (seed % 9)))
    return [
        f"{name}={root / folder}"
        for name, folder in [
            ("ravdess", "RAVDESS"),
            ("own", "Own"),
            ("crema-d", "CREMA-D"),
            ("shemo", "ShEMO"),
            ("urdu", "URDU"),
            ("saudi", "Saudi"),
        ]
    ]


SMALL_EMOTION2VEC = Emotion2vecConfig(
    convolutions=((16, 20, 5), (16, 13, 8), (16, 9, 8)),  # the published step and span, in three
    width=24,
    heads=3,
    feed_forward=48,
    prenet_depth=1,
    depth=2,
    position_groups=4,
)


SMALL_VIT = VitConfig(size=32, patch=8, width=24, depth=3, heads=4, feed_forward=48)


def small_preset(preset: Preset, epochs: int, **changes: object) -> Preset:
    """The same with two views and stages of few epochs."""

    def shorter(stage: Stage) -> Stage:
        return replace(stage, options=replace(stage.options, epochs=epochs))

    recipe = preset.voices and replace(preset.voices, draws=256, neutral_prior=0.0)

    tuning, backbone = preset.fine_tuning, preset.backbone
    if backbone is not None:
        options = replace(backbone.options, epochs=1, batch=8)
        small = replace(backbone.recipe, draws=16)
        backbone = replace(backbone, options=options, recipe=small)
    return replace(
        preset,
        views=2,
        face_views=2,
        visual=shorter(preset.visual),
        audio_one=preset.audio_one and shorter(preset.audio_one),
        audio_two=shorter(preset.audio_two),
        voices=recipe,
        backbone=backbone,
        fine_tuning=replace(tuning, options=replace(tuning.options, epochs=1)),
        combined=preset.combined and replace(preset.combined, epochs=epochs),
        **changes,
    )


@contextmanager
def small_presets() -> Iterator[None]:
    """Both presets as they are, but short; `paper` with small backbones of its own classes."""
    with pytest.MonkeyPatch.context() as patch:
        paper = small_preset(PAPER, 2, visual_width=8, audio_width=8)
        patch.setitem(PRESETS, "compact", small_preset(COMPACT, 1, fine_tuned=1))
        patch.setitem(PRESETS, "paper", paper)
        face = replace(
            FACE_BACKBONES["vit"],
            make=lambda: Vit(SMALL_VIT),
            load=lambda folder: load_vit(folder, SMALL_VIT),
            size=SMALL_VIT.size,
        )
        speech = replace(
            SPEECH_BACKBONES["emotion2vec"],
            make=lambda: Emotion2vec(SMALL_EMOTION2VEC),
            load=lambda folder: load_emotion2vec(folder, SMALL_EMOTION2VEC),
        )
        patch.setitem(FACE_BACKBONES, "vit", face)
        patch.setitem(SPEECH_BACKBONES, "emotion2vec", speech)
        patch.setattr(train_arms, "SYNTHETIC", 128)
        patch.setattr(training, "MEANS", 512)
        patch.setattr(fuse, "CALIBRATING", 80)
        yield


def published_weights(folder: Path) -> Path:
    """Write random weights of all backbones, the paper's small ones, as they are published."""
    torch.manual_seed(0)
    voice, face = folder / emotion2vec.FOLDER, folder / vit.FOLDER
    for path in (voice, face):
        path.mkdir(parents=True)
    whisper_file(folder / WHISPER)
    encoder = {f"encoder.{n}": v.contiguous() for n, v in FerResnet().state_dict().items()}
    save_file(encoder, folder / FER_FACE)
    torch.save({"model": Emotion2vec(SMALL_EMOTION2VEC).state_dict()}, voice / "model.pt")
    save_file(Vit(SMALL_VIT).state_dict(), face / "model.safetensors")
    labels = dict(enumerate(vit.LABELS))
    config = SMALL_VIT.published() | {"model_type": "vit", "id2label": labels}
    (face / "config.json").write_text(json.dumps(config))
    return folder
