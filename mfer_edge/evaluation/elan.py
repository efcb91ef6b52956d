"""ELAN files (.eaf): annotations on tiers, aligned to a recording."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mfer_edge.errors import AnnotationError

ELAN_SUFFIX = ".eaf"
MAX_BYTES = 100_000_000


@dataclass(frozen=True)
class ElanAnnotation:
    """One annotation of a tier."""

    name: str  # its id, such as a12
    value: str
    start_s: float  # in the recording
    end_s: float
    participant: str | None  # of its tier


@dataclass(frozen=True)
class ElanFile:
    """A recording and the annotations of the chosen tiers."""

    media: Path
    annotations: tuple[ElanAnnotation, ...]


def read_elan(path: Path, tiers: Sequence[str] = ()) -> ElanFile:
    """Read the annotations of tiers.

    Annotations that refer to others (symbolic tiers) have the times of those. Ends that are not
    aligned lie evenly between those that are, as ELAN shows them.

    Args:
        tiers: their names; by default the only one with annotations.

    Raises:
        AnnotationError: it can't be read, is no ELAN file, has several such tiers or not these.
    """
    root = _parse(path)
    try:
        chosen = _tiers(path, root, tiers)
        times_s = _times(root)
        spans = {
            name: (times_s[start], times_s[end])
            for name, start, end in _aligned(root)
        }  # fmt: skip
        parents = {
            one.attrib["ANNOTATION_ID"]: one.attrib["ANNOTATION_REF"]
            for one in root.iter("REF_ANNOTATION")
        }
        media, origin_s = _media(path, root)
        found = [
            _annotation(tier, one, spans, parents, origin_s)
            for tier in chosen
            for one in [*tier.iter("ALIGNABLE_ANNOTATION"), *tier.iter("REF_ANNOTATION")]
        ]
    except (LookupError, ValueError) as error:
        raise AnnotationError(f"{path}: a damaged ELAN file ({error})") from error
    return ElanFile(media, tuple(sorted(found, key=lambda one: one.start_s)))


def _parse(path: Path) -> ET.Element:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AnnotationError(f"{path}: larger than {MAX_BYTES / 1e6:.0f} MB")
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror or error}") from error
    if b"<!ENTITY" in data or b"<!DOCTYPE" in data:
        raise AnnotationError(f"{path}: defines entities, which ELAN files do not")
    try:
        root = ET.fromstring(data)
    except (ET.ParseError, ValueError) as error:
        raise AnnotationError(f"{path}: not an ELAN file ({error})") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise AnnotationError(f"{path}: not an ELAN file (its root is {root.tag})")
    return root


def _tiers(path: Path, root: ET.Element, names: Sequence[str]) -> list[ET.Element]:
    tiers = {tier.attrib["TIER_ID"]: tier for tier in root.iter("TIER")}
    filled = [name for name, tier in tiers.items() if tier.find("ANNOTATION") is not None]
    if not names:
        if len(filled) > 1:
            listed = ", ".join(filled)
            raise AnnotationError(f"{path}: several tiers, {listed}; name those to read (--tier)")
        return [tiers[name] for name in filled]
    if not (present := [tiers[name] for name in names if name in tiers]):
        raise AnnotationError(f"{path}: no tier {names[0]}, but {', '.join(tiers) or 'none'}")
    return present


def _times(root: ET.Element) -> dict[str, float]:
    """Seconds of all time slots, those without a value spread between their neighbours."""
    slots = [(one.attrib["TIME_SLOT_ID"], one.get("TIME_VALUE")) for one in root.iter("TIME_SLOT")]
    known = [(at, int(value) / 1000) for at, (_, value) in enumerate(slots) if value is not None]
    times: dict[str, float] = {}
    for at, (name, _) in enumerate(slots):
        before = max((one for one in known if one[0] <= at), default=None)
        after = min((one for one in known if one[0] >= at), default=None)
        if before is None or after is None:
            raise ValueError(f"{name} has no time")
        share = (at - before[0]) / (after[0] - before[0]) if after[0] > before[0] else 0.0
        times[name] = before[1] + share * (after[1] - before[1])
    return times


def _aligned(root: ET.Element) -> Iterator[tuple[str, str, str]]:
    for one in root.iter("ALIGNABLE_ANNOTATION"):
        yield (
            one.attrib["ANNOTATION_ID"],
            one.attrib["TIME_SLOT_REF1"],
            one.attrib["TIME_SLOT_REF2"],
        )


def _annotation(
    tier: ET.Element,
    one: ET.Element,
    spans: dict[str, tuple[float, float]],
    parents: dict[str, str],
    origin_s: float,
) -> ElanAnnotation:
    name = root = one.attrib["ANNOTATION_ID"]
    for _ in parents:  # no longer than there are, should they go round in a circle
        root = parents.get(root, root)
    if root not in spans:
        raise ValueError(f"{name} has no time")
    start_s, end_s = (max(0.0, time_s + origin_s) for time_s in spans[root])
    if not start_s < end_s:
        raise ValueError(f"{name} ends before it starts")
    value = (one.findtext("ANNOTATION_VALUE") or "").strip()
    return ElanAnnotation(name, value, start_s, end_s, tier.get("PARTICIPANT") or None)


def _media(path: Path, root: ET.Element) -> tuple[Path, float]:
    """The recording, and where in it the annotations' time starts."""
    for one in root.iter("MEDIA_DESCRIPTOR"):
        origin_s = int(one.get("TIME_ORIGIN") or 0) / 1000
        places = [
            path.parent / url2pathname(urlsplit(one.get("RELATIVE_MEDIA_URL") or "").path),
            Path(url2pathname(urlsplit(one.get("MEDIA_URL") or "").path)),
        ]
        places.append(path.parent / places[1].name)  # moved together with the ELAN file
        if found := next((place for place in places if place.is_file()), None):
            return found, origin_s
        return places[2], origin_s
    raise ValueError("it names no recording")
