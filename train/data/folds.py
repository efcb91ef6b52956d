"""Folds of recordings: training, validation and test parts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.data.index import DatasetError, Entry

LUNA_JIMENEZ_FOLDS = (
    (2, 5, 14, 15, 16),
    (3, 6, 7, 13, 18),
    (10, 11, 12, 19, 20),
    (8, 17, 21, 23, 24),
    (1, 4, 9, 22),
)
"""Test actors of the five subject-wise RAVDESS folds in Luna-Jimenez et al. 2022."""

PUBLISHED_FOLD = {
    f"ravdess/{actor:02}": number
    for number, actors in enumerate(LUNA_JIMENEZ_FOLDS)
    for actor in actors
}

VALID_SHARE = 0.15  # of the training part
VALID_PARTS = 7  # of the training part; the one nearest to the share becomes validation


@dataclass(frozen=True)
class Fold:
    """One division of a list of entries: three lists of indices into it, ascending."""

    name: str  # "1", "2", ..., or what is left out: "ravdess-07"
    train: np.ndarray  # (n,) int64, as the others
    valid: np.ndarray  # selects the epoch
    test: np.ndarray  # selects nothing


@dataclass(frozen=True)
class Assignment:
    """Input of a protocol's assignment of entries to test parts."""

    entries: Sequence[Entry]  # n, in a stable order
    strata: np.ndarray  # (n,) text: dataset and emotion
    units: np.ndarray  # (n,) int64: entries of one number are inseparable
    seed: int
    count: int  # of folds, where the protocol leaves it open


TestParts = tuple[list[str], np.ndarray]
"""Names of the folds, and the (n,) number of the fold that each entry is tested in."""


@dataclass(frozen=True)
class Rules:
    """Rules of a protocol."""

    inseparable: Mapping[str, Callable[[Entry], str]]
    """Keys by name: entries with an equal key are in the same part of a fold."""
    assign: Callable[[Assignment], TestParts]
    few: str  # what an error asks for more of


def _at_random(given: Assignment) -> TestParts:
    numbers = _cut(given.strata, given.units, given.count, given.seed)
    return [str(number + 1) for number in range(given.count)], numbers


def _by_subject(given: Assignment) -> TestParts:
    numbers = np.array([PUBLISHED_FOLD.get(entry.group, -1) for entry in given.entries])
    if (numbers >= 0).any() and given.count != len(LUNA_JIMENEZ_FOLDS):
        raise DatasetError(
            f"{given.count} folds: RAVDESS's published ones are {len(LUNA_JIMENEZ_FOLDS)}"
        )
    others = numbers < 0
    numbers[others] = _cut(given.strata[others], given.units[others], given.count, given.seed)
    return [str(number + 1) for number in range(given.count)], numbers


def _leave_one_subject_out(given: Assignment) -> TestParts:
    actors, numbers = np.unique([entry.group for entry in given.entries], return_inverse=True)
    return [actor.replace("/", "-") for actor in actors], numbers


_TAKES: Mapping[str, Callable[[Entry], str]] = {
    "take": lambda entry: entry.take,
    "content": lambda entry: entry.content,
}
_ACTORS: Mapping[str, Callable[[Entry], str]] = {**_TAKES, "actor": lambda entry: entry.group}

KEPT_TOGETHER: Mapping[str, Mapping[str, Callable[[Entry], str]]] = {
    "paper": _TAKES,
    "subject": _ACTORS,
    "loso": _ACTORS,
    # Ordinary talk has no emotions to tell apart: its people are left out, and not all of it.
    "corpus": {**_ACTORS, "corpus": lambda entry: entry.group if entry.soft else entry.corpus},
}
"""By protocol: keys by name; entries with an equal key are in the same part of a fold."""

RULES = {
    "paper": Rules(KEPT_TOGETHER["paper"], _at_random, "recordings"),
    "subject": Rules(KEPT_TOGETHER["subject"], _by_subject, "actors"),
    "loso": Rules(KEPT_TOGETHER["loso"], _leave_one_subject_out, "actors"),
}
"""Rules of the protocols whose test parts divide the entries; `train.data.corpus_folds` has the
other one.

"paper": at random, stratified on dataset and emotion; actors are in all parts. "subject": RAVDESS
as published by Luna-Jimenez et al. 2022, other recordings by actor, stratified as far as possible.
"loso": one fold for each actor.
"""


def folds(entries: Sequence[Entry], protocol: str, seed: int = 0, count: int = 5) -> list[Fold]:
    """Divide recordings for cross-validation: each is in the test part of one fold.

    The folds depend on the entries' content, not on their order or folder.

    Args:
        entries: recordings, of any datasets.
        protocol: key of RULES.
        seed: of the random division.
        count: of folds, in protocols that leave it open.

    Raises:
        DatasetError: the entries don't allow for the protocol, or `check_leakage` fails.
    """
    rules = _rules(entries, protocol, count)
    order = np.array(sorted(range(len(entries)), key=lambda index: _stable_key(entries[index])))
    ordered = [entries[index] for index in order]
    strata = np.array([f"{entry.dataset} {entry.label}" for entry in ordered])
    units = _units(ordered, rules)

    made = []
    names, tested_in = rules.assign(Assignment(ordered, strata, units, seed, count))
    for number, name in enumerate(names):
        rest = np.flatnonzero(tested_in != number)
        valid = _valid_part(strata[rest], units[rest], seed)
        parts = rest[~valid], rest[valid], np.flatnonzero(tested_in == number)
        fold = Fold(name, *(np.sort(order[part]) for part in parts))
        _check_parts(entries, fold, protocol)
        check_leakage(entries, fold, protocol)
        made.append(fold)
    return made


