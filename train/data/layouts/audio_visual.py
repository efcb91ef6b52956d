"""Layouts of corpora that show faces and voices, and of your own clips."""

from __future__ import annotations

import re
from pathlib import Path

from train.data.layouts.base import AUDIO_SUFFIXES, Misfit, Place, parts

RAVDESS = re.compile(r"(0[1-3])-(0[12]-(\d\d)-0[12]-(0[12])-0[12]-(0[1-9]|1\d|2[0-4]))")
ACTOR_FOLDER = re.compile(r"(?:.*_)?actor_(\d\d)", re.IGNORECASE)
CREMA_D = re.compile(r"(10\d\d)_([A-Z]{3})_([A-Z]{3})_[A-Z]{1,2}")
MEAD_ACTOR = re.compile(r"[MW]\d{3}")
MEAD_FLAT = re.compile(r"([MW]\d{3})(?:_(?:video_)?([a-z0-9_]+?))?_([a-z]+)_level_?(\d)_(\d+)")
FRONT = "front"
OWN = re.compile(r"([^_]+)_.+", re.DOTALL)


def ravdess(path: Path) -> list[Place]:
    """Read `modality-channel-emotion-intensity-statement-repetition-actor`."""
    match = parts(RAVDESS, path)
    modality, take, emotion, statement, actor = match.groups()
    folder = ACTOR_FOLDER.fullmatch(path.parent.name)
    if folder and folder[1] != actor:
        raise Misfit("the folder is another actor's")
    if modality == "02" and path.suffix.lower() in AUDIO_SUFFIXES:
        raise Misfit("a sound file with the name of silent video")
    kind = {"02": "video", "03": "audio"}.get(modality, "")
    return [Place(emotion, actor, statement, take=take, kind=kind)]


def crema_d(path: Path) -> list[Place]:
    """Read `actor_sentence_emotion_level`."""
    actor, sentence, emotion = parts(CREMA_D, path).groups()
    return [Place(emotion, actor, sentence, take=path.stem)]


def mead(path: Path) -> list[Place]:
    """Read `M003/video/front/angry/level_3/001.mp4`, `M003/audio/angry/level_3/001.m4a`, or the
    same joined by underscores in a flat name.

    Videos are silent as published; only the front view is taken, as the other six show the same.
    """
    folders = path.parts[-6:-1]
    actor = next((part for part in reversed(folders) if MEAD_ACTOR.fullmatch(part)), "")
    if actor and path.stem.isdigit():
        below = folders[folders.index(actor) + 1 :]
        medium, *view, emotion, level = below if len(below) >= 3 else ("", "", "", "")
        if medium not in ("video", "audio") or not re.fullmatch(r"level_?\d", level):
            raise Misfit("the folders do not fit the layout")
        shown, number = "".join(view), path.stem
    else:
        actor, found, emotion, level, number = parts(MEAD_FLAT, path).groups()
        shown = found or ""
    audio = path.suffix.lower() in AUDIO_SUFFIXES
    if not audio and shown not in ("", FRONT):
        raise Misfit("not the front view, which is there of the same take")
    take = f"{actor}_{emotion}_{level[-1]}_{number}"
    return [Place(emotion.lower(), actor, take=take)]


def own(path: Path) -> list[Place]:
    """Take the folder for the emotion and the name's first part for the actor."""
    (actor,) = parts(OWN, path).groups()
    return [Place(path.parent.name.lower(), actor)]
