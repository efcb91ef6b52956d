"""Vision transformer without redundant computation; the results are the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.vit import Block, Vit, named


class ClassTokenBlock(Block):
    """A last transformer block that computes the class token only, (n, 1, width).

    The class token still attends to all tokens; their own outputs would not be used.
    """

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.layernorm_before(x)
        x = x[:, :1] + self.attention(tokens, tokens[:, :1])
        return x + self.output(F.gelu(self.intermediate(self.layernorm_after(x))))


@torch.no_grad()
def simplify_vit(model: Vit) -> None:
    """Remove, in place, computation that does not change the embedding of grey faces.

    The patch projection gets one channel instead of three equal ones; the last block computes the
    class token only.
    """
    layers = model.vit.get_submodule("encoder.layer")
    embeddings = model.vit.get_submodule("embeddings")
    projection = embeddings.get_submodule("patch_embeddings.projection")
    assert isinstance(layers, nn.Sequential) and isinstance(projection, nn.Conv2d)

    last = ClassTokenBlock(model.config)
    last.load_state_dict(layers[-1].state_dict())
    layers[-1] = last

    grey = nn.Conv2d(1, model.config.width, model.config.patch, model.config.patch)
    weight = projection.weight.double().sum(1, keepdim=True)
    grey.load_state_dict({"weight": weight, "bias": projection.bias})
    embeddings.patch_embeddings = named(projection=grey)
