"""Who is learned from, who chooses the epoch, and who is tested on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from train.data.index import DatasetError, Entry
from train.evaluate.predictions import PROTOCOLS

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
VALID_PARTS = 7  # the training part is cut into so many; the one nearest the share is taken


@dataclass(frozen=True)
class Fold:
    """One way to share out a list of entries: three lists of indices into it, ascending."""

    name: str  # "1", "2", ..., or the actor who is left out: "ravdess-07"
    train: np.ndarray  # (n,) int64, as the others
    valid: np.ndarray  # chooses the epoch
    test: np.ndarray  # is measured on and chooses nothing


def folds(entries: Sequence[Entry], protocol: str, seed: int = 0, count: int = 5) -> list[Fold]:
    """Share out recordings for cross-validation: each is tested on in one fold.

    The folds depend on what the entries hold, not on their order nor on where the files lie.

    Args:
        entries: recordings, of any datasets.
        protocol: "paper": at random, stratified on dataset and emotion; actors are on all sides.
            "subject": RAVDESS as published by Luna-Jimenez et al. 2022, other recordings by
            whole actors, stratified as far as that goes.
            "loso": one fold for each actor.
        seed: of what is random.
        count: folds; "loso" has as many as there are actors.

    Raises:
        DatasetError: the entries don't allow for the protocol, or `check_leakage` found some.
    """
    _check(entries, protocol, count)
    order = np.array(sorted(range(len(entries)), key=lambda index: _stable_key(entries[index])))
    ordered = [entries[index] for index in order]
    groups = [entry.group for entry in ordered]
    strata = np.array([f"{entry.dataset} {entry.label}" for entry in ordered])
    units = _units(ordered, protocol)

    made = []
    names, tested_in = _tested_in(groups, strata, units, protocol, seed, count)
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
    """Part recordings that are all learned from: what trains, and what is held back to choose.

    Args:
        protocol: "paper" keeps takes together, any other whole actors.

    Returns:
        Two arrays of indices, ascending: (n,) to train on, (m,) held back.

    Raises:
        DatasetError: there is nothing to part.
    """
    _check(entries, protocol, count=2)
    order = np.array(sorted(range(len(entries)), key=lambda index: _stable_key(entries[index])))
    ordered = [entries[index] for index in order]
    strata = np.array([f"{entry.dataset} {entry.label}" for entry in ordered])
    valid = _valid_part(strata, _units(ordered, protocol), seed)
    if valid.all():
        few = "recordings" if protocol == "paper" else "actors"
        raise DatasetError(f"protocol {protocol}: too few {few} to hold some of them back")
    return np.sort(order[~valid]), np.sort(order[valid])


def check_leakage(entries: Sequence[Entry], fold: Fold, protocol: str) -> None:
    """See to it that nothing is on two sides of a fold that would make a test too easy.

    No take and no content (of copies) may be; nor, unless the protocol is "paper", an actor.

    Raises:
        DatasetError: something is.
    """
    for what, key in _inseparable(protocol).items():
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


def _inseparable(protocol: str) -> dict[str, Callable[[Entry], str]]:
    """What entries may have in common only on one side."""
    keys: dict[str, Callable[[Entry], str]] = {
        "take": lambda entry: entry.take,
        "content": lambda entry: entry.content,
    }
    if protocol != "paper":
        keys["actor"] = lambda entry: entry.group
    return keys


def _check(entries: Sequence[Entry], protocol: str, count: int) -> None:
    if protocol not in PROTOCOLS:
        raise DatasetError(f"no protocol {protocol!r}: there are {', '.join(PROTOCOLS)}")
    if count < 2:
        raise DatasetError(f"folds: {count}; it takes 2 or more")
    if not entries:
        raise DatasetError("no recordings to make folds of")
    for entry in entries:
        if entry.kind == "image":
            raise DatasetError(f"{entry.path}: folds are made of recordings, and this is a picture")
    if protocol != "paper" and not any(entry.actor for entry in entries):
        datasets = ", ".join(sorted({entry.dataset for entry in entries}))
        raise DatasetError(
            f"{datasets}: nobody knows the actors, so that they can't be kept apart as protocol"
            f" {protocol} does; protocol paper doesn't need them"
        )


def _stable_key(entry: Entry) -> tuple[str | int, ...]:
    # The path comes last: a dataset that moves to another folder keeps its folds.
    return entry.dataset, entry.take, entry.kind, entry.content, str(entry.path), entry.row


def _units(entries: Sequence[Entry], protocol: str) -> np.ndarray:
    """Number what is inseparable, directly or through others, alike: (n,) int64."""
    parent = np.arange(len(entries))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for what, key in _inseparable(protocol).items():
        for index, entry in enumerate(entries):
            parent[root(index)] = root(first.setdefault((what, key(entry)), index))
    return np.array([root(index) for index in range(len(entries))])


def _tested_in(
    groups: list[str],
    strata: np.ndarray,
    units: np.ndarray,
    protocol: str,
    seed: int,
    count: int,
) -> tuple[list[str], np.ndarray]:
    """Name the folds, and give the (n,) number of the one that each entry is tested in."""
    if protocol == "loso":
        actors, numbers = np.unique(groups, return_inverse=True)
        return [actor.replace("/", "-") for actor in actors], numbers

    published = PUBLISHED_FOLD if protocol == "subject" else {}
    numbers = np.array([published.get(group, -1) for group in groups])
    if (numbers >= 0).any() and count != len(LUNA_JIMENEZ_FOLDS):
        raise DatasetError(f"{count} folds: RAVDESS's published ones are {len(LUNA_JIMENEZ_FOLDS)}")
    others = numbers < 0
    numbers[others] = _cut(strata[others], units[others], count, seed)
    return [str(number + 1) for number in range(count)], numbers


def _valid_part(strata: np.ndarray, units: np.ndarray, seed: int) -> np.ndarray:
    """Mark those of a training part's entries on which it is validated: (n,) bool."""
    part = _cut(strata, units, VALID_PARTS, seed)
    _, stratum, total = np.unique(strata, return_inverse=True, return_counts=True)

    def far_from_share(number: int) -> float:
        inside = np.bincount(stratum[part == number], minlength=len(total))
        return float(np.abs(inside / total - VALID_SHARE).sum())

    return part == min(range(part.max(initial=0) + 1), key=far_from_share)


def _cut(strata: np.ndarray, units: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Number up to `count` parts, much alike, of whole units: (n,) int64.

    There are fewer where there are too few units, or no stratum with so many entries.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    part = np.zeros(len(units), np.int64)
    largest = np.unique(strata, return_counts=True)[1].max(initial=0)
    count = min(count, len(np.unique(units)), largest)
    if count < 2:
        return part
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # about strata with few entries, which can't be in every part and needn't be
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, inside) in enumerate(splitter.split(strata, strata, units)):
            part[inside] = number
    return part


def _check_parts(entries: Sequence[Entry], fold: Fold, protocol: str) -> None:
    for what in ("test", "train", "valid"):
        if not len(getattr(fold, what)):
            raise DatasetError(
                f"protocol {protocol}, fold {fold.name}: nothing is left for its {what} part;"
                f" there are too few {'recordings' if protocol == 'paper' else 'actors'}"
            )
    learned = {entries[index].label for index in fold.train}
    missing = sorted({entry.label for entry in entries} - learned)
    if missing:
        raise DatasetError(
            f"protocol {protocol}, fold {fold.name}: its training part has no recording that is"
            f" {' or '.join(missing)}; add recordings, or leave that emotion out"
        )
