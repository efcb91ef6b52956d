"""The compact model: every network of the `compact` preset, and its checkpoint on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from train.arms import GruArm, VoiceArm
from train.datasets import EMOTIONS
from train.face_encoder import FaceEncoder
from train.speech_encoder import WIDTH, SpeechEncoder

CHECKPOINT = Path(__file__).parent / "checkpoints" / "compact" / "model.safetensors"

DEPTH = 3  # layers of Whisper's encoder: the fourth did not help unseen speakers
MAX_STEPS = 500  # of 20 ms: 10 s of speech
POOL = 2  # encoder steps averaged into one, for the GRU: 40 ms
VISUAL_WIDTH = 64
AUDIO_WIDTH = 128


class CompactModel(nn.Module):
    """Face and voice to the eight RAVDESS emotions.

    The arms and the fusion give logits; a probability is the softmax of logits over a temperature
    (Guo et al. 2017) that makes it mean what it says for unseen speakers.
    """

    temperature: Tensor  # (3,): visual, audio, fusion

    def __init__(self) -> None:
        super().__init__()
        labels = len(EMOTIONS)
        self.face = FaceEncoder()
        self.visual = GruArm(FaceEncoder.embedding, VISUAL_WIDTH, labels)
        self.speech = SpeechEncoder(DEPTH, MAX_STEPS)
        self.audio = VoiceArm(DEPTH, WIDTH, AUDIO_WIDTH, labels)
        self.fusion = nn.Linear(VISUAL_WIDTH + AUDIO_WIDTH, labels)
        self.register_buffer("temperature", torch.ones(3))

    def load_voice(self, arm: Mapping[str, Tensor], whisper: Mapping[str, Tensor]) -> None:
        """Take a trained voice arm, and the published weights of the encoder under it."""
        self.audio.load_state_dict(arm)
        self.speech.load_whisper(whisper)

    @torch.no_grad()
    def set_fusion(self, visual: float, audio: float, bias: Tensor) -> None:
        """Put the arms' classifiers side by side, each weighted, as the fused classifier."""
        v, a = self.visual.classifier, self.audio.arm.classifier
        self.fusion.weight.copy_(torch.cat([visual * v.weight, audio * a.weight], 1))
        self.fusion.bias.copy_(visual * v.bias + audio * a.bias + bias)

    def embed_faces(self, faces: Tensor) -> Tensor:
        """Embed (n, 1, 48, 48) uint8 grey faces: (n, 192)."""
        return self.face(faces)

    def embed_face_sequence(self, embeddings: Tensor) -> Tensor:
        """Give the (1, 64) state after (1, frames, 192) embeddings of a face over time."""
        return self.visual.gru(self.visual.norm(embeddings))[1][-1]

    def embed_speech(self, wave: Tensor) -> Tensor:
        """Give the (1, 128) state after (1, n) samples of speech."""
        states = self.audio.mix(pool_steps(self.speech(wave)))
        return self.audio.arm.gru(self.audio.arm.norm(states))[1][-1]

    def visual_scores(self, visual: Tensor) -> Tensor:
        """Score (1, 64) states of the visual arm: (1, 8)."""
        return (self.visual.classifier(visual) / self.temperature[0]).softmax(1)

    def audio_scores(self, audio: Tensor) -> Tensor:
        """Score (1, 128) states of the audio arm: (1, 8)."""
        return (self.audio.arm.classifier(audio) / self.temperature[1]).softmax(1)

    def fused_scores(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Score the states of both arms together: (1, 8)."""
        return (self.fusion(torch.cat([visual, audio], 1)) / self.temperature[2]).softmax(1)

    def networks(self) -> dict[str, Callable[..., tuple[Tensor, ...]]]:
        """Give the model as a bundle's networks: functions of named arrays to tuples of arrays."""

        def visual(embeddings: Tensor) -> tuple[Tensor, ...]:
            state = self.embed_face_sequence(embeddings)
            return self.visual_scores(state), state

        def audio(wave: Tensor) -> tuple[Tensor, ...]:
            state = self.embed_speech(wave)
            return self.audio_scores(state), state

        return {
            "face": lambda faces: (self.embed_faces(faces),),
            "visual": visual,
            "audio": audio,
            "fusion": lambda visual, audio: (self.fused_scores(visual, audio),),
        }


def pool_steps(states: Tensor) -> Tensor:
    """Average neighbouring steps of (n, steps, depth, width); a last odd one is left out."""
    batch, steps, depth, width = states.shape
    return states[:, : steps // POOL * POOL].view(batch, steps // POOL, POOL, depth, width).mean(2)


def save_compact(model: CompactModel, path: Path) -> None:
    """Write the checkpoint, its weights in half precision.

    Raises:
        ValueError: a weight is not finite, or too large for half precision.
    """
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    if wrong := [name for name, value in tensors.items() if not value.isfinite().all()]:
        raise ValueError(f"{path}: not written; half precision can't hold {', '.join(wrong[:5])}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # One entry: safetensors writes several in an order that changes from run to run.
    save_file(tensors, path, {"model": "mfer-edge compact"})
    path.chmod(0o644)  # safetensors lets its owner alone read it


def load_compact(path: Path = CHECKPOINT) -> CompactModel:
    """Read the checkpoint, strictly.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its names or shapes are not the compact model's.
    """
    model = CompactModel()
    own = model.state_dict()
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    wrong = [n for n in own if n not in tensors or tensors[n].shape != own[n].shape]
    wrong += [n for n in tensors if n not in own]
    if wrong:
        raise ValueError(f"{path}: not a compact model: {', '.join(wrong[:5])}")
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in tensors.items()})
    return model.eval()
