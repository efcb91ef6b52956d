"""The encoder of emotion2vec (Ma et al. 2024): data2vec 2.0 (Baevski et al. 2023) on speech."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfer_edge.errors import MferError
from train.models.base import last_blocks
from train.models.weights import load_strict, published_file, read_state

HUB = "emotion2vec/emotion2vec_plus_base"
FOLDER = "emotion2vec_plus_base"  # below `--weights`
SAMPLE_RATE = 16_000  # Hz
LABELS = (
    "angry",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "other",
    "sad",
    "surprised",
    "unknown",
)
"""Classes of the published classifier, in its order."""

DECODER = "d2v_model.modality_encoders.AUDIO.decoder."  # only pre-training needs it


@dataclass(frozen=True)
class Emotion2vecConfig:
    """The sizes of an encoder; those of emotion2vec_plus_base unless told otherwise."""

    convolutions: tuple[tuple[int, int, int], ...] = (  # (channels, kernel, stride)
        (512, 10, 5),
        *((512, 3, 2),) * 4,
        *((512, 2, 2),) * 2,
    )
    width: int = 768  # of a feature, and between the blocks
    heads: int = 12
    feed_forward: int = 3072
    prenet_depth: int = 4  # blocks that belong to the audio encoder in data2vec's naming
    depth: int = 8  # blocks after those
    position_depth: int = 5  # convolutions of the relative positions
    position_kernel: int = 19  # steps, odd
    position_groups: int = 16
    extra_tokens: int = 10  # learned, prepended to the sequence

    @property
    def shortest(self) -> int:
        """Samples for one feature: 400 in the published model."""
        samples = 1
        for _, kernel, stride in reversed(self.convolutions):
            samples = (samples - 1) * stride + kernel
        return samples


# The names of attributes and the places in sequences below are those of the published weights.


class Transpose(nn.Module):
    """(batch, channels, steps) to (batch, steps, channels), or back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention with a bias by distance."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, steps, width = x.shape
        split = self.qkv(x).view(batch, steps, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
        weights = (q * (width // self.heads) ** -0.5 @ k.transpose(2, 3) + bias).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, steps, width))


class Block(nn.Module):
    """Self-attention and feed-forward, each before its layer norm."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.attn = Attention(config.width, config.heads)
        self.norm1 = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(config.width, config.feed_forward),
                gelu=nn.GELU(),
                fc2=nn.Linear(config.feed_forward, config.width),
            )
        )
        self.norm2 = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x, bias))
        return self.norm2(x + self.mlp(x))


def alibi_slopes(heads: int) -> list[float]:
    """Slopes of ALiBi, the attention bias by distance, for each head (Press et al. 2022).

    They shrink from head to head down to 1/256. Where the number of heads is no power of two, those
    beyond the next lower one lie between the first ones.
    """
    power = 2 ** int(math.log2(heads))
    places = [k + 1.0 for k in range(power)] + [k + 0.5 for k in range(heads - power)]
    return [2.0 ** (-8 * place / power) for place in places]


def local_layer(channels_in: int, convolution: tuple[int, int, int]) -> nn.Sequential:
    """A convolution over the waveform, with layer norm over the channels."""
    channels, kernel, stride = convolution
    return nn.Sequential(
        nn.Conv1d(channels_in, channels, kernel, stride, bias=False),
        nn.Identity(),  # place of the published model's dropout
        nn.Sequential(Transpose(), nn.LayerNorm(channels), Transpose()),
        nn.GELU(),
    )


def position_layer(config: Emotion2vecConfig) -> nn.Sequential:
    """A convolution over steps, for relative positions."""
    width, kernel, groups = config.width, config.position_kernel, config.position_groups
    return nn.Sequential(
        nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups),
        Transpose(),
        nn.LayerNorm(width, elementwise_affine=False),
        Transpose(),
        nn.GELU(),
    )


class AudioEncoder(nn.Module):
    """From a waveform to the first block's input and the attention bias."""

    slopes: Tensor

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        width = config.width
        channels = [1, *(channels for channels, _, _ in config.convolutions)]
        layers = map(local_layer, channels, config.convolutions)
        self.local_encoder = nn.ModuleDict({"conv_layers": nn.Sequential(*layers)})
        self.project_features = nn.Sequential(
            Transpose(), nn.LayerNorm(channels[-1]), nn.Linear(channels[-1], width)
        )
        positions = (position_layer(config) for _ in range(config.position_depth))
        self.relative_positional_encoder = nn.Sequential(Transpose(), *positions, Transpose())
        blocks = (Block(config) for _ in range(config.prenet_depth))
        self.context_encoder = nn.ModuleDict(
            {"norm": nn.LayerNorm(width), "blocks": nn.ModuleList(blocks)}
        )
        self.extra_tokens = nn.Parameter(torch.randn(1, config.extra_tokens, width))
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, config.heads, 1, 1))
        slopes = torch.tensor(alibi_slopes(config.heads))[:, None, None]
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Give (batch, extra + steps, width) and the bias of the attention."""
        x = self.project_features(self.local_encoder["conv_layers"](wave[:, None]))
        x = x + self.relative_positional_encoder(x)
        extra = self.extra_tokens.shape[1]
        # Computed from the input's length: a stored one would be a constant in an exported graph.
        place = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
        distance = (place[:, None] - place).abs()
        bias = -distance * self.slopes * self.alibi_scale[0].clamp(min=0)
        bias = F.pad(bias, (extra, 0, extra, 0))  # the extra tokens are at distance 0
        x = torch.cat([self.extra_tokens.expand(x.shape[0], -1, -1), x], 1)
        return self.context_encoder["norm"](x), bias


class Data2vec(nn.Module):
    """The encoder of data2vec 2.0, without the parts of pre-training."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.modality_encoders = nn.ModuleDict({"AUDIO": AudioEncoder(config)})
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))

    @property
    def all_blocks(self) -> list[nn.Module]:
        """The published model's two stacks of blocks, which run as one."""
        audio: Any = self.modality_encoders["AUDIO"]
        return [*audio.context_encoder["blocks"], *self.blocks]

    def forward(self, wave: Tensor) -> Tensor:
        x, bias = self.modality_encoders["AUDIO"](wave)
        for block in self.all_blocks:
            x = block(x, bias)
        return x


