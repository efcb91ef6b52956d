"""Small made-up data sets and weights in the forms in which the real ones are published."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.clips import write_clip
from train.datasets import EMOTIONS, FACE_EMOTIONS
from train.speech_encoder import SpeechEncoder

RATE = 16_000  # Hz


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
    return write_clip(path, video=None, sound=wave[None], rate=RATE)


def whisper_weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights with the names and shapes of Whisper tiny.en's encoder."""
    random = torch.Generator().manual_seed(seed)
    shapes = {name: value.shape for name, value in SpeechEncoder(4, 1500).state_dict().items()}
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


def face_picture(label: int, random: np.random.Generator) -> np.ndarray:
    """A noisy picture with a bar at the angle that stands for its label: (48, 48) uint8."""
    angle = np.pi * label / len(FACE_EMOTIONS)
    rows, columns = np.mgrid[-1:1:48j, -1:1:48j]
    bar = np.abs(rows * np.cos(angle) + columns * np.sin(angle)) < 0.3
    grey = 60 + 120 * bar + 15 * random.standard_normal((48, 48))
    return grey.clip(0, 255).astype(np.uint8)


def fer_tree(root: Path, each: int, seed: int = 0) -> Path:
    """Write pictures in FER-2013's layout, so many for each emotion."""
    random = np.random.default_rng(seed)
    for label, emotion in enumerate(FACE_EMOTIONS):
        folder = root / emotion
        folder.mkdir(parents=True)
        for index in range(each):
            cv2.imwrite(str(folder / f"{index}.png"), face_picture(label, random))
    return root
