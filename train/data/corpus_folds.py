"""Folds of protocol "corpus": one corpus is left out at a time, and some people who just talk."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from train.data.folds import Fold, check_leakage
from train.data.index import DatasetError, Entry

ORDINARY_PARTS = 5  # of the people of ordinary talk; each fold leaves out one part


def corpus_folds(
    entries: Sequence[Entry], *, train_only: Collection[str] = (), seed: int = 0
) -> list[Fold]:
    """Leave out one corpus at a time, and with it a part of the people of ordinary talk.

    There is no validation part: nothing may be selected on people of the left-out corpus, and the
    number of epochs is fixed.

    Args:
        train_only: corpora that are in every training part.
        seed: of the division of ordinary talk.

    Raises:
        DatasetError: there are fewer than two corpora, a name in `train_only` is unknown, or
            `check_leakage` fails.
    """
    corpora = sorted({entry.corpus for entry in entries if not entry.soft})
    if unknown := sorted(set(train_only) - set(corpora)):
        raise DatasetError(f"no recordings of {unknown[0]}: there are {', '.join(corpora)}")
    left_out = [corpus for corpus in corpora if corpus not in train_only]
    if len(corpora) < 2 or not left_out:
        raise DatasetError(
            f"protocol corpus: of {', '.join(corpora) or 'no corpus'} none can be left out with "
            "another one left to train on"
        )
    parts = min(ORDINARY_PARTS, len(left_out))
    ordinary = ordinary_parts(entries, parts, seed)
    folds = []
    for number, corpus in enumerate(left_out):
        tested = ordinary == number % parts
        tested |= np.array([not entry.soft and entry.corpus == corpus for entry in entries])
        nobody = np.zeros(0, np.int64)
        fold = Fold(corpus, np.flatnonzero(~tested), nobody, np.flatnonzero(tested))
        check_leakage(entries, fold, "corpus")
        folds.append(fold)
    return folds


def source_of(entry: Entry) -> str:
    """The source of a recording of ordinary talk: its speaker's name up to a colon."""
    return entry.group.partition(":")[0]


def ordinary_parts(entries: Sequence[Entry], parts: int, seed: int) -> np.ndarray:
    """Divide the people of ordinary talk into parts of about as many recordings.

    People from one source (a book, a channel, a show) share a microphone and a language: sources
    are kept whole if there are enough.

    Returns:
        (n,) int64 numbers of parts; -1 for other recordings.
    """
    part = np.full(len(entries), -1)
    talking = np.array([index for index, entry in enumerate(entries) if entry.soft], np.int64)
    units = [source_of(entries[index]) for index in talking]
    if len(set(units)) < 2 * parts:
        units = [entries[index].group for index in talking]
    names, which, counts = np.unique(units, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    load = np.zeros(parts, np.int64)
    for name in order[np.argsort(-counts[order], kind="stable")]:
        smallest = int(load.argmin())
        part[talking[which == name]] = smallest
        load[smallest] += counts[name]
    return part
