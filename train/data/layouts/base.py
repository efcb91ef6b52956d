"""What a file's name and folder say about it: the pieces that every layout is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

SPELLINGS = {
    "neutral": "neutral",
    "calm": "calm",
    "happy": "happy",
    "happiness": "happy",
    "joy": "happy",
    "sad": "sad",
    "sadness": "sad",
    "angry": "angry",
    "anger": "angry",
    "fear": "fearful",
    "fearful": "fearful",
    "disgust": "disgust",
    "disgusted": "disgust",
    "surprise": "surprised",
    "surprised": "surprised",
}
"""What folders of one emotion are usually called, in lower case."""


class Misfit(Exception):
    """A file that a layout has no place for; the message is the reason."""


@dataclass(frozen=True)
class Place:
    """What a file's place in a layout says about it."""

    code: str  # its label, as published
    actor: str = ""  # without the dataset's name, as are `take`
    sentence: str = ""
    split: str = ""  # "train", "test" or empty
    take: str = ""  # empty: the path says it
    kind: str = ""  # empty: the suffix says it
    row: int = -1
    soft: bool = False  # the label is likely, not certain
    trouble: str = ""  # why it can't be used; empty where it can
    votes: tuple[int, ...] = ()  # of raters, for each of EMOTIONS; empty where there are none


Layout = Callable[[Path], Iterable[Place]]
"""Gives the places of what a file holds; raises `Misfit`."""


def parts(pattern: re.Pattern[str], path: Path) -> re.Match[str]:
    """Match a file's name without its suffix.

    Raises:
        Misfit: the name is not of the layout.
    """
    match = pattern.fullmatch(path.stem)
    if not match:
        raise Misfit("the name does not fit the layout")
    return match


def require_folder(path: Path, code: str, codes: dict[str, str]) -> None:
    """Compare the folder's emotion with the name's, where the folder is named after one.

    Args:
        codes: emotion of the name's codes.

    Raises:
        Misfit: they differ.
    """
    folder = SPELLINGS.get(path.parent.name.lower())
    if folder and code in codes and codes[code] != folder:
        raise Misfit("the folder is of another emotion")
