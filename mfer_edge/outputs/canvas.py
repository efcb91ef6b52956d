"""Colours, text and rectangles for images of results."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import cv2
import numpy as np

Colour = tuple[int, int, int]  # blue, green, red

WHITE: Colour = (255, 255, 255)
INK: Colour = (46, 38, 33)
MUTED: Colour = (136, 124, 115)
HAIRLINE: Colour = (232, 227, 223)
RED: Colour = (48, 48, 190)

CAP_HEIGHT = 21  # pixels: height of capital letters at scale 1 in OpenCV's two Hershey fonts

# By the beginning of the label, so that fear and fearful, or anger and angry, share a colour.
_COLOUR_OF_PREFIX: dict[str, Colour] = {
    "neutr": (158, 146, 137),
    "calm": (160, 165, 72),
    "happ": (52, 176, 232),
    "sad": (190, 120, 66),
    "ang": (67, 67, 209),
    "fear": (176, 92, 134),
    "disg": (72, 146, 116),
    "surpr": (64, 128, 230),
}
_SPARE: tuple[Colour, ...] = (
    (146, 104, 196),
    (78, 98, 128),
    (120, 80, 50),
    (140, 160, 190),
)


def label_colours(labels: Sequence[str]) -> dict[str, Colour]:
    """Colour of every label; unknown labels take the spare colours in order."""
    spare = cycle(_SPARE)
    colours: dict[str, Colour] = {}
    for label in labels:
        name = label.lower()
        known = next(
            (c for prefix, c in _COLOUR_OF_PREFIX.items() if name.startswith(prefix)), None
        )
        colours[label] = known or next(spare)
    return colours


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """Blend two colours, `share` being the weight of the first."""
    blue, green, red = (
        round(a * share + b * (1 - share)) for a, b in zip(colour, other, strict=True)
    )
    return blue, green, red


def ink_on(colour: Colour) -> Colour:
    """Text colour with the better contrast on a colour: dark or white."""
    blue, green, red = colour
    return INK if 0.114 * blue + 0.587 * green + 0.299 * red > 165 else WHITE


def text_width(text: str, size: float, bold: bool = False) -> int:
    """Width of a line of text in pixels."""
    return int(cv2.getTextSize(_printable(text), _font(bold), size / CAP_HEIGHT, 1)[0][0])


def shorten(text: str, width: float, size: float, bold: bool = False) -> str:
    """Replace the middle of a text that is wider than `width` pixels by dots."""
    if text_width(text, size, bold) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        cut = f"{text[: (keep + 1) // 2]}...{text[-(keep // 2) :]}"
        if text_width(cut, size, bold) <= width:
            return cut
    return "..."


def put_text(
    image: np.ndarray,
    text: str,
    at: tuple[float, float],
    size: float,
    colour: Colour = INK,
    bold: bool = False,
    align: float = 0.0,
) -> None:
    """Draw a line of text.

    Args:
        image: (height, width, 3) uint8, changed in place.
        at: x, and y of the vertical centre of capital letters.
        size: height of the capital letters in pixels.
        align: fraction of the text left of x: 0 for left-aligned, 1 for right-aligned.
    """
    x = at[0] - align * text_width(text, size, bold)
    origin = (round(x), round(at[1] + size / 2))
    scale = size / CAP_HEIGHT
    cv2.putText(image, _printable(text), origin, _font(bold), scale, colour, 1, cv2.LINE_AA)


def fill(
    image: np.ndarray, left: float, top: float, right: float, bottom: float, colour: Colour
) -> None:
    """Fill a rectangle; `right` and `bottom` are exclusive."""
    image[
        max(0, round(top)) : max(0, round(bottom)), max(0, round(left)) : max(0, round(right))
    ] = colour


def _font(bold: bool) -> int:
    return cv2.FONT_HERSHEY_DUPLEX if bold else cv2.FONT_HERSHEY_SIMPLEX


def _printable(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)  # what OpenCV 4 draws
