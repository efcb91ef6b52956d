"""MTCNN's networks for ONNX Runtime's CPU kernels; the results are the same up to rounding.

Convolutions run on blocks of 8 channels, and so do ReLU, max pooling, a factor for each channel and
the sum of two such results. Before other operators, or with other numbers of channels, values are
reordered, which takes as long as a convolution with few channels.
"""

from __future__ import annotations

from itertools import takewhile
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 8  # channels
MEAN, RANGE = 127.5, 128.0  # grey levels: what MTCNN takes from each pixel, and divides it by

Layer = nn.Conv2d | nn.Linear


@torch.no_grad()
def rewrite_mtcnn(name: str, network: nn.Module) -> nn.Module:
    """Rewrite one of the networks of `export.mtcnn.load_mtcnn`, by its name.

    Returns:
        P-Net as another module, R-Net and O-Net themselves, changed.
    """
    network.double()  # until the weights are multiplied
    if name == "pnet":
        return FastProposalNet(network).float()
    _rewrite_classifier(network)
    return network.float()


class ChannelsFirst(nn.Module):
    """(n, height, width, 3) to (n, 3, height, width)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2)


class Prelu(nn.Module):
    """PReLU from ReLU: ONNX's PRelu takes half of MTCNN's time in ONNX Runtime 1.32.

    Args:
        slope: of each channel.
        scaled: leave the result divided by 1 - slope, which saves an operator.
    """

    def __init__(self, slope: Tensor, scaled: bool) -> None:
        super().__init__()
        self.scaled = scaled
        self.register_buffer("above", 1 - slope)
        self.register_buffer("below", slope / (1 - slope) if scaled else slope)

    def forward(self, x: Tensor) -> Tensor:
        above, below = (
            self.get_buffer(name).view(-1, *[1] * (x.dim() - 2)) for name in ("above", "below")
        )
        return (F.relu(x) if self.scaled else F.relu(x) * above) + x * below


class PooledPrelu(nn.Module):
    """Max pooling of PReLU, with the pooling first: PReLU of a quarter of the values.

    With a slope of 0 or more, PReLU commutes with the maximum. With less, it is the larger one of x
    and slope * x, each of which has its own maximum: the convolution before computes both. Either
    way the result is one linear function of the maxima plus the ReLU of another.

    Args:
        slope: of each channel.
    """

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        count = len(slope)
        self.falling = torch.nonzero(slope < 0)[:, 0].tolist()  # channels that are needed twice
        width = count + len(self.falling)
        width += -width % BLOCK
        linear, rectified = torch.zeros(2, width, width, dtype=slope.dtype)
        self.sign = torch.zeros(width, dtype=slope.dtype)  # of each channel of the result
        for channel, value in enumerate(slope.tolist()):
            if value < 0:
                twin = count + self.falling.index(channel)
                sign = linear[channel, twin] = rectified[channel, channel] = 1
                rectified[channel, twin] = -1
            else:
                sign = 1 if value <= 1 else -1  # of a slope above 1 a sum with a ReLU gives -PReLU
                linear[channel, channel] = sign * value
                rectified[channel, channel] = sign * (1 - value)
            self.sign[channel] = sign
        self.linear = _convolution(linear[..., None, None])
        self.rectified = _convolution(rectified[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        return F.relu(self.rectified(x)) + self.linear(x)


class FastProposalNet(nn.Module):
    """P-Net: the same as `export.mtcnn.ProposalNet`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        conv1, conv2, conv3, face, offsets = (
            cast(nn.Conv2d, network.get_submodule(name))
            for name in ("conv1", "conv2", "conv3", "conv4_1", "conv4_2")
        )
        slope1, slope2, slope3 = (network.get_parameter(f"prelu{i}.weight") for i in (1, 2, 3))
        self.channels_first = ChannelsFirst()
        self.prelu1 = PooledPrelu(slope1)
        weight, bias = _normalizing(conv1)
        twins = self.prelu1.falling
        weight = torch.cat([weight, _scaled(weight, slope1, 0)[twins]])
        self.conv1 = _convolution(*_filled(weight, torch.cat([bias, (bias * slope1)[twins]])))
        self.conv2 = _taking(conv2, self.prelu1.sign)
        self.prelu2 = Prelu(slope2, scaled=True)
        self.conv3 = _taking(conv3, 1 - slope2)
        # The last layers are linear: they take the two terms of PReLU apart. Of both logits only
        # the difference is used.
        weight = torch.cat([face.weight[:1] - face.weight[1:], offsets.weight])
        logits, moved = cast(Tensor, face.bias), cast(Tensor, offsets.bias)
        bias = torch.cat([logits[:1] - logits[1:], moved])
        self.above = _convolution(_scaled(weight, 1 - slope3, 1), bias)
        self.below = _convolution(_scaled(weight, slope3, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.prelu1(self.conv1(self.channels_first(image)))
        x = self.conv3(self.prelu2(self.conv2(x)))
        logit, offsets = (self.above(F.relu(x)) + self.below(x)).split([1, 4], dim=1)
        return 1 / (1 + logit.squeeze(1).exp()), offsets


def _rewrite_classifier(network: nn.Module) -> None:
    """Rewrite R-Net or O-Net: a chain of layers and PReLUs with several layers at its end."""
    layers = dict(network.named_children())
    layers["normalize"] = ChannelsFirst()
    layers["conv1"] = _convolution(*_filled(*_normalizing(cast(nn.Conv2d, layers["conv1"]))))
    names = list(layers)
    for index, name in enumerate(names):
        prelu, before = layers[name], layers[names[index - 1]]
        if not isinstance(prelu, nn.PReLU):
            continue
        slope = F.pad(prelu.weight, (0, len(cast(Layer, before).weight) - len(prelu.weight)))
        scaled = bool((slope < 1).all())  # by positive factors, which commute with max pooling
        layers[name] = Prelu(slope, scaled)
        factor = 1 - slope if scaled else torch.ones_like(slope)
        for after in takewhile(lambda n: not isinstance(layers[n], nn.PReLU), names[index + 1 :]):
            layers[after] = _taking(cast(Layer, layers[after]), factor)
    for name, layer in layers.items():
        network.add_module(name, layer)


def _normalizing(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a first convolution that takes pixels as they are."""
    weight = layer.weight / RANGE
    return weight, cast(Tensor, layer.bias) - MEAN * weight.sum((1, 2, 3))


def _filled(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution whose outputs are whole blocks, filled up with zeros."""
    missing = -len(bias) % BLOCK
    return F.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing)), F.pad(bias, (0, missing))


def _taking(layer: Layer, factor: Tensor) -> Layer:
    """A layer that multiplies each channel of its input by a factor, of which some may be new."""
    if isinstance(layer, nn.Linear):  # it takes several values of each channel
        layer.weight *= factor.repeat_interleave(layer.in_features // len(factor))
        return layer
    weight = F.pad(layer.weight, (0, 0, 0, 0, 0, len(factor) - layer.in_channels))
    return _convolution(_scaled(weight, factor, 1), layer.bias)


def _scaled(weight: Tensor, factor: Tensor, axis: int) -> Tensor:
    """Weight of a convolution with each output (axis 0) or input (1) multiplied by a factor."""
    return weight * factor.view(-1, *[1] * (weight.dim() - 1 - axis))


def _convolution(weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    outputs, inputs, height, width = weight.shape
    layer = nn.Conv2d(inputs, outputs, (height, width), bias=bias is not None, dtype=weight.dtype)
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer
