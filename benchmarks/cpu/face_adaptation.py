"""Measure what adaptation to a person's face gains on clips with labels.

`python -m benchmarks.cpu.face_adaptation CLIPS --talk FOLDER [--seed N] [--json PATH]` reads clips
named `PERSON-SENTENCE-EMOTION_01.mp4` (EMOTION 01 to 06) and prints the recall of the face alone,
among the emotions of the clips: as it is, with the face adapted to 5, 10 and 20 other clips of the
same person, and to their clips of one emotion only. `--talk` is a folder of ordinary talk: its
clips are adapted to themselves, a second at a time, and should stay neutral. All of it with the
mean alone, which `mfer_edge.adapt.Face` uses, and with the deviation too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.adapt import ArmStatistics, Face, Voice
from mfer_edge.arms import Place
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import Frame
from mfer_edge.sources.folder import clips_in

NAME = re.compile(r"(?P<person>[^-]+)-[^-]+-0(?P<emotion>[1-6])_01")
EMOTIONS = ("neutral", "sad", "happy", "surprised", "fearful", "angry")
HEARD = (5, 10, 20)  # other clips of the person
DRAWS = 5
SURE = 0.6  # a score of another label than neutral from which on it is a false alarm
SECOND = 5  # frames, at five a second


class FaceMean(Face):
    """What the product uses: the mean alone."""


class FaceDeviation(Face):
    """The mean and the deviation, as of voices."""

    @property
    def place(self) -> Place:
        """As a voice's, with the weight of a face."""
        return Voice.place.fget(self)  # type: ignore[attr-defined]


KINDS: tuple[type[Face], ...] = (FaceMean, FaceDeviation)


@dataclass(frozen=True, eq=False)
class Seen:
    """One sequence of a face: its embeddings over time, and what the arm sees in it."""

    embeddings: np.ndarray  # (frames, width)
    observations: np.ndarray  # (n, width)
    person: str = ""
    label: str = ""


@dataclass(frozen=True)
class Measured:
    """What the script measured."""

    machine: Machine
    seed: int
    clips: int
    people: int
    talk_windows: int
    rows: list[tuple[str, str, str]]  # what, mean alone, mean and deviation


class FaceArm:
    """A bundle's visual arm."""

    def __init__(self, pipeline: Pipeline) -> None:
        pipeline.model.check_adaptable()
        self._pipeline = pipeline
        self.labels = pipeline.bundle.manifest.labels

    def embeddings(self, clip: Path) -> list[np.ndarray]:
        """Embeddings of the main face in a clip's windows, which do not overlap."""
        found: list[np.ndarray] = []
        visual = self._pipeline.model.visual

        def sequence(**arrays: np.ndarray) -> dict[str, np.ndarray]:
            found.append(arrays["embeddings"][0])
            return visual.sequence(**arrays)

        model = replace(self._pipeline.model, visual=replace(visual, sequence=sequence))
        options = self._pipeline.options(hop_s=self._pipeline.bundle.manifest.window_s)
        session = Pipeline(model).session(options, has_audio=False)
        with self._pipeline.clip(clip) as opened:
            for item in opened:
                if isinstance(item, Frame):
                    session.push(item)
            session.close(opened.duration_s)
        return found

    def seen(self, embeddings: np.ndarray, person: str = "", label: str = "") -> Seen:
        """What the arm sees in a sequence."""
        observed: list[np.ndarray] = []
        replace(self._pipeline.model.visual, observer=observed.append)(embeddings)
        return Seen(embeddings, observed[0], person, label)

    def scores(self, seen: Seen, place: Place | None) -> np.ndarray:
        """Scores of a sequence, in a place or as it is."""
        visual = self._pipeline.model.visual
        return replace(visual, place=place or visual.place)(seen.embeddings).scores


def place_of(seen: Sequence[Seen], kind: type[Face]) -> Place | None:
    """The place that sequences make; None of none."""
    total = sum((ArmStatistics.of(one.observations) for one in seen), ArmStatistics())
    learned = total.learned(kind)
    return None if learned is None else learned.place


def recall(arm: FaceArm, clips: Sequence[Seen], others: Callable[[Seen], Place | None]) -> float:
    """Mean recall over the emotions of the clips, each adapted to a place of its own."""
    own = [label in {clip.label for clip in clips} for label in arm.labels]
    right: dict[str, list[bool]] = {}
    for clip in clips:
        scores = np.where(own, arm.scores(clip, others(clip)), -1)
        right.setdefault(clip.label, []).append(arm.labels[scores.argmax()] == clip.label)
    return float(np.mean([np.mean(found) for found in right.values()]))


