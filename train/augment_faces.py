"""Random changes to training pictures that leave the emotion as it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def uniform(n: int, low: float, high: float) -> Tensor:
    return torch.empty(n).uniform_(low, high)


def vary_faces(faces: Tensor, strength: float = 1.0) -> Tensor:
    """Turn, shift, scale, mirror, relight, blur and partly cover faces.

    The spread of scale and shift covers what a tracker's box does on video, which is looser and
    shakier than the registered faces of FER-2013.

    Args:
        faces: (n, 1, size, size) float, 0 to 255.
        strength: of everything but the mirroring, 0 to 1.

    Returns:
        As many faces, channels last: the layout in which CPUs convolve fastest.
    """
    n, _, size, _ = faces.shape
    angle = strength * uniform(n, -15, 15) * math.pi / 180
    scale = torch.exp(strength * uniform(n, -0.2, 0.2))
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    across, down = (strength * uniform(n, -0.16, 0.16) for _ in range(2))  # of half a picture
    affine = torch.stack(
        [
            torch.stack([cosine * mirror, -sine, across], 1),
            torch.stack([sine * mirror, cosine, down], 1),
        ],
        1,
    )
    grid = F.affine_grid(affine, list(faces.shape), align_corners=False)
    x = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)

    gamma = torch.exp(strength * uniform(n, -0.4, 0.4)).view(n, 1, 1, 1)
    x = 255 * (x / 255).clamp(0, 1) ** gamma

    coarse = F.interpolate(x, scale_factor=0.5, mode="area")
    coarse = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    x = torch.where((torch.rand(n) < 0.15 * strength).view(n, 1, 1, 1), coarse, x)
    x = x + torch.randn_like(x) * strength * uniform(n, 0, 6).view(n, 1, 1, 1)

    return cover(x, 0.5 * strength).to(memory_format=torch.channels_last)


def cover(faces: Tensor, share: float = 0.5) -> Tensor:
    """Grey out one random rectangle in a share of the faces (random erasing, Zhong et al. 2017)."""
    n, _, size, _ = faces.shape
    height, width = uniform(n, 0.1, 0.4) * size, uniform(n, 0.1, 0.4) * size
    top, left = torch.rand(n) * (size - height), torch.rand(n) * (size - width)
    height = torch.where(torch.rand(n) < share, height, torch.zeros(n))
    line = torch.arange(size, dtype=torch.float32)
    rows = (line >= top[:, None]) & (line < (top + height)[:, None])
    columns = (line >= left[:, None]) & (line < (left + width)[:, None])
    covered = (rows[:, :, None] & columns[:, None, :])[:, None]
    return torch.where(covered, faces.mean((2, 3), keepdim=True), faces)
