"""What a file's name and folder say about it, in each dataset's published layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from train.data.images import csv_rows

SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac")
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

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

URDU_LETTERS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}

FER2013_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "valid", "val", "validation", "publictest", "privatetest"), "test"),
}
"""The Usage column's values and the usual names of folders, in lower case."""

RAVDESS = re.compile(r"(0[1-3])-(0[12]-(\d\d)-0[12]-(0[12])-0[12]-(0[1-9]|1\d|2[0-4]))")
ACTOR_FOLDER = re.compile(r"(?:.*_)?actor_(\d\d)", re.IGNORECASE)
CREMA_D = re.compile(r"(10\d\d)_([A-Z]{3})_([A-Z]{3})_[A-Z]{1,2}")
SHEMO = re.compile(r"(([MF])\d\d)([A-Z])\d+")
URDU = re.compile(r"(S[MF]\d+)_F\d+_([A-Z])\d+")
CKPLUS = re.compile(r"(S\d+)_\d+_\d+")
OWN = re.compile(r"([^_]+)_.+", re.DOTALL)


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


Layout = Callable[[Path], Iterable[Place]]
"""Gives the places of what a file holds; raises `Misfit`."""


def ravdess(path: Path) -> list[Place]:
    """Read `modality-channel-emotion-intensity-statement-repetition-actor`."""
    match = _parts(RAVDESS, path)
    modality, take, emotion, statement, actor = match.groups()
    folder = ACTOR_FOLDER.fullmatch(path.parent.name)
    if folder and folder[1] != actor:
        raise Misfit("the folder is another actor's")
    if modality == "02" and path.suffix.lower() in SOUNDS:
        raise Misfit("a sound file with the name of silent video")
    kind = {"02": "video", "03": "audio"}.get(modality, "")
    return [Place(emotion, actor, statement, take=take, kind=kind)]


def crema_d(path: Path) -> list[Place]:
    """Read `actor_sentence_emotion_level`."""
    actor, sentence, emotion = _parts(CREMA_D, path).groups()
    return [Place(emotion, actor, sentence, take=path.stem)]


def shemo(path: Path) -> list[Place]:
    """Read gender, speaker, emotion and number, which stand side by side."""
    actor, gender, emotion = _parts(SHEMO, path).groups()
    if {"male": "M", "female": "F"}.get(path.parent.name.lower(), gender) != gender:
        raise Misfit("the folder is of the other gender")
    return [Place(emotion, actor, take=path.stem)]


def urdu(path: Path) -> list[Place]:
    """Read `speaker_Ffile_emotion`: a file's number follows the F, the speaker stands before."""
    actor, letter = _parts(URDU, path).groups()
    folder = SPELLINGS.get(path.parent.name.lower())
    if folder and letter in URDU_LETTERS and URDU_LETTERS[letter] != folder:
        raise Misfit("the folder is of another emotion")
    return [Place(letter, actor, take=path.stem)]


def saudi(path: Path) -> list[Place]:
    """Take the folder for the emotion; nothing says who speaks."""
    return [Place(path.parent.name.lower())]


def fer2013(path: Path) -> Iterable[Place]:
    """Read a csv's rows, or take the folder for the emotion and the one above for the split.

    The take tells the public from the private test: `fer2013/PrivateTest_00042`.
    """
    if path.suffix.lower() == ".csv":
        for number, row in enumerate(csv_rows(path)):
            split = FER2013_SPLITS.get(row.usage.lower())
            if split is None:
                raise Misfit(f"row {number} has an unknown Usage")
            yield Place(row.emotion, split=split, take=f"{row.usage}_{number:05}", row=number)
    else:
        # Some copies leave out the folders of the splits, which the files are named after.
        names = path.parent.parent.name, path.stem.split("_")[0]
        splits = [FER2013_SPLITS[name.lower()] for name in names if name.lower() in FER2013_SPLITS]
        yield Place(path.parent.name.lower(), split=splits[0] if splits else "")


def ckplus(path: Path) -> list[Place]:
    """Take the folder for the emotion and the name's first part for the subject."""
    (subject,) = _parts(CKPLUS, path).groups()
    return [Place(path.parent.name.lower(), subject)]


def own(path: Path) -> list[Place]:
    """Take the folder for the emotion and the name's first part for the actor."""
    (actor,) = _parts(OWN, path).groups()
    return [Place(path.parent.name.lower(), actor)]


def _parts(pattern: re.Pattern[str], path: Path) -> re.Match[str]:
    match = pattern.fullmatch(path.stem)
    if not match:
        raise Misfit("the name does not fit the layout")
    return match
