"""Simplified vision transformer: fewer MACs, the same embeddings."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from export.rewrites.vit import simplify_vit
from train.models.vit import Vit, VitConfig

SMALL = VitConfig(size=32, patch=8, width=24, depth=3, heads=4, feed_forward=48)


def random_vit(config: VitConfig) -> Vit:
    """A transformer with random weights, biases and norms too, whose defaults are 0 and 1."""
    torch.manual_seed(0)
    model = Vit(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def simplified(model: Vit) -> Vit:
    copied = copy.deepcopy(model)
    simplify_vit(copied)
    return copied


def macs(model: Vit, faces: Tensor) -> int:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(faces)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("depth", [1, 3])
def test_embeddings_are_the_same(depth: int) -> None:
    model = random_vit(VitConfig(32, 8, 24, depth, 4, 48))
    faces = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(simplified(model)(faces), model(faces), atol=1e-5, rtol=1e-5)


def test_macs_that_are_saved() -> None:
    model = random_vit(SMALL)
    faces = torch.zeros(1, 1, 32, 32)
    patches, width, size = 16, SMALL.width, SMALL.patch
    tokens = patches + 1
    channels = 2 * patches * width * size * size
    others = tokens - 1  # tokens whose last block is not computed
    last = (
        others * (2 * width * width + 2 * width * SMALL.feed_forward) + 2 * others * tokens * width
    )
    assert macs(model, faces) - macs(simplified(model), faces) == channels + last


def test_the_model_is_not_changed() -> None:
    model = random_vit(SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    simplified(model)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