def with_others(
    arm: FaceArm, clips: Sequence[Seen], count: int, kind: type[Face], seed: int
) -> str:
    """Recall with so many other clips of the same person; mean and deviation of some draws."""
    found = []
    for draw in range(DRAWS):
        random = np.random.default_rng(seed + draw)

        def others(clip: Seen, random: np.random.Generator = random) -> Place | None:
            pool = [other for other in clips if other.person == clip.person and other is not clip]
            chosen = random.choice(len(pool), min(count, len(pool)), replace=False)
            return place_of([pool[index] for index in chosen], kind)

        found.append(recall(arm, clips, others))
    return f"{np.mean(found):.3f} ± {np.std(found):.3f}"


def with_one_emotion(arm: FaceArm, clips: Sequence[Seen], emotion: str, kind: type[Face]) -> str:
    """Recall when all that was seen of a person is one emotion."""

    def others(clip: Seen) -> Place | None:
        same = [c for c in clips if (c.person, c.label) == (clip.person, emotion)]
        return place_of(same, kind)

    return f"{recall(arm, clips, others):.3f}"


def talk_shares(arm: FaceArm, talks: Sequence[Sequence[Seen]], kind: type[Face] | None) -> str:
    """Seconds of ordinary talk that are called neutral, and false alarms."""
    rows = [
        arm.scores(second, None if kind is None else place_of(talk, kind))
        for talk in talks
        for second in talk
    ]
    scores, neutral = np.stack(rows), arm.labels.index("neutral")
    called = scores.argmax(1) == neutral
    alarms = ~called & (scores.max(1) >= SURE)
    return f"{called.mean():.3f}, {alarms.sum()} alarms"


def measure(folder: Path, talk: Path, seed: int) -> Measured:
    """Read all clips once, and score their faces in every place."""
    arm = FaceArm(Pipeline.open(device="cpu", threads=1))
    clips = []
    for path in clips_in(folder):
        if (match := NAME.fullmatch(path.stem)) is None:
            raise MferError(f"{path}: not PERSON-SENTENCE-EMOTION_01 with EMOTION 01 to 06")
        if found := arm.embeddings(path):
            label = EMOTIONS[int(match["emotion"]) - 1]
            clips.append(arm.seen(np.concatenate(found), match["person"], label))
    talks = []
    for path in clips_in(talk):
        frames = [part for part in arm.embeddings(path) if len(part)]
        whole = np.concatenate(frames) if frames else np.zeros((0, 1), np.float32)
        parts = [whole[s : s + SECOND] for s in range(0, len(whole) - SECOND + 1, SECOND)]
        if len(parts) > 1:
            talks.append([arm.seen(part) for part in parts])
    rows = [("as it is", as_it_is := f"{recall(arm, clips, lambda _: None):.3f}", as_it_is)]
    for count in HEARD:
        mean, both = (with_others(arm, clips, count, kind, seed) for kind in KINDS)
        rows.append((f"{count} other clips", mean, both))
    for emotion in sorted({clip.label for clip in clips}):
        mean, both = (with_one_emotion(arm, clips, emotion, kind) for kind in KINDS)
        rows.append((f"{emotion} clips alone", mean, both))
    if talks:
        same = talk_shares(arm, talks, None)
        rows.append(("ordinary talk, as it is: neutral", same, same))
        mean, both = (talk_shares(arm, talks, kind) for kind in KINDS)
        rows.append(("ordinary talk, adapted to itself: neutral", mean, both))
    people = len({clip.person for clip in clips})
    return Measured(describe_machine(), seed, len(clips), people, sum(map(len, talks)), rows)


def report(result: Measured) -> str:
    """The result as a document."""
    return document(
        f"Recall of the face alone over {len(EMOTIONS)} emotions, {result.clips} clips of "
        f"{result.people} people, seed {result.seed}; ordinary talk in {result.talk_windows} "
        f"windows of a second.\n{script.machine_line(result.machine)}",
        markdown_table("adapted to | mean alone (used) | mean and deviation", result.rows, "lrr"),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clips", type=Path, metavar="CLIPS")
    parser.add_argument("--talk", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1)
    options = script.parse(parser, arguments)
    result = measure(options.clips, options.talk, options.seed)
    script.publish(report(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
