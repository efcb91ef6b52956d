"""Layouts of corpora of emotional speech."""

from __future__ import annotations

import re
from pathlib import Path

from train.data.layouts.base import SPELLINGS, Misfit, Place, parts, require_folder

URDU_LETTERS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
ASED_LETTERS = {"n": "neutral", "f": "fearful", "h": "happy", "s": "sad", "a": "angry"}

SHEMO = re.compile(r"(([MF])\d\d)([A-Z])\d+")
URDU = re.compile(r"(S[MF]\d+)_F\d+_([A-Z])\d+")
NEMO = re.compile(r"([A-Z]{2}\d)_([a-z]+)_\d+")
ASED = re.compile(r"([A-Za-z])\d(?:-\d\d){3}-(\d\d)")
EYASE = re.compile(r"[fm][a-z]\d\d_([a-z]{3})\s*\(?\d+\)?")
EMOVO = re.compile(r"([a-z]{3})-([fm]\d)-([a-z]\d)")
CASIA = re.compile(r"(\d+)-([a-z]+)-([A-Za-z]+)")
TESS = re.compile(r"(OAF?|YAF)_([a-z]+)_([a-z]+)")
TUREV = re.compile(r"(\d+)_[a-z]+_(\w+)")
SAVEE = re.compile(r"(?:(DC|JE|JK|KL)_)?(sa|su|[adfhn])\d\d")
EMO_DB = re.compile(r"(\d\d)([ab]\d\d)([A-Z])[a-z]?")


def shemo(path: Path) -> list[Place]:
    """Read gender, speaker, emotion and number, which stand side by side."""
    actor, gender, emotion = parts(SHEMO, path).groups()
    if {"male": "M", "female": "F"}.get(path.parent.name.lower(), gender) != gender:
        raise Misfit("the folder is of the other gender")
    return [Place(emotion, actor, take=path.stem)]


def urdu(path: Path) -> list[Place]:
    """Read `speaker_Ffile_emotion`: a file's number follows the F, the speaker stands before."""
    actor, letter = parts(URDU, path).groups()
    require_folder(path, letter, URDU_LETTERS)
    return [Place(letter, actor, take=path.stem)]


def saudi(path: Path) -> list[Place]:
    """Take the folder for the emotion; nothing says who speaks."""
    return [Place(path.parent.name.lower())]


def nemo(path: Path) -> list[Place]:
    """Read `speaker_emotion_number`."""
    actor, emotion = parts(NEMO, path).groups()
    return [Place(emotion, actor, take=path.stem)]


def ased(path: Path) -> list[Place]:
    """Read the emotion's letter in front and the speaker at the end; folders are `01Neutral`."""
    letter, actor = parts(ASED, path).groups()
    letter = letter.lower()  # a few published names are in capitals
    folder = SPELLINGS.get(path.parent.name.lstrip("0123456789").lower())
    if folder and letter in ASED_LETTERS and ASED_LETTERS[letter] != folder:
        raise Misfit("the folder is of another emotion")
    return [Place(letter, actor, take=path.stem)]


def eyase(path: Path) -> list[Place]:
    """Take the folder for the speaker, as two share the prefix fm01; the name has the emotion."""
    (emotion,) = parts(EYASE, path).groups()
    return [Place(emotion, path.parent.name)]


def emovo(path: Path) -> list[Place]:
    """Read `emotion-speaker-sentence`."""
    emotion, actor, sentence = parts(EMOVO, path).groups()
    if re.fullmatch(r"[fm]\d", path.parent.name) and path.parent.name != actor:
        raise Misfit("the folder is another actor's")
    return [Place(emotion, actor, sentence, take=path.stem)]


def casia(path: Path) -> list[Place]:
    """Take the folder for the emotion; the speaker ends the name (`201-angry-wangzhe`), or is the
    folder above (`wangzhe/angry/201`)."""
    folder = path.parent.name.lower()
    if path.stem.isdigit():
        return [Place(folder, path.parent.parent.name.lower(), path.stem)]
    sentence, emotion, actor = parts(CASIA, path).groups()
    if folder in SPELLINGS and SPELLINGS.get(emotion) != SPELLINGS[folder]:
        raise Misfit("the folder is of another emotion")
    return [Place(emotion, actor.lower(), sentence)]


def tess(path: Path) -> list[Place]:
    """Read `speaker_word_emotion`; one published file is called OA for OAF."""
    actor, word, emotion = parts(TESS, path).groups()
    return [Place(emotion, "OAF" if actor == "OA" else actor, word, take=path.stem)]


def turev(path: Path) -> list[Place]:
    """Take the folder for the emotion; the name is speaker, a code of the emotion, and word."""
    actor, word = parts(TUREV, path).groups()
    return [Place(path.parent.name.lower(), actor, word)]


def savee(path: Path) -> list[Place]:
    """Read `speaker_emotion` and number; the speaker may be the folder instead."""
    actor, code = parts(SAVEE, path).groups()
    actor = actor or path.parent.name
    if actor not in ("DC", "JE", "JK", "KL"):
        raise Misfit("neither the name nor the folder tells the speaker")
    return [Place(code, actor, take=f"{actor}_{path.stem.split('_')[-1]}")]


def emo_db(path: Path) -> list[Place]:
    """Read speaker, sentence, the German emotion's letter and a version."""
    actor, sentence, letter = parts(EMO_DB, path).groups()
    return [Place(letter, actor, sentence, take=path.stem)]
