"""The lean vision transformer: less work, the same embeddings."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from export.rewrites.vit import simplify_vit
from train.models.vit import Vit, VitConfig

SMALL = VitConfig(size=32, patch=8, width=24, depth=3, heads=4, feed_forward=48)


def drawn(config: VitConfig) -> Vit:
    """A transformer none of whose weights is nothing, as those of fresh layer norms are."""
    torch.manual_seed(0)
    model = Vit(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def lean(model: Vit) -> Vit:
    twin = copy.deepcopy(model)
    simplify_vit(twin)
    return twin


def products(model: Vit, faces: Tensor) -> int:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(faces)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("depth", [1, 3])
def test_it_gives_the_same_embeddings(depth: int) -> None:
    model = drawn(VitConfig(32, 8, 24, depth, 4, 48))
    faces = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(lean(model)(faces), model(faces), atol=1e-5, rtol=1e-5)


def test_it_multiplies_as_much_less_as_it_says() -> None:
    model = drawn(SMALL)
    faces = torch.zeros(1, 1, 32, 32)
    patches, width, size = 16, SMALL.width, SMALL.patch
    tokens = patches + 1
    colours = 2 * patches * width * size * size
    others = tokens - 1  # than the class token, whose last block nobody reads
    last = (
        others * (2 * width * width + 2 * width * SMALL.feed_forward) + 2 * others * tokens * width
    )
    assert products(model, faces) - products(lean(model), faces) == colours + last


def test_the_model_itself_is_left_alone() -> None:
    model = drawn(SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lean(model)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
