"""The backbones of both arms, by name. Adding one adds one entry here and one module beside this.

See `train.models.base` for what a backbone provides.
"""

from __future__ import annotations

from pathlib import Path

from train.models import emotion2vec, fer_resnet, vit, whisper
from train.models.base import BackboneSpec, HubModel
from train.models.weights import load_strict, read_state, require_file

WHISPER = "whisper_tiny_en_encoder.safetensors"
FER_FACE = "fer_face.safetensors"
DEPTH = 3  # layers of Whisper's encoder: the fourth did not help on unseen speakers
MAX_STEPS = 500  # of 20 ms: 10 s of speech


def load_fer_resnet(weights: Path) -> fer_resnet.FerResnet:
    """Read the face network that `mfer-edge train faces` leaves, without its classifier.

    Raises:
        CheckpointError: the file is missing, or holds another network.
    """
    path = weights / FER_FACE
    require_file(path, f"{path}: not there; `mfer-edge train faces` makes it")
    encoder = fer_resnet.FerResnet()
    state = {name: v for name, v in read_state(path).items() if name.startswith("encoder.")}
    load_strict(encoder, {n.removeprefix("encoder."): v for n, v in state.items()}, str(path))
    return encoder.eval()


def make_whisper() -> whisper.WhisperEncoder:
    """Make the kept layers of Whisper's encoder, with random weights."""
    return whisper.WhisperEncoder(DEPTH, MAX_STEPS)


def load_whisper(weights: Path) -> whisper.WhisperEncoder:
    """Read the kept layers of Whisper tiny.en's encoder.

    Raises:
        CheckpointError: the file is missing, or holds another network.
    """
    path = weights / WHISPER
    require_file(
        path,
        f"{path}: not there; it is the encoder of Whisper tiny.en, in the names of "
        "transformers' WhisperEncoder",
    )
    encoder = make_whisper()
    encoder.load_whisper(read_state(path), str(path))
    return encoder.eval()


FACE_BACKBONES = {
    "fer-resnet": BackboneSpec(
        make=fer_resnet.FerResnet,
        load=load_fer_resnet,
        source="trained here on FER-2013",
        licence="non-commercial research",
        wanted=f"{FER_FACE} (made by `mfer-edge train faces`)",
        size=fer_resnet.FACE_SIZE,
    ),
    "vit": BackboneSpec(
        make=vit.Vit,
        load=vit.load_vit,
        source="dima806/facial_emotions_image_detection (ViT-B/16)",
        licence="Apache-2.0",
        wanted="facial_emotions_image_detection/config.json and model.safetensors "
        "(dima806/facial_emotions_image_detection on the model hub)",
        size=224,
        hub=HubModel(vit.HUB, vit.FOLDER, ("config.json", "model.safetensors")),
    ),
}
SPEECH_BACKBONES = {
    "whisper-tiny-en": BackboneSpec(
        make=make_whisper,
        load=load_whisper,
        source="Whisper tiny.en (OpenAI)",
        licence="MIT",
        wanted=f"{WHISPER} (the encoder of openai/whisper-tiny.en, in the names of transformers)",
    ),
    "emotion2vec": BackboneSpec(
        make=emotion2vec.Emotion2vec,
        load=emotion2vec.load_emotion2vec,
        source="emotion2vec_plus_base (Ma et al. 2024)",
        licence="FunASR Model License: attribution, the model's name kept",
        wanted="emotion2vec_plus_base/model.pt "
        "(emotion2vec/emotion2vec_plus_base on the model hub)",
        hub=HubModel(emotion2vec.HUB, emotion2vec.FOLDER, ("model.pt",)),
    ),
}
