"""Small backbones, and comparison of the features that they give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from train.data.features import Features
from train.models.fer_resnet import FerResnet
from train.models.whisper import WhisperEncoder
from train.presets import COMPACT

PRESET = replace(COMPACT, views=3, face_views=3, longest_s=1.2, audio_arm="gru")
DEPTH = 2


def speech_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return WhisperEncoder(DEPTH, 500).eval()


def face_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return FerResnet().eval()


def same(one: Features, other: Features) -> bool:
    return len(one) == len(other) and all(
        len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))
        for ours, theirs in zip(one.sequences, other.sequences, strict=True)
    )


def chosen(found: Features, *numbers: int) -> Features:
    return Features([found.sequences[number] for number in numbers])