def split_off(
    entries: Sequence[Entry], protocol: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split recordings into a training part and one that is held out to select an epoch.

    Args:
        protocol: "paper" keeps takes together, any other all recordings of an actor.

    Returns:
        Two arrays of indices, ascending: (n,) training, (m,) held out.

    Raises:
        DatasetError: there are too few takes or actors.
    """
    rules = _rules(entries, protocol, count=2)
    order = np.array(sorted(range(len(entries)), key=lambda index: _stable_key(entries[index])))
    ordered = [entries[index] for index in order]
    strata = np.array([f"{entry.dataset} {entry.label}" for entry in ordered])
    valid = _valid_part(strata, _units(ordered, rules), seed)
    if valid.all():
        raise DatasetError(f"protocol {protocol}: too few {rules.few} to hold some of them back")
    return np.sort(order[~valid]), np.sort(order[valid])


def check_leakage(entries: Sequence[Entry], fold: Fold, protocol: str) -> None:
    """Check that no take, copy or, unless the protocol is "paper", actor is in two parts of a fold.

    Protocol "corpus" keeps corpora apart as well.

    Raises:
        DatasetError: one is.
    """
    for what, key in KEPT_TOGETHER[protocol].items():
        side_of: dict[str, str] = {}
        for side in ("train", "valid", "test"):
            for index in getattr(fold, side):
                other = side_of.setdefault(key(entries[index]), side)
                if other != side:
                    raise DatasetError(
                        f"protocol {protocol}, fold {fold.name}: {entries[index].path} has a"
                        f" {what} in its {side} part that is in the {other} part too"
                        f" ({key(entries[index])})"
                    )


def _rules(entries: Sequence[Entry], protocol: str, count: int) -> Rules:
    """The rules of a protocol, if the entries allow for it."""
    if protocol not in RULES:
        raise DatasetError(f"no protocol {protocol!r}: there are {', '.join(RULES)}")
    if count < 2:
        raise DatasetError(f"folds: {count}; it takes 2 or more")
    if not entries:
        raise DatasetError("no recordings to make folds of")
    for entry in entries:
        if entry.kind == "image":
            raise DatasetError(f"{entry.path}: folds are made of recordings, and this is an image")
    rules = RULES[protocol]
    if "actor" in rules.inseparable and not any(entry.actor for entry in entries):
        datasets = ", ".join(sorted({entry.dataset for entry in entries}))
        raise DatasetError(
            f"{datasets}: the actors are unknown, so that they can't be kept apart as protocol"
            f" {protocol} does; protocol paper doesn't need them"
        )
    return rules


def _stable_key(entry: Entry) -> tuple[str | int, ...]:
    # The path comes last: a dataset that moves to another folder keeps its folds.
    return entry.dataset, entry.take, entry.kind, entry.content, str(entry.path), entry.row


def _units(entries: Sequence[Entry], rules: Rules) -> np.ndarray:
    """Number of each entry's inseparable group, direct or through others: (n,) int64."""
    parent = np.arange(len(entries))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for what, key in rules.inseparable.items():
        for index, entry in enumerate(entries):
            parent[root(index)] = root(first.setdefault((what, key(entry)), index))
    return np.array([root(index) for index in range(len(entries))])


def _valid_part(strata: np.ndarray, units: np.ndarray, seed: int) -> np.ndarray:
    """Select the validation part among a training part's entries: (n,) bool."""
    part = _cut(strata, units, VALID_PARTS, seed)
    _, stratum, total = np.unique(strata, return_inverse=True, return_counts=True)

    def far_from_share(number: int) -> float:
        inside = np.bincount(stratum[part == number], minlength=len(total))
        return float(np.abs(inside / total - VALID_SHARE).sum())

    return part == min(range(part.max(initial=0) + 1), key=far_from_share)


def _cut(strata: np.ndarray, units: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Divide whole units into up to `count` similar parts: (n,) int64 numbers of parts.

    There are fewer if there are too few units, or no stratum with so many entries.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    part = np.zeros(len(units), np.int64)
    largest = np.unique(strata, return_counts=True)[1].max(initial=0)
    count = min(count, len(np.unique(units)), largest)
    if count < 2:
        return part
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # strata with few entries can't be in every part, and need not be
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, inside) in enumerate(splitter.split(strata, strata, units)):
            part[inside] = number
    return part


def _check_parts(entries: Sequence[Entry], fold: Fold, protocol: str) -> None:
    for what in ("test", "train", "valid"):
        if not len(getattr(fold, what)):
            raise DatasetError(
                f"protocol {protocol}, fold {fold.name}: nothing is left for its {what} part;"
                f" there are too few {RULES[protocol].few}"
            )
    trained = {entries[index].label for index in fold.train}
    missing = sorted({entry.label for entry in entries} - trained)
    if missing:
        raise DatasetError(
            f"protocol {protocol}, fold {fold.name}: its training part has no recording that is"
            f" {' or '.join(missing)}; add recordings, or leave that emotion out"
        )
