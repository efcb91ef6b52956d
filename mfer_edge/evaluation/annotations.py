"""Labels that people gave to clips or parts of them: tables and ELAN files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mfer_edge.batch.lists import LIST_SUFFIXES, ListedClip, Value, read_list
from mfer_edge.errors import AnnotationError
from mfer_edge.evaluation.elan import ELAN_SUFFIX, read_elan

PATH, LABEL, START, END, PERSON = "path", "label", "start_s", "end_s", "person"


@dataclass(frozen=True)
class Annotation:
    """What a person called a clip, or a part of it."""

    place: str  # file and line, for messages
    path: Path  # of the clip
    label: str
    start_s: float | None = None  # None: the whole clip
    end_s: float | None = None
    person: str | None = None  # whose emotion it is


@dataclass(frozen=True)
class LabelMap:
    """Names of labels in a file, and the model's labels that they stand for; "" leaves out."""

    names: Mapping[str, str]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> LabelMap:
        """Read texts such as `happiness=happy`, or `other=` to leave a label out.

        Raises:
            ValueError: one is of another form, or two are on the same label.
        """
        names: dict[str, str] = {}
        for text in texts:
            theirs, equals, ours = (part.strip() for part in text.partition("="))
            if not equals or not theirs:
                raise ValueError(f"{text}: not of the form THEIRS=OURS")
            if _folded(theirs) in names:
                raise ValueError(f"{text}: {theirs} is mapped twice")
            names[_folded(theirs)] = ours
        return cls(names)

    def apply(self, annotations: Sequence[Annotation], labels: Sequence[str]) -> list[Annotation]:
        """Translate labels; those that are to be left out are gone. Case does not count.

        Args:
            labels: the model's.

        Raises:
            AnnotationError: a label is none of the model's and not mapped, or a mapping is in vain.
        """
        for theirs, ours in self.names.items():
            if ours and ours not in labels:
                raise AnnotationError(f"{theirs}={ours}: {ours} is none of {', '.join(labels)}")
        known = {_folded(label): label for label in labels} | dict(self.names)
        found = Counter(annotation.label for annotation in annotations)
        seen = {_folded(label) for label in found}
        if unused := [theirs for theirs in self.names if theirs not in seen]:
            raise AnnotationError(f"{unused[0]} is mapped, but no label is called so")
        if unknown := [label for label in found if _folded(label) not in known]:
            counts = ", ".join(f"{label or '(empty)'} ({found[label]})" for label in unknown)
            raise AnnotationError(
                f"labels that are none of {', '.join(labels)}: {counts}; map them to these, or to "
                "nothing to leave them out (--map happiness=happy --map other=)"
            )
        translated = [replace(one, label=known[_folded(one.label)]) for one in annotations]
        return [annotation for annotation in translated if annotation.label]


def read_annotations(paths: Sequence[Path], tiers: Sequence[str] = ()) -> list[Annotation]:
    """Read annotations from CSV and Parquet tables and ELAN files.

    A table has the columns path (relative to its folder) and label, and may have start_s and
    end_s, and person. Others are not read.

    Args:
        tiers: names of the tiers of ELAN files; by default the only one with annotations.

    Raises:
        AnnotationError: a file is of another kind or damaged, a value is missing or impossible, or
            some annotations name a person and others don't.
        BatchError: a table can't be read.
    """
    found: list[Annotation] = []
    for path in paths:
        suffix = path.suffix.lower()
        if suffix == ELAN_SUFFIX:
            elan = read_elan(path, tiers)
            found += [
                Annotation(f"{path}, {one.name}", elan.media, one.value, one.start_s, one.end_s,
                           one.participant)
                for one in elan.annotations
                if one.value  # an empty one is no label yet
            ]  # fmt: skip
        elif suffix in LIST_SUFFIXES:
            found += [_listed(path, row) for row in read_list(path)]
        else:
            kinds = ", ".join((*LIST_SUFFIXES, ELAN_SUFFIX))
            raise AnnotationError(f"{path}: the name of a file with labels ends in one of {kinds}")
    if not found:
        raise AnnotationError(f"{', '.join(map(str, paths))}: no annotations")
    without = [annotation for annotation in found if annotation.person is None]
    if without and len(without) < len(found):
        raise AnnotationError(f"{without[0].place}: no {PERSON}, but others have one")
    return found


def _listed(list_path: Path, row: ListedClip) -> Annotation:
    place = f"{list_path}, {row.place}"
    path, label = (_text(row.columns.get(name)) for name in (PATH, LABEL))
    if LABEL not in row.columns:
        raise AnnotationError(f"{list_path}: no column {LABEL} among {', '.join(row.columns)}")
    if path is None or label is None:
        raise AnnotationError(f"{place}: no {PATH if path is None else LABEL}")
    start_s, end_s = (_seconds(place, name, row.columns.get(name)) for name in (START, END))
    if (start_s is None) != (end_s is None):
        raise AnnotationError(f"{place}: {START} and {END} go together")
    if start_s is not None and end_s is not None and not 0 <= start_s < end_s:
        raise AnnotationError(f"{place}: from {start_s:g} to {end_s:g} s is no part of a clip")
    person = _text(row.columns.get(PERSON))
    return Annotation(place, list_path.parent / path, label, start_s, end_s, person)


def _text(value: Value) -> str | None:
    return None if value is None else str(value).strip() or None


def _seconds(place: str, name: str, value: Value) -> float | None:
    text = _text(value)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise AnnotationError(f"{place}: {name} is {text}, not a number of seconds")
    return seconds


def _folded(label: str) -> str:
    return label.strip().casefold()
