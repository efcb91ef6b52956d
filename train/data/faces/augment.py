"""Augmentation of faces that keeps the emotion."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def uniform(n: int, low: float, high: float, device: torch.device | None = None) -> Tensor:
    """Draw n uniform numbers, by the device's random numbers: (n,)."""
    return torch.empty(n, device=device).uniform_(low, high)


def vary_faces(faces: Tensor, strength: float = 1.0, together: bool = False) -> Tensor:
    """Augment faces: rotation, shift, scale, mirror, gamma, contrast, blur, noise and erasing.

    Scale and shift cover a tracker's boxes on video, which are looser and less stable than the
    registered faces of FER-2013.

    Args:
        faces: (n, 1, size, size) float, 0 to 255.
        strength: of everything but mirroring, 0 to 1.
        together: augment all alike, except for noise: they are one face over time.

    Returns:
        As many faces, channels last: the layout in which CPUs convolve fastest.
    """
    n, _, size, _ = faces.shape
    m, device = 1 if together else n, faces.device
    angle = strength * uniform(m, -15, 15, device) * math.pi / 180
    scale = torch.exp(strength * uniform(m, -0.2, 0.2, device))
    mirror = torch.where(torch.rand(m, device=device) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    across, down = (strength * uniform(m, -0.16, 0.16, device) for _ in range(2))  # of half a side
    affine = torch.stack(
        [
            torch.stack([cosine * mirror, -sine, across], 1),
            torch.stack([sine * mirror, cosine, down], 1),
        ],
        1,
    )
    grid = F.affine_grid(affine.expand(n, 2, 3), list(faces.shape), align_corners=False)
    x = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)

    extent = (0, 2, 3) if together else (2, 3)
    low, high = x.amin(extent, keepdim=True), x.amax(extent, keepdim=True)
    stretched = 255 * (x - low) / (high - low).clamp(min=1.0)
    # Stretching a flat image would turn white into black.
    x = torch.where(chosen(m, 0.2 * strength, device) & (high - low > 1), stretched, x)
    gamma = torch.exp(strength * uniform(m, -0.4, 0.4, device)).view(m, 1, 1, 1)
    x = 255 * (x / 255).clamp(0, 1) ** gamma

    coarse = F.interpolate(x, scale_factor=0.5, mode="area")
    coarse = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    x = torch.where(chosen(m, 0.15 * strength, device), coarse, x)
    x = x + torch.randn_like(x) * strength * uniform(m, 0, 6, device).view(m, 1, 1, 1)

    return cover(x, 0.5 * strength, together).to(memory_format=torch.channels_last)


def chosen(n: int, share: float, device: torch.device | None = None) -> Tensor:
    """Draw a random subset of n images: (n, 1, 1, 1) bool."""
    return (torch.rand(n, device=device) < share).view(n, 1, 1, 1)


def cover(faces: Tensor, share: float = 0.5, together: bool = False) -> Tensor:
    """Random erasing: grey out one rectangle in a share of the faces (Zhong et al. 2017)."""
    n, _, size, _ = faces.shape
    m, device = 1 if together else n, faces.device
    height, width = (uniform(m, 0.1, 0.4, device) * size for _ in range(2))
    top = torch.rand(m, device=device) * (size - height)
    left = torch.rand(m, device=device) * (size - width)
    height = torch.where(torch.rand(m, device=device) < share, height, torch.zeros_like(height))
    covered = rectangles(size, (top, top + height), (left, left + width))
    return torch.where(covered, faces.mean((2, 3), keepdim=True), faces)


def rectangles(size: int, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    """Mark one rectangle in each of n images: (n, 1, size, size) bool.

    Args:
        rows, columns: (n,) first, and (n,) after the last.
    """
    line = torch.arange(size, device=rows[0].device)
    down, across = (
        (line >= first[:, None]) & (line < end[:, None]) for first, end in (rows, columns)
    )
    return (down[:, :, None] & across[:, None, :])[:, None]
