"""ViT-B/16 (Dosovitskiy et al. 2021), fine-tuned by others on facial expressions."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.base import last_blocks
from train.models.weights import CheckpointError, load_strict, published_file, read_state

HUB = "dima806/facial_emotions_image_detection"
FOLDER = "facial_emotions_image_detection"  # below `--weights`
LABELS = ("sad", "disgust", "angry", "neutral", "fear", "surprise", "happy")
"""Classes of the published classifier, in its order."""


@dataclass(frozen=True)
class VitConfig:
    """The sizes of a vision transformer; those of ViT-B/16 unless told otherwise."""

    size: int = 224  # pixels on a side of a face
    patch: int = 16  # pixels on a side of what becomes one token; divides `size`
    width: int = 768  # of an embedding, and between the blocks
    depth: int = 12  # blocks
    heads: int = 12
    feed_forward: int = 3072
    eps: float = 1e-12  # of the layer norms

    def published(self) -> dict[str, object]:
        """The entries of `config.json` for these sizes."""
        return {
            "image_size": self.size,
            "patch_size": self.patch,
            "hidden_size": self.width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "intermediate_size": self.feed_forward,
            "layer_norm_eps": self.eps,
            "hidden_act": "gelu",
        }


# The names of attributes below are those of the published weights.


def named(**modules: nn.Module) -> nn.Sequential:
    """A sequence of named modules."""
    return nn.Sequential(OrderedDict(modules))


class GreyPatches(nn.Sequential):
    """The published embedding of coloured patches, on grey ones: three equal channels."""

    def forward(self, grey: Tensor) -> Tensor:
        return super().forward(grey.expand(-1, 3, -1, -1))


class Embeddings(nn.Module):
    """From a grey image to the class token and one token for each patch."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        width, patch = config.width, config.patch
        tokens = 1 + (config.size // patch) ** 2
        # Small, so that the patches dominate at first.
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position_embeddings = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        projection = nn.Conv2d(3, width, patch, patch)
        self.patch_embeddings: nn.Module = GreyPatches(OrderedDict(projection=projection))

    def forward(self, grey: Tensor) -> Tensor:
        patches = self.patch_embeddings(grey).flatten(2).transpose(1, 2)
        # Not len(): an exported graph would hold it as a constant.
        class_token = self.cls_token.expand(grey.shape[0], -1, -1)
        return torch.cat([class_token, patches], 1) + self.position_embeddings


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict(
            {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        )
        self.output = named(dense=nn.Linear(width, width))

    def forward(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        """Attend to the tokens x; the queries are by default x itself."""
        inputs = {"query": x if queries is None else queries, "key": x, "value": x}
        q, k, v = (
            self.attention[name](tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for name, tokens in inputs.items()
        )
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(-1)
        return self.output((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention and feed-forward, each after its layer norm."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.intermediate = named(dense=nn.Linear(config.width, config.feed_forward))
        self.output = named(dense=nn.Linear(config.feed_forward, config.width))
        self.layernorm_before = nn.LayerNorm(config.width, config.eps)
        self.layernorm_after = nn.LayerNorm(config.width, config.eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output(F.gelu(self.intermediate(self.layernorm_after(x))))


class Vit(nn.Module):
    """A vision transformer over grey faces, with its normalisation inside.

    Args:
        config: sizes.
    """

    def __init__(self, config: VitConfig = VitConfig()) -> None:
        super().__init__()
        self.config = config
        self.size = config.size  # pixels on a side
        self.width = config.width  # numbers per embedding
        self.vit = named(
            embeddings=Embeddings(config),
            encoder=named(layer=nn.Sequential(*(Block(config) for _ in range(config.depth)))),
            layernorm=nn.LayerNorm(config.width, config.eps),
        )
        # Published with the encoder; unused by the embeddings.
        self.classifier = nn.Linear(config.width, len(LABELS))

    def forward(self, faces: Tensor) -> Tensor:
        """Embed faces.

        Args:
            faces: (n, 1, size, size) grey, 0 to 255, any type.

        Returns:
            (n, width): the class token after the last layer norm.
        """
        return self.vit((faces.float() / 255 - 0.5) / 0.5)[:, 0]

    def trainable(self, last: int) -> list[nn.Module]:
        """Select the last transformer blocks, for fine-tuning.

        Raises:
            ValueError: there are not so many.
        """
        return last_blocks(list(self.vit.get_submodule("encoder.layer").children()), last)


def load_vit(folder: Path, config: VitConfig = VitConfig()) -> Vit:
    """Read the transformer as published: `config.json` and `model.safetensors` in one folder.

    Args:
        folder: `facial_emotions_image_detection` below `--weights`.
        config: of the published model.

    Raises:
        CheckpointError: a file is missing, can't be read safely, or belongs to another model.
    """
    config_file = published_file(folder, "config.json", HUB)
    weights = published_file(folder, "model.safetensors", HUB)
    _require_config(config_file, config)  # the weights do not show heads, say
    model = Vit(config)
    load_strict(model, read_state(weights), str(weights))
    return model.eval()


def _require_config(path: Path, config: VitConfig) -> None:
    wanted = config.published()
    try:
        content = json.loads(path.read_bytes())
        if content["model_type"] != "vit":
            raise CheckpointError(f"{path}: of a {content['model_type']} model, not of a ViT")
        names = content["id2label"]
        labels = tuple(str(names[str(index)]) for index in range(len(names)))
        given = {name: content[name] for name in wanted}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no usable config of a ViT ({error!r})") from error
    if other := [
        f"{name} is {given[name]!r} instead of {value!r}"
        for name, value in wanted.items()
        if given[name] != value
    ]:
        raise CheckpointError(f"{path}: not this model's config: {', '.join(other)}")
    if labels != LABELS:
        raise CheckpointError(
            f"{path}: its labels are {', '.join(labels)} instead of {', '.join(LABELS)}"
        )