class Emotion2vec(nn.Module):
    """emotion2vec on a recording of any length, with its normalisation inside.

    The dropout of its pre-training is left out.

    Args:
        config: sizes.
    """

    def __init__(self, config: Emotion2vecConfig = Emotion2vecConfig()) -> None:
        super().__init__()
        self.config = config
        self.width = config.width  # numbers per feature
        self.depth = 1  # layers in each step
        self.d2v_model = Data2vec(config)
        # Published with the encoder; unused by the features.
        self.proj = nn.Linear(config.width, len(LABELS))

    def forward(self, wave: Tensor) -> Tensor:
        """Give the features after the last block.

        Args:
            wave: (1, samples) float32, 16 kHz, at any level, `config.shortest` samples or more.

        Returns:
            (1, steps, width): one step for every 20 ms in the published model.
        """
        # F.layer_norm would need the length when the graph is exported.
        wave = wave - wave.mean(1, keepdim=True)
        wave = wave / ((wave * wave).mean(1, keepdim=True) + 1e-5).sqrt()
        return self.d2v_model(wave)[:, self.config.extra_tokens :]

    def embed(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Give each recording's (steps, width) features, independent of the others.

        Args:
            waves: each (samples,) float32, 16 kHz.

        Raises:
            MferError: a recording is too short for a single feature.
        """
        if (length := min(map(len, waves), default=self.config.shortest)) < self.config.shortest:
            raise MferError(
                f"emotion2vec needs {self.config.shortest} samples of audio or more, not {length}"
            )
        # One by one: padding would affect normalisation, convolutions and attention.
        return [self(wave[None])[0] for wave in waves]

    def trainable(self, last: int) -> list[nn.Module]:
        """Select the last transformer blocks, for fine-tuning.

        Raises:
            ValueError: there are not so many.
        """
        return last_blocks(self.d2v_model.all_blocks, last)


def load_emotion2vec(folder: Path, config: Emotion2vecConfig = Emotion2vecConfig()) -> Emotion2vec:
    """Read emotion2vec as published: `model.pt` in a folder of its own.

    Args:
        folder: `emotion2vec_plus_base` below `--weights`.
        config: of the published model.

    Raises:
        CheckpointError: the file is missing, can't be read safely, or holds another model.
    """
    path = published_file(folder, "model.pt", HUB)
    state = read_state(path, key="model")
    model = Emotion2vec(config)
    kept = {name: value for name, value in state.items() if not name.startswith(DECODER)}
    load_strict(model, kept, str(path))
    return model.eval()
