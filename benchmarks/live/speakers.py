"""Measure how often the voice is given to the right one of two people in view.

`python -m benchmarks.live.speakers CLIP... [--pairs N] [--seed N] [--json PATH]` puts two real
clips side by side, four seconds of each, with the sound of the left one, and reads them with
`--faces all`. The right one is, in turn: a listener, made of frames of the clip around which
nothing is heard; and somebody who speaks as well, but is not heard. Last, the sound comes from a
third clip, so that neither speaks it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.vad import CHUNK, SAMPLE_RATE, SpeechProbability

LENGTH_S = 4.0
RATE = 5
SIDE = 360  # pixels on a side of each half of the picture
QUIET = 0.1  # probability of speech under which nothing is heard
MIN_SPEECH_S, MIN_LISTENING = 1.5, 4  # seconds, frames
KINDS = ("beside a listener", "beside another who speaks", "a third one's voice")


@dataclass(frozen=True, eq=False)
class Person:
    """What is used of a clip."""

    path: Path
    images: list[np.ndarray]
    wave: np.ndarray
    listening: list[int]  # frames around which nothing is heard, in a row
    speech_s: float

    @property
    def who(self) -> str:
        """Who it is, by the names of the data sets here."""
        return self.path.stem[:5] if "grid" in self.path.stem else self.path.stem.split("-")[0]


@dataclass(frozen=True)
class Outcome:
    """What was decided of some pairs."""

    kind: str
    pairs: int
    right: int
    wrong: int

    def cells(self) -> tuple[str, ...]:
        """Format a row of the table."""
        undecided = self.pairs - self.right - self.wrong
        counts = (self.right, self.wrong, undecided)
        return (self.kind, str(self.pairs), *(f"{n / max(1, self.pairs):.0%}" for n in counts))


@dataclass(frozen=True)
class SpeakersResult:
    """Outcomes of all kinds of pairs."""

    machine: Machine
    clips: int
    seed: int
    rows: list[Outcome]


class Pair:
    """Two people side by side: a `Source`."""

    name, has_video, has_audio, duration_s, max_lag_s = "pair", True, True, LENGTH_S, 5.0

    def __init__(self, left: Person, right: list[np.ndarray], wave: np.ndarray) -> None:
        self._left, self._right = left.images, right
        self._wave = np.zeros(round(LENGTH_S * SAMPLE_RATE), np.float32)
        self._wave[: len(wave)] = wave[: len(self._wave)]

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def warnings(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        for index in range(round(LENGTH_S * RATE)):
            sides = [side[index % len(side)] for side in (self._left, self._right)]
            yield Frame(index / RATE, np.hstack(sides))
        yield AudioChunk(self._wave)


def read_person(pipeline: Pipeline, path: Path) -> Person:
    """Decode the beginning of a clip.

    Raises:
        MediaError: it can't be read.
    """
    images, chunks = [], [np.zeros(0, np.float32)]
    with Clip(path, RATE) as clip:
        for item in clip:
            if isinstance(item, Frame):
                images.append(_squared(item.image))
            else:
                chunks.append(item.samples)
    images = images[: round(LENGTH_S * RATE)]
    wave = np.concatenate(chunks)[: round(LENGTH_S * SAMPLE_RATE)]
    heard = SpeechProbability(pipeline.model.vad)(wave[: len(wave) // CHUNK * CHUNK])
    chunk_s = CHUNK / SAMPLE_RATE
    near = [heard[max(0, int((i - 1) / RATE / chunk_s)) : int((i + 1) / RATE / chunk_s) + 1]
            for i in range(len(images))]  # fmt: skip
    quiet = [bool(len(part)) and part.max() < QUIET for part in near]
    return Person(path, images, wave, _longest(quiet), float((heard > 0.5).sum() * chunk_s))


def _squared(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    part = image[top : top + side, left : left + side]
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _longest(flags: Sequence[bool]) -> list[int]:
    """Indices of the longest run."""
    best: list[int] = []
    run: list[int] = []
    for index, flag in enumerate(flags):
        run = [*run, index] if flag else []
        best = max(best, run, key=len)
    return best


def decided(pipeline: Pipeline, pair: Pair) -> str:
    """Whose voice it is said to be: `left`, `right`, or empty."""
    centre: dict[int, float] = {}
    analysis = pipeline.analyze(pair, pipeline.options(faces="all"), keep_detections=True)
    for detection in analysis.detections:
        centre[detection.track] = (detection.left + detection.right) / 2
    for reading in analysis.windows:
        if reading.speaker and reading.track is not None:
            return "left" if centre[reading.track] < SIDE else "right"
    return ""


def measure(clips: Sequence[Path], pairs: int, seed: int) -> SpeakersResult:
    """Read pairs of each kind.

    Raises:
        MferError: no model, or too few usable clips.
    """
    pipeline = Pipeline.open(device="cpu")
    people = [read_person(pipeline, clip) for clip in clips]
    talkers = [p for p in people if p.speech_s >= MIN_SPEECH_S and len(p.images) >= 10]
    listeners = [p for p in people if len(p.listening) >= MIN_LISTENING]
    if len({p.who for p in talkers}) < 3 or len({p.who for p in listeners}) < 2:
        raise MferError("too few clips with speech, or with a pause, of different people")
    rows = []
    for kind in KINDS:
        rng = random.Random(seed)
        said: Counter[str] = Counter()
        for _ in range(pairs):
            left, right, third = _drawn(rng, talkers, listeners if kind == KINDS[0] else talkers)
            if kind == KINDS[0]:
                there = [right.images[i] for i in (*right.listening, *right.listening[-2:0:-1])]
            else:
                there = right.images
            wave = third.wave if kind == KINDS[2] else left.wave
            said[decided(pipeline, Pair(left, there, wave))] += 1
        own = kind != KINDS[2]
        right_count = said["left"] if own else 0
        rows.append(Outcome(kind, pairs, right_count, said.total() - said[""] - right_count))
        script.log(f"{kind}: {dict(said)}")
    return SpeakersResult(describe_machine(), len(clips), seed, rows)


def _drawn(rng: random.Random, left: list[Person], right: list[Person]) -> tuple[Person, ...]:
    """Three different people, the first and third of those who speak."""
    one = rng.choice(left)
    other = rng.choice([p for p in right if p.who != one.who])
    return one, other, rng.choice([p for p in left if p.who not in (one.who, other.who)])


def markdown(result: SpeakersResult) -> str:
    """Format the table."""
    summary = (
        f"Clips: {result.clips}; seed {result.seed}; windows of {LENGTH_S:g} s, {RATE} a second."
    )
    headings = "the one who is heard | pairs | voice given to them | to the other | undecided"
    table = markdown_table(headings, [row.cells() for row in result.rows], align="lrrrr")
    return document(f"{summary}\n{script.machine_line(result.machine)}", table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = script.parse(parser, arguments)
    result = measure(options.clips, options.pairs, options.seed)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
