"""Damage to faces by cameras, codecs and rooms: light, resolution, blur, compression, occlusion."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from train.data.faces.augment import uniform

BLUR_RADIUS = 4  # pixels, of both kernels
JPEG_QUALITY = (6, 50)
SMALL_SIDES = (12, 30)  # pixels, of a face far from the camera


def half_light(faces: Tensor) -> Tensor:
    """Darken one side of each face, along a line at a random angle."""
    n, _, size, _ = faces.shape
    angle = uniform(n, 0, 2 * math.pi)[:, None, None]
    line = torch.linspace(-1, 1, size)
    distance = torch.cos(angle) * line[None, None, :] + torch.sin(angle) * line[None, :, None]
    edge = distance - uniform(n, -0.4, 0.4)[:, None, None]
    lit = torch.sigmoid(edge * torch.exp(uniform(n, 0.3, 2.3))[:, None, None])
    dark = uniform(n, 0.15, 0.6)[:, None, None]
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
    """Compress each face with a low quality."""
    grey = faces[:, 0].round().clamp(0, 255).byte().numpy()
    result = np.empty(grey.shape, np.float32)
    for number, face in enumerate(grey):
        quality = int(torch.randint(*JPEG_QUALITY, ()))
        coded = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        result[number] = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    return torch.from_numpy(result)[:, None]


def low_contrast(faces: Tensor) -> Tensor:
    """Reduce each face's contrast around its mean."""
    mean = faces.mean((1, 2, 3), keepdim=True)
    return (faces - mean) * uniform(len(faces), 0.12, 0.6).view(-1, 1, 1, 1) + mean


def overexposure(faces: Tensor) -> Tensor:
    """Brighten each face until bright parts are white."""
    return (faces * uniform(len(faces), 1.2, 2.0).view(-1, 1, 1, 1)).clamp(max=255)


def occlusion(faces: Tensor) -> Tensor:
    """Cover the eyes, the mouth, a side or the forehead of each face with a band.

    As do sunglasses, a mask or microphone, a hand, and hair.
    """
    faces = faces.clone()
    size = faces.shape[-1]
    for face in faces:
        part = int(torch.randint(0, 4, ()))
        width = int(torch.randint(size // 6, size // 3, ()))
        grey = float(uniform(1, 0, 255)) if torch.rand(()) < 0.7 else float(face.mean())
        if part == 0:
            top = int(torch.randint(size // 4, size // 2 - width // 2, ()))
            face[:, top : top + width // 2] = grey
        elif part == 1:
            face[:, size - width - size // 10 :, size // 5 : -size // 5] = grey
        elif part == 2:
            face[:, :, :width] = grey
        else:
            face[:, :width] = grey
    return faces


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
            faces = faces.clone()
            faces[rows] = damage(faces[rows].contiguous())
    return faces.clamp(0, 255).to(memory_format=torch.channels_last)


def _filter(faces: Tensor, kernel: Tensor) -> Tensor:
    edge = kernel.shape[-1] // 2
    padded = F.pad(faces, (edge, edge, edge, edge), mode="replicate")
    return F.conv2d(padded, kernel[None, None])
