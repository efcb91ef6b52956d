"""Corpora, speakers and sources of recordings, and how often training draws each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.data.corpus_folds import source_of
from train.data.index import Entry
from train.voices.recipe import VoiceRecipe

SOURCE_POWER = 0.5  # ordinary talk: a source is drawn by the square root of its recordings


@dataclass(frozen=True)
class Corpora:
    """Groups of n recordings. All ordinary talk counts as one corpus."""

    names: tuple[str, ...]  # of the corpora
    corpus: np.ndarray  # (n,) int64, index into names
    person: np.ndarray  # (n,) int64, from 0
    source: np.ndarray  # (n,) int64, from 0
    soft: np.ndarray  # (n,) bool: ordinary talk
    truth: np.ndarray  # (n,) int64 classes

    @classmethod
    def of(cls, entries: Sequence[Entry], truth: np.ndarray) -> Corpora:
        """Group entries with their classes, (n,) int64."""
        names, corpus = np.unique([entry.corpus for entry in entries], return_inverse=True)
        return cls(
            tuple(names.tolist()),
            corpus,
            np.unique([entry.group for entry in entries], return_inverse=True)[1],
            np.unique([source_of(entry) for entry in entries], return_inverse=True)[1],
            np.array([entry.soft for entry in entries], bool),
            truth,
        )

    def own_labels(self, part: np.ndarray, classes: int) -> np.ndarray:
        """Labels that each corpus has in a part: (corpora, classes) bool."""
        has = np.zeros((len(self.names), classes), bool)
        has[self.corpus[part], self.truth[part]] = True
        return has

    def weights(self, part: np.ndarray, recipe: VoiceRecipe) -> np.ndarray:
        """Probabilities of drawing a part's recordings, (k,), summing to 1.

        A corpus's labels are equally likely, and so are corpora unless the recipe weights them by
        size. Ordinary talk has one label: its sources are weighted instead.
        """
        weights = np.zeros(len(part))
        corpus, soft = self.corpus[part], self.soft[part]
        for number in np.unique(corpus):
            for ordinary in (False, True):
                inside = np.flatnonzero((corpus == number) & (soft == ordinary))
                if not len(inside):
                    continue
                share = len(inside) ** recipe.corpus_power * (recipe.ordinary if ordinary else 1)
                kind = self.source if ordinary else self.truth
                power = SOURCE_POWER if ordinary else 0.0
                weights[inside] = share * _balanced(kind[part[inside]], power)
        return weights / weights.sum()


def _balanced(kinds: np.ndarray, power: float) -> np.ndarray:
    """Weights that sum to 1, with each kind as likely as its count to a power."""
    _, which, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    weights = counts[which] ** (power - 1.0)
    return weights / weights.sum()
