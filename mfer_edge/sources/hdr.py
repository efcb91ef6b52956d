"""HDR video brought to the range of SDR, which is what the networks were trained on."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from av.video.reformatter import ColorTrc

HDR_WHITE = 1000.0  # cd/m2 that are mapped to white: what most HDR video is mastered for
SDR_WHITE = 203.0  # cd/m2 of SDR's white within HDR: ITU-R BT.2408
SDR_GAMMA = 2.4  # of a display: ITU-R BT.1886
TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
"""Linear RGB of BT.2020 to that of BT.709: ITU-R BT.2087."""


def to_sdr(image: np.ndarray, transfer: int) -> np.ndarray:
    """Map a frame coded by PQ or HLG to SDR; leave others as they are.

    Brightness is mapped channel by channel as ITU-R BT.2390 does it. Colours are brought to BT.709
    after that, not in linear light, which is exact for greys and a tenth of the time.

    Args:
        image: (height, width, 3) uint8, BGR.
        transfer: FFmpeg's number of the transfer characteristic.
    """
    if transfer not in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        return image
    bgr = TO_BT709[::-1, ::-1] / TO_BT709.sum(axis=1)[::-1, None]  # white stays white
    return cv2.transform(cv2.LUT(image, _curve(transfer)), bgr)


@cache
def _curve(transfer: int) -> np.ndarray:
    """Level in SDR for each level in HDR: (256,) uint8."""
    signal = np.arange(256) / 255
    light = _pq_to_light(signal) if transfer == ColorTrc.SMPTE2084 else _hlg_to_light(signal)
    shown = _pq_to_light(_rolled_off(_light_to_pq(light))) / SDR_WHITE
    return np.round(255 * shown.clip(0, 1) ** (1 / SDR_GAMMA)).astype(np.uint8)


def _rolled_off(signal: np.ndarray) -> np.ndarray:
    """Compress PQ up to HDR_WHITE into PQ up to SDR_WHITE, darks unchanged: BT.2390, 5.4.1."""
    black_to_white = _light_to_pq(np.array(HDR_WHITE))
    e = (signal / black_to_white).clip(0, 1)
    most = _light_to_pq(np.array(SDR_WHITE)) / black_to_white
    knee = 1.5 * most - 0.5
    t = (e - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * most
    )
    return np.where(e < knee, e, spline) * black_to_white


def _pq_to_light(signal: np.ndarray) -> np.ndarray:
    """cd/m2 of a PQ signal: SMPTE ST 2084."""
    power = signal ** (32 / 2523)
    return 10_000 * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (
        8192 / 1305
    )


def _light_to_pq(light: np.ndarray) -> np.ndarray:
    power = (light / 10_000) ** (1305 / 8192)
    return ((107 / 128 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def _hlg_to_light(signal: np.ndarray) -> np.ndarray:
    """cd/m2 of an HLG signal on a display of HDR_WHITE: ITU-R BT.2100, for greys."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return HDR_WHITE * scene**1.2
