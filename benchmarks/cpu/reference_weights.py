"""Weights of the reference in PyTorch, in a folder as the models are published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import third_party
from mfer_edge.errors import MferError
from train.models import emotion2vec, vit
from train.models.emotion_model import EmotionModel

MODEL_CONF = "config.json"  # beside emotion2vec's weights: what funasr's class is built from
ARMS = "arms.pt"


@dataclass(frozen=True)
class ReferenceModels:
    """All models of the reference, loaded.

    Face detection and VAD bring their own weights.
    """

    silero: Any  # the package
    vad: Any
    mtcnn: Any
    vit: Any
    emotion2vec: nn.Module
    visual: nn.GRU
    audio: nn.GRU
    fusion: nn.Linear

    @classmethod
    def load(cls, folder: Path) -> ReferenceModels:
        """Load the models.

        Args:
            folder: as `write_weights` writes it.

        Raises:
            MferError: a package is missing, or the folder holds no such weights.
        """
        if not (folder / ARMS).is_file():
            raise MferError(f"{folder}: no {ARMS}: name a new folder for random weights instead")
        silero, mtcnn = third_party.silero(), third_party.facenet().MTCNN()
        vit_class = third_party.transformers().ViTForImageClassification
        arms = torch.load(folder / ARMS, weights_only=True)
        fusion = nn.Linear(*reversed(arms["fusion"]["weight"].shape))
        fusion.load_state_dict(arms["fusion"])
        return cls(
            silero=silero,
            vad=silero.load_silero_vad(),
            mtcnn=mtcnn,
            vit=vit_class.from_pretrained(folder / vit.FOLDER).eval(),
            emotion2vec=load_emotion2vec(folder / emotion2vec.FOLDER),
            visual=_gru(arms["visual"]),
            audio=_gru(arms["audio"]),
            fusion=fusion,
        )


def load_emotion2vec(folder: Path) -> nn.Module:
    """Build funasr's model and load its weights.

    Raises:
        MferError: funasr is missing.
    """
    conf = json.loads((folder / MODEL_CONF).read_text())
    model = third_party.emotion2vec().Emotion2vec(
        model_conf=conf, vocab_size=len(emotion2vec.LABELS)
    )
    state = torch.load(folder / "model.pt", weights_only=True)["model"]
    model.load_state_dict({name.removeprefix("d2v_model."): v for name, v in state.items()})
    return model.eval()


def emotion2vec_features(model: Any, speech: Tensor) -> Tensor:
    """Compute funasr's features of (samples,) 16 kHz speech: (1, steps, width)."""
    normalised = F.layer_norm(speech, speech.shape)
    return model.extract_features(normalised[None], padding_mask=None)["x"]


def _gru(state: dict[str, Tensor]) -> nn.GRU:
    gates, width_in = state["weight_ih_l0"].shape
    gru = nn.GRU(width_in, gates // 3, num_layers=2, batch_first=True)
    gru.load_state_dict(state)
    return gru


def write_weights(model: EmotionModel, folder: Path) -> None:
    """Write the weights of a model of the preset `paper`: backbones as published, and the arms."""
    face, voice = folder / vit.FOLDER, folder / emotion2vec.FOLDER
    for path in (face, voice):
        path.mkdir(parents=True)
    vit_config: Any = model.face.config
    labels = dict(enumerate(vit.LABELS))
    published = {**vit_config.published(), "model_type": "vit", "id2label": labels}
    (face / "config.json").write_text(json.dumps(published))
    save_file(model.face.state_dict(), face / "model.safetensors")
    conf = third_party.emotion2vec_conf(model.speech.config)  # type: ignore[arg-type]
    (voice / MODEL_CONF).write_text(json.dumps(conf))
    torch.save({"model": model.speech.state_dict()}, voice / "model.pt")
    arms = {
        "visual": model.visual.gru.state_dict(),  # type: ignore[union-attr]
        "audio": model.audio.gru.state_dict(),  # type: ignore[union-attr]
        "fusion": model.fusion.state_dict(),
    }
    torch.save(arms, folder / ARMS)
