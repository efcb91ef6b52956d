"""People of an analysis: the readings of each face, and of the voice where there is no face."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mfer_edge.results import Reading, Scores, Track, mean_scores
from mfer_edge.segments import speech_share

NOBODY = "no face"  # whose readings rest on the voice alone, or on nothing


@dataclass(frozen=True)
class Person:
    """One face, or what is read without one."""

    track: int | None
    name: str
    start_s: float  # of its track; without a face, of its first reading
    end_s: float
    readings: tuple[Reading, ...]


def people(readings: Sequence[Reading], tracks: Sequence[Track]) -> list[Person]:
    """Readings by person, ordered by first appearance; readings without a face come last.

    Windows in which nothing was read, beside others with a face, are nobody's.
    """
    by_track: dict[int | None, list[Reading]] = {}
    for reading in readings:
        by_track.setdefault(reading.track, []).append(reading)
    if len(by_track) > 1 and all(reading.scores is None for reading in by_track.get(None, ())):
        by_track.pop(None, None)
    known = {track.track: track for track in tracks}
    found = []
    for track, own in by_track.items():
        seen = known.get(track) if track is not None else None
        start_s = seen.start_s if seen else min(reading.start_s for reading in own)
        end_s = seen.end_s if seen else max(reading.end_s for reading in own)
        name = NOBODY if track is None else f"face {track}"
        found.append(Person(track, name, start_s, end_s, tuple(own)))
    return sorted(found, key=lambda person: (person.track is None, person.start_s))


def by_presence(everyone: Sequence[Person], limit: int) -> list[Person]:
    """Those with the most readings, in their order."""
    kept = sorted(everyone, key=lambda person: -len(person.readings))[:limit]
    return [person for person in everyone if person in kept]


def thinned(readings: Sequence[Reading], limit: int) -> tuple[tuple[Reading, ...], int]:
    """Average windows that follow each other until there are few enough readings.

    Args:
        limit: number of readings to stay below, about.

    Returns:
        the readings, and how many windows each stands for: 1 if they are few enough as they are.
    """
    joined = max(1, math.ceil(len(readings) / limit))
    if joined == 1:
        return tuple(readings), 1
    windows = sorted({(reading.start_s, reading.end_s) for reading in readings})
    group = {window: number // joined for number, window in enumerate(windows)}
    bounds: dict[int, tuple[float, float]] = {}
    for window, number in group.items():
        bounds[number] = bounds.get(number, window)[0], window[1]
    parts: dict[tuple[int, int | None], list[Reading]] = {}
    for reading in readings:
        number = group[reading.start_s, reading.end_s]
        parts.setdefault((number, reading.track), []).append(reading)
    most: dict[int, int] = {}  # by group: how often its most frequent main face was that
    for (number, _), own in parts.items():
        most[number] = max(most.get(number, 0), sum(reading.main for reading in own))
    joined_readings, taken = [], set()
    for key, own in sorted(parts.items(), key=lambda item: item[0][0]):
        is_main = key[0] not in taken and sum(reading.main for reading in own) == most[key[0]]
        if is_main:
            taken.add(key[0])
        joined_readings.append(replace(_mean(own, bounds[key[0]]), main=is_main))
    return tuple(joined_readings), joined


def _mean(readings: Sequence[Reading], bounds: tuple[float, float]) -> Reading:
    speech = sum(map(speech_share, readings)) / len(readings)
    speakers = {reading.speaker for reading in readings}
    return replace(
        readings[0],
        start_s=bounds[0],
        end_s=bounds[1],
        scores=mean_scores([reading.scores for reading in readings]),
        visual=mean_scores([reading.visual for reading in readings]),
        audio=mean_scores([reading.audio for reading in readings]),
        frames=sum(reading.frames for reading in readings),
        faces=sum(reading.faces for reading in readings),
        reused=sum(reading.reused for reading in readings),
        speech_s=speech * (bounds[1] - bounds[0]),
        speaker=speakers.pop() if len(speakers) == 1 else None,
    )


def basis(reading: Reading) -> int:
    """What a reading rests on as a sum: 1 the face, 2 the voice, 4 if the face is who speaks."""
    speaks = reading.speaker is True
    return (reading.visual is not None) + 2 * (reading.audio is not None) + 4 * speaks


def uncertainty(scores: Scores | None) -> float | None:
    """Entropy of scores, as a share of the most there can be: 0 sure of one label, 1 of none."""
    if scores is None:
        return None
    bits = -sum(score * math.log(score) for score in scores.values() if score > 0)
    return min(1.0, bits / math.log(len(scores))) if len(scores) > 1 else 0.0
