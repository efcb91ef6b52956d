"""Damage to faces by cameras, codecs and rooms: light, resolution, blur, compression, occlusion."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from train.data.faces.augment import rectangles, uniform

BLUR_RADIUS = 4  # pixels, of both kernels
JPEG_QUALITY = (6, 50)
BLOCK = 8  # pixels on a side, of JPEG
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""JPEG's table for luminance at quality 50 (ITU-T T.81, annex K)."""
SMALL_SIDES = (12, 30)  # pixels, of a face far from the camera


def half_light(faces: Tensor) -> Tensor:
    """Darken one side of each face, along a line at a random angle."""
    n, _, size, _ = faces.shape
    device = faces.device
    angle = uniform(n, 0, 2 * math.pi, device)[:, None, None]
    line = torch.linspace(-1, 1, size, device=device)
    distance = torch.cos(angle) * line[None, None, :] + torch.sin(angle) * line[None, :, None]
    edge = distance - uniform(n, -0.4, 0.4, device)[:, None, None]
    lit = torch.sigmoid(edge * torch.exp(uniform(n, 0.3, 2.3, device))[:, None, None])
    dark = uniform(n, 0.15, 0.6, device)[:, None, None]
    return faces * (dark + (1 - dark) * lit)[:, None]


def low_resolution(faces: Tensor) -> Tensor:
    """Scale down to a random size, and up again."""
    side = int(torch.randint(*SMALL_SIDES, ()))
    small = F.interpolate(faces, size=(side, side), mode="area")
    mode = "bilinear" if torch.rand(()) < 0.7 else "nearest"
    return F.interpolate(small, size=faces.shape[-2:], mode=mode)


def blur(faces: Tensor) -> Tensor:
    """Gaussian blur: out of focus."""
    sigma = float(uniform(1, 0.5, 1.8))
    line = torch.exp(-(torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1.0) ** 2) / (2 * sigma**2))
    line = line / line.sum()
    return _filter(faces, line[:, None] * line[None])


def motion_blur(faces: Tensor) -> Tensor:
    """Blur along a line in a random direction."""
    side = 2 * BLUR_RADIUS + 1
    kernel = np.zeros((side, side), np.float32)
    angle, length = float(uniform(1, 0, math.pi)), float(uniform(1, 1, 4))
    across, down = length * math.cos(angle), length * math.sin(angle)
    centre = BLUR_RADIUS
    start, end = ((round(centre + sign * across), round(centre + sign * down)) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return _filter(faces, torch.from_numpy(kernel / kernel.sum()))


def jpeg(faces: Tensor) -> Tensor:
    """Compress each face with a low quality.

    What JPEG loses, without the file: each block's cosine coefficients are rounded to multiples of
    the standard's luminance table, scaled as libjpeg does.
    """
    n, _, size, _ = faces.shape
    device, border = faces.device, -size % BLOCK
    quality = torch.randint(*JPEG_QUALITY, (n,), device=device)
    scale = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    base = torch.tensor(LUMINANCE).to(device, non_blocking=True)
    table = ((base * scale[:, None, None] + 50) // 100).clamp(1, 255)[:, None, None].float()
    grey = F.pad(faces.round().clamp(0, 255), (0, border, 0, border), mode="replicate") - 128
    side = (size + border) // BLOCK
    blocks = grey.reshape(n, side, BLOCK, side, BLOCK).transpose(2, 3)
    cosines = _cosines().to(device, non_blocking=True)
    coded = (cosines @ blocks @ cosines.T / table).round() * table
    decoded = (cosines.T @ coded @ cosines).transpose(2, 3).reshape(n, 1, size + border, -1)
    return (decoded[:, :, :size, :size] + 128).round().clamp(0, 255)


def _cosines() -> Tensor:
    """The orthonormal discrete cosine transform of a block's side: (BLOCK, BLOCK)."""
    line = torch.arange(BLOCK, dtype=torch.float32)
    matrix = torch.cos((2 * line[None] + 1) * line[:, None] * math.pi / (2 * BLOCK))
    matrix[0] /= math.sqrt(2)
    return matrix * math.sqrt(2 / BLOCK)


def low_contrast(faces: Tensor) -> Tensor:
    """Reduce each face's contrast around its mean."""
    mean = faces.mean((1, 2, 3), keepdim=True)
    return (faces - mean) * uniform(len(faces), 0.12, 0.6, faces.device).view(-1, 1, 1, 1) + mean


def overexposure(faces: Tensor) -> Tensor:
    """Brighten each face until bright parts are white."""
    return (faces * uniform(len(faces), 1.2, 2.0, faces.device).view(-1, 1, 1, 1)).clamp(max=255)


def occlusion(faces: Tensor) -> Tensor:
    """Cover the eyes, the mouth, a side or the forehead of each face with a band.

    As do sunglasses, a mask or microphone, a hand, and hair.
    """
    n, _, size, _ = faces.shape
    device = faces.device
    width = torch.randint(size // 6, size // 3, (n,), device=device)
    room = size // 2 - width // 2 - size // 4
    top = size // 4 + (torch.rand(n, device=device) * room).long()
    none, whole = torch.zeros_like(width), torch.full_like(width, size)
    low = whole - width - size // 10
    bands = torch.stack(  # first row and that after the last, and columns; of the four parts
        [
            torch.stack([top, top + width // 2, none, whole]),
            torch.stack([low, whole, none + size // 5, whole - size // 5]),
            torch.stack([none, whole, none, width]),
            torch.stack([none, width, none, whole]),
        ]
    )
    part = torch.randint(0, len(bands), (n,), device=device)
    first, last, left, right = bands[part, :, torch.arange(n, device=device)].unbind(1)
    plain = torch.rand(n, device=device) < 0.7
    grey = torch.where(plain, uniform(n, 0, 255, device), faces.mean((1, 2, 3)))
    covered = rectangles(size, (first, last), (left, right))
    return torch.where(covered, grey.view(n, 1, 1, 1), faces)


Damage = Callable[[Tensor], Tensor]

DAMAGES: tuple[tuple[Damage, float], ...] = (
    (half_light, 0.22),
    (low_resolution, 0.14),
    (blur, 0.10),
    (motion_blur, 0.06),
    (jpeg, 0.18),
    (low_contrast, 0.08),
    (overexposure, 0.06),
    (occlusion, 0.08),
)
"""Every damage, with the share of faces that get it at full strength."""


def damage_faces(faces: Tensor, strength: float = 1.0) -> Tensor:
    """Damage random faces; each kind is drawn by itself, so that several may meet in one.

    Args:
        faces: (n, 1, size, size) float, 0 to 255.
        strength: share of each damage's share, 0 to 1.

    Returns:
        As many faces, channels last.
    """
    for damage, share in DAMAGES:
        rows = torch.nonzero(torch.rand(len(faces)) < share * strength)[:, 0]
        if len(rows):
            rows = rows.to(faces.device, non_blocking=True)  # their number is needed on the CPU
            faces = faces.clone()
            faces[rows] = damage(faces[rows].contiguous())
    return faces.clamp(0, 255).to(memory_format=torch.channels_last)


def _filter(faces: Tensor, kernel: Tensor) -> Tensor:
    edge = kernel.shape[-1] // 2
    padded = F.pad(faces, (edge, edge, edge, edge), mode="replicate")
    return F.conv2d(padded, kernel.to(faces.device, non_blocking=True)[None, None])
