"""Token merging (Bolya et al. 2023): a vision transformer whose blocks merge similar patches."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.checkpoint import Source
from mfer_edge.errors import MferError
from train.models.vit import Attention, Block, Vit


class MergingError(MferError):
    """A model whose tokens can't be merged as asked."""


class MergingBlocks(nn.Sequential):
    """Transformer blocks that merge similar patches, and return the class token.

    Which patches are merged depends on the face; their number is fixed, and so are all shapes.
    """

    def __init__(self, blocks: Iterable[Block], merged: int) -> None:
        super().__init__(*blocks)
        self.merged = merged  # pairs per block, except in the last block

    def forward(self, x: Tensor) -> Tensor:
        """Run on (n, tokens, width) with the class token first; return (n, 1, width)."""
        *blocks, last = cast("list[Block]", self)
        size = torch.ones_like(x[..., :1])  # (n, tokens, 1): patches per token
        for block in blocks:
            attended, keys = _attend(block.attention, block.layernorm_before(x), size)
            x, size = merge(x + attended, size, keys, self.merged)
            x = x + _feed_forward(block, x)
        tokens = last.layernorm_before(x)
        attended, _ = _attend(last.attention, tokens, size, tokens[:, :1])
        x = x[:, :1] + attended
        return x + _feed_forward(last, x)


def merge(x: Tensor, size: Tensor, keys: Tensor, merged: int) -> tuple[Tensor, Tensor]:
    """Merge the most similar pairs of tokens into their means; the first token is never merged.

    Bipartite matching: each token at an odd index is paired with the token at an even index whose
    key has the largest cosine similarity; the most similar pairs are merged.

    Args:
        x: (n, tokens, width).
        size: (n, tokens, 1), the number of patches per token: weights of the mean.
        keys: (n, tokens, any).
        merged: number of tokens to remove, at most half of those after the first.

    Returns:
        x and size with that many fewer tokens; the first one stays first.
    """
    keys = F.normalize(keys[:, 1:], dim=-1)
    similarity, partner = (keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)).max(-1)
    order = similarity.topk(similarity.shape[1], largest=False).indices[..., None]
    (kept, sources), (kept_size, source_sizes), (_, targets) = (
        # Not `take_along_dim`, which fixes the number of faces in an exported graph.
        part.gather(1, order.expand(-1, -1, part.shape[-1])).tensor_split([-merged], 1)
        for part in (x[:, 1::2], size[:, 1::2], partner[..., None])
    )
    even, even_size = x[:, 2::2], size[:, 2::2]
    # A matrix product instead of a scatter, whose order GPU runtimes don't fix, if they have one.
    assignment = (targets == torch.arange(even.shape[1], device=x.device)).to(x.dtype)
    assignment = assignment * source_sizes
    total = even_size + assignment.sum(1)[..., None]
    # Weights are normalized before the product, whose sums might overflow in fp16.
    mean = even * (even_size / total) + assignment.transpose(1, 2) / total @ sources
    first, one = x[:, :1], size[:, :1]
    return torch.cat([first, kept, mean], 1), torch.cat([one, kept_size, total], 1)


def merge_tokens(source: Source, merged: int) -> Source:
    """Make a model's vision transformer merge tokens, which approximates its embeddings.

    Needs no training. Parity of the export is then measured against the merging PyTorch model.

    Args:
        merged: tokens to remove in each block except the last.

    Returns:
        A copy with an entry in `approximations`; the source is not changed.

    Raises:
        MergingError: the face backbone is not a vision transformer, or has too few patches.
    """
    model = copy.deepcopy(source.model)
    if not isinstance(model.face, Vit):
        raise MergingError(
            f"the preset {model.preset.name} has no vision transformer to merge tokens of: "
            "leave --merge-tokens away"
        )
    config = model.face.config
    patches = (config.size // config.patch) ** 2
    # So that before the last merge there are at least twice as many patches left.
    limit = patches // config.depth
    if not 1 <= merged <= limit:
        raise MergingError(
            f"--merge-tokens {merged}: this model can merge 1 to {limit} tokens per block"
        )
    encoder = model.face.vit.get_submodule("encoder")
    encoder.layer = MergingBlocks(encoder.get_submodule("layer").children(), merged)  # type: ignore
    left = patches - merged * (config.depth - 1)
    approximation = (
        f"each block of the face network merges {merged} tokens; the last looks at "
        f"{left} of {patches} patches. Parity is with a PyTorch model that does so too."
    )
    return replace(source, model=model, approximations=(*source.approximations, approximation))


def _attend(
    attention: Attention, x: Tensor, size: Tensor, queries: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Proportional attention: a merged token counts as many times as it has patches.

    Returns:
        The attended values, and the keys of x, averaged over the heads: (n, tokens, width / heads).
    """
    inputs = {"query": x if queries is None else queries, "key": x, "value": x}
    q, k, v = (
        attention.attention[name](tokens).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for name, tokens in inputs.items()
    )
    weights = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3) + size.log()[:, None].transpose(2, 3)
    attended = attention.output((weights.softmax(-1) @ v).transpose(1, 2).flatten(2))
    return attended, k.mean(1)


def _feed_forward(block: Block, x: Tensor) -> Tensor:
    return block.output(F.gelu(block.intermediate(block.layernorm_after(x))))
