"""Merging tokens (Bolya et al. 2023): a vision transformer that looks at ever fewer patches."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.checkpoint import Source
from mfer_edge.bundle import APPROXIMATE
from mfer_edge.errors import MferError
from train.models.vit import Attention, Block, Vit


class MergingError(MferError):
    """A model whose tokens can't be merged so."""


class MergingBlocks(nn.Sequential):
    """Transformer blocks that merge so many pairs of alike patches each, and give the class token.

    Which ones is found anew for every face, how many is fixed, so that shapes are.
    """

    def __init__(self, blocks: Iterable[Block], merged: int) -> None:
        super().__init__(*blocks)
        self.merged = merged  # pairs in each block but the last, after which nobody reads patches

    def forward(self, x: Tensor) -> Tensor:
        """From (n, tokens, width), the class token first, to (n, 1, width)."""
        *blocks, last = cast("list[Block]", self)
        size = torch.ones_like(x[..., :1])  # (n, tokens, 1): patches in each token
        for block in blocks:
            attended, keys = _attend(block.attention, block.layernorm_before(x), size)
            x, size = merge(x + attended, size, keys, self.merged)
            x = x + _feed_forward(block, x)
        tokens = last.layernorm_before(x)
        attended, _ = _attend(last.attention, tokens, size, tokens[:, :1])
        x = x[:, :1] + attended
        return x + _feed_forward(last, x)


def merge(x: Tensor, size: Tensor, keys: Tensor, merged: int) -> tuple[Tensor, Tensor]:
    """Merge the most alike pairs of tokens into their means, but never the first token.

    Every second token finds the one among the others whose key is at the smallest angle to its
    own; those that found the most alike go into these.

    Args:
        x: (n, tokens, width).
        size: (n, tokens, 1): how many tokens each one was before; a mean weighs by it.
        keys: (n, tokens, any).
        merged: how many tokens go, at most half of those after the first.

    Returns:
        x and size with so many tokens fewer, the first one still first.
    """
    keys = F.normalize(keys[:, 1:], dim=-1)
    alike, partner = (keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)).max(-1)
    order = alike.topk(alike.shape[1], largest=False).indices[..., None]
    (kept, going), (kept_size, going_size), (_, into) = (
        # Not `take_along_dim`: it fixes how many faces there are in an exported graph.
        part.gather(1, order.expand(-1, -1, part.shape[-1])).tensor_split([-merged], 1)
        for part in (x[:, 1::2], size[:, 1::2], partner[..., None])
    )
    found, found_size = x[:, 2::2], size[:, 2::2]
    # A product with mostly zeros: runtimes for GPUs scatter in no fixed order, or not at all.
    joining = (into == torch.arange(found.shape[1], device=x.device)).to(x.dtype) * going_size
    total = found_size + joining.sum(1)[..., None]
    # Shares are multiplied, not sizes: half precision might not hold the sums.
    mean = found * (found_size / total) + joining.transpose(1, 2) / total @ going
    first, one = x[:, :1], size[:, :1]
    return torch.cat([first, kept, mean], 1), torch.cat([one, kept_size, total], 1)


def merge_tokens(source: Source, merged: int) -> Source:
    """Make a model's vision transformer an approximate one that merges tokens.

    It needs no training. The model stays a PyTorch model, which the export is then measured by.

    Args:
        merged: tokens that go in each block but the last.

    Returns:
        A copy, with a note; the source is left alone.

    Raises:
        MergingError: the face network is none, or has too few patches for that.
    """
    model = copy.deepcopy(source.model)
    if not isinstance(model.face, Vit):
        raise MergingError(
            f"the preset {model.preset.name} has no vision transformer to merge tokens of: "
            "leave --merge-tokens away"
        )
    config = model.face.config
    patches = (config.size // config.patch) ** 2
    # Before its last merging there are still twice as many.
    most = patches // config.depth
    if not 1 <= merged <= most:
        raise MergingError(f"--merge-tokens {merged}: this network can merge 1 to {most} a block")
    encoder = model.face.vit.get_submodule("encoder")
    encoder.layer = MergingBlocks(encoder.get_submodule("layer").children(), merged)  # type: ignore
    left = patches - merged * (config.depth - 1)
    note = (
        f"{APPROXIMATE} each block of the face network merges {merged} tokens; the last looks at "
        f"{left} of {patches} patches. Parity is with a PyTorch model that does so too."
    )
    return replace(source, model=model, notes=(*source.notes, note))


def _attend(
    attention: Attention, x: Tensor, size: Tensor, looking: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Let tokens look at those in x, at each as if it were still as many as it stands for.

    Returns:
        What they see, and the keys of x, mean over the heads: (n, tokens, width / heads).
    """
    asked = {"query": x if looking is None else looking, "key": x, "value": x}
    q, k, v = (
        attention.attention[name](tokens).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for name, tokens in asked.items()
    )
    weights = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3) + size.log()[:, None].transpose(2, 3)
    seen = attention.output((weights.softmax(-1) @ v).transpose(1, 2).flatten(2))
    return seen, k.mean(1)


def _feed_forward(block: Block, x: Tensor) -> Tensor:
    return block.output(F.gelu(block.intermediate(block.layernorm_after(x))))
