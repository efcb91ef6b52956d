"""The networks under the arms, by name. Adding one touches nothing else.

A face backbone turns (n, 1, size, size) grey faces, 0 to 255, into (n, width) embeddings. A speech
backbone turns (1, samples) of a 16 kHz recording into (1, steps, width), or (1, steps, depth,
width) where the arm is to mix several layers; its `embed` does so for many recordings of any
lengths. `trainable(n)` lists the last n blocks of either, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

WHISPER = "whisper_tiny_en_encoder.safetensors"
FER_FACE = "fer_face.safetensors"
DEPTH = 3  # layers of Whisper's encoder: the fourth did not help unseen speakers
MAX_STEPS = 500  # of 20 ms: 10 s of speech


class FaceBackbone(Protocol):
    size: int  # pixels on a side
    width: int

    def __call__(self, faces: Tensor) -> Tensor: ...
    def trainable(self, last: int) -> list[nn.Module]: ...


class SpeechBackbone(Protocol):
    depth: int
    width: int

    def __call__(self, wave: Tensor) -> Tensor: ...
    def embed(self, waves: Sequence[Tensor]) -> list[Tensor]: ...
    def trainable(self, last: int) -> list[nn.Module]: ...


def last_blocks(blocks: Sequence[nn.Module], last: int) -> list[nn.Module]:
    """Give the last so many of a backbone's blocks, in their order, for fine-tuning.

    Raises:
        ValueError: there are not so many.
    """
    if not 0 <= last <= len(blocks):
        raise ValueError(f"{last} of {len(blocks)} blocks")
    return list(blocks[len(blocks) - last :])


@dataclass(frozen=True)
class Backbone:
    """How to come by a backbone."""

    make: Callable[[], nn.Module]  # with random weights
    load: Callable[[Path], nn.Module]
    """From a folder of published weights; CheckpointError where they are missing or don't fit."""
    source: str  # whose weights these are
    licence: str  # theirs
    wanted: str  # what a folder of published weights must hold, and where that comes from
    size: int = 0  # of a face: pixels on a side


def _fer_resnet() -> nn.Module:
    from train.models.fer_resnet import FerResnet

    return FerResnet()


def _load_fer_resnet(weights: Path) -> nn.Module:
    from train.models.fer_resnet import FerResnet
    from train.models.weights import CheckpointError, load_strict, read_state

    path = weights / FER_FACE
    if not path.is_file():
        raise CheckpointError(f"{path}: not there; `mfer-edge train faces` makes it")
    encoder = FerResnet()
    state = {name: v for name, v in read_state(path).items() if name.startswith("encoder.")}
    load_strict(encoder, {n.removeprefix("encoder."): v for n, v in state.items()}, str(path))
    return encoder.eval()


def _whisper() -> nn.Module:
    from train.models.whisper import WhisperEncoder

    return WhisperEncoder(DEPTH, MAX_STEPS)


def _load_whisper(weights: Path) -> nn.Module:
    from train.models.weights import CheckpointError, read_state

    path = weights / WHISPER
    if not path.is_file():
        raise CheckpointError(
            f"{path}: not there; it is the encoder of Whisper tiny.en, in the names of "
            "transformers' WhisperEncoder"
        )
    encoder = _whisper()
    encoder.load_whisper(read_state(path), str(path))  # type: ignore[operator]
    return encoder.eval()


def _vit() -> nn.Module:
    from train.models.vit import Vit

    return Vit()


def _load_vit(weights: Path) -> nn.Module:
    from train.models.vit import FOLDER, load_vit

    return load_vit(weights / FOLDER)


def _emotion2vec() -> nn.Module:
    from train.models.emotion2vec import Emotion2vec

    return Emotion2vec()


def _load_emotion2vec(weights: Path) -> nn.Module:
    from train.models.emotion2vec import FOLDER, load_emotion2vec

    return load_emotion2vec(weights / FOLDER)


FACE_BACKBONES = {
    "fer-resnet": Backbone(
        _fer_resnet,
        _load_fer_resnet,
        source="trained here on FER-2013",
        licence="non-commercial research",
        wanted=f"{FER_FACE} (made by `mfer-edge train faces`)",
        size=48,
    ),
    "vit": Backbone(
        _vit,
        _load_vit,
        source="dima806/facial_emotions_image_detection (ViT-B/16)",
        licence="Apache-2.0",
        wanted="facial_emotions_image_detection/config.json and model.safetensors "
        "(dima806/facial_emotions_image_detection on the model hub)",
        size=224,
    ),
}
SPEECH_BACKBONES = {
    "whisper-tiny-en": Backbone(
        _whisper,
        _load_whisper,
        source="Whisper tiny.en (OpenAI)",
        licence="MIT",
        wanted=f"{WHISPER} (the encoder of openai/whisper-tiny.en, in the names of transformers)",
    ),
    "emotion2vec": Backbone(
        _emotion2vec,
        _load_emotion2vec,
        source="emotion2vec_plus_base (Ma et al. 2024)",
        licence="FunASR Model License: attribution, the model's name kept",
        wanted="emotion2vec_plus_base/model.pt "
        "(emotion2vec/emotion2vec_plus_base on the model hub)",
    ),
}
