"""Synthetic recordings of several corpora, as entries and features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from train.data.features import Features
from train.data.index import Entry
from train.labels import SEVEN_EMOTIONS
from train.presets import COMPACT, Preset
from train.voices.recipe import VoiceRecipe

WIDTH, DEPTH = 6, 1


class SmallSpeech(nn.Module):
    """A backbone of a few numbers; features are made without it."""

    width, depth = WIDTH, DEPTH


def small_preset(recipe: VoiceRecipe | None = None, epochs: int = 6) -> Preset:
    """The compact preset with a small arm."""
    options = replace(COMPACT.audio_two.options, epochs=epochs, batch=32, weight_decay=0.01)
    return replace(
        COMPACT,
        audio_width=12,
        audio_dropout=0.2,
        audio_two=replace(COMPACT.audio_two, options=options),
        voices=recipe or replace(COMPACT.voices, draws=640),
    )


def recordings(
    corpus: str, people: int, each: int, labels: Sequence[str], soft: bool = False
) -> list[Entry]:
    """Entries of one corpus: every speaker says each label so often."""
    return [
        Entry(
            path=Path(f"/{corpus}/{person}-{label}-{take}.wav"),
            row=-1,
            dataset=corpus,
            kind="audio",
            label=label,
            actor=f"{corpus}/source{person % 3}:{person}" if soft else f"{corpus}/{person}",
            sentence="",
            split="",
            take=f"{corpus}/{person}-{label}-{take}",
            content=f"{corpus} {person} {label} {take}",
            soft=soft,
        )
        for person in range(people)
        for label in labels
        for take in range(each)
    ]


def several(ordinary: int = 12) -> list[Entry]:
    """Three corpora of different sizes and labels, and people who just talk."""
    return [
        *recordings("alpha", 4, 3, SEVEN_EMOTIONS),
        *recordings("beta", 3, 5, SEVEN_EMOTIONS[:4]),
        *recordings("gamma", 2, 8, SEVEN_EMOTIONS[:5]),
        *recordings("ordinary", ordinary, 2, ["neutral"], soft=True),
    ]


def features_of(entries: Sequence[Entry], seed: int = 0, views: int = 2) -> Features:
    """Two steps of each view: a label's direction, moved by the corpus and the speaker."""
    random = np.random.default_rng(seed)
    ways = random.normal(0, 1, (len(SEVEN_EMOTIONS), WIDTH))
    homes = {name: random.normal(0, 2, WIDTH) for name in sorted({e.dataset for e in entries})}
    people = {name: random.normal(0, 0.3, WIDTH) for name in sorted({e.group for e in entries})}
    sequences = []
    for entry in entries:
        centre = ways[SEVEN_EMOTIONS.index(entry.label)] * (0.2 if entry.soft else 1.5)
        centre = centre + homes[entry.dataset] + people[entry.group]
        steps = random.normal(0, 0.3, (views, 2, DEPTH, WIDTH)) + centre
        sequences.append(list(steps.astype(np.float32)))
    return Features(sequences)


def truth_of(entries: Sequence[Entry]) -> np.ndarray:
    return np.array([SEVEN_EMOTIONS.index(entry.label) for entry in entries], np.int64)


def seeded(seed: int = 0) -> SmallSpeech:
    torch.manual_seed(seed)
    return SmallSpeech()
