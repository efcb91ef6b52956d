"""Measure how well the tracker knows cuts from one person to another, and what that costs.

`python -m benchmarks.cpu.cuts FOLDER... [--person REGEX] [--seed N] [--rounds N] [--json PATH]`
reads the clips in the folders, each one shot of one person, and counts

- shots that are cut in two, at five frames a second, at fewer, and with a camera that jumps: false;
- cuts from a frame of one shot to one of another person whose face is in the same place: true ones.

The person is what REGEX's first group matches in a clip's folder and name.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.look import Look, Scene
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.faces.tracker import MIN_OVERLAP, overlap
from mfer_edge.model import Model
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip

MAX_FRAMES = 40  # of a shot
PAIRS = 10_000  # of two people's frames
FEWER = (2, 5)  # of so many frames at five a second, one is taken
SHIFT, ZOOM, GAIN = 0.12, 0.12, (0.55, 1.6)  # of a camera that jumps: far more than is usual


@dataclass(frozen=True)
class Sighting:
    """The largest face of a frame."""

    box: FaceBox  # in shares of the frame
    look: Look
    jumped: Look  # the same when the camera jumps and the exposure changes


@dataclass(frozen=True)
class Shot:
    """One shot of one person."""

    person: str
    corpus: str  # clips of one folder and the same beginning of the name share a backdrop
    faces: list[Sighting]


@dataclass(frozen=True)
class Count:
    """Pairs of frames between which a cut was seen."""

    what: str
    cuts: int
    pairs: int


@dataclass(frozen=True)
class CutsResult:
    """What the script measured."""

    machine: Machine
    shots: int
    people: int
    seed: int
    counts: list[Count]
    scene_us: float  # to make a scene's thumbnail, of a 720p frame
    face_us: float  # to compare one face with an earlier one


def read_shot(model: Model, path: Path, person: re.Pattern[str], rng: random.Random) -> Shot:
    """Find the faces in a clip's first frames."""
    faces = []
    with Clip(path, model.manifest.frame_rate, threads=1) as clip:
        for item in clip:
            if isinstance(item, Frame) and (boxes := model.detector(item.image)):
                faces.append(_sighting(model, item.image, boxes[0], rng))
            if len(faces) == MAX_FRAMES:
                break
    name = f"{path.parent.name}/{path.stem}"
    match = person.search(name)
    start = re.split(r"[_-]", path.stem)[0]
    corpus = path.parent.name + (f"/{start}" if start.isalpha() else "")
    return Shot(match.group(1) if match else name, corpus, faces)


def _sighting(model: Model, image: np.ndarray, box: FaceBox, rng: random.Random) -> Sighting:
    crop = crop_face(image, box, model.manifest.crop)
    gain = rng.uniform(*GAIN)
    moved = cv2.warpAffine(
        image, _jump(image, rng), image.shape[1::-1], borderMode=cv2.BORDER_REFLECT
    )
    scene, jumped = Scene.of(image), Scene.of(_brighter(moved, gain))
    look, other = Look.of(scene, crop), Look.of(jumped, _brighter(crop, gain))
    return Sighting(box.in_shares(*image.shape[:2]), look, other)


def _jump(image: np.ndarray, rng: random.Random) -> np.ndarray:
    height, width = image.shape[:2]
    zoom = 1 + rng.uniform(-ZOOM, ZOOM)
    right, down = (rng.uniform(-SHIFT, SHIFT) + (1 - zoom) / 2 for _ in range(2))
    return np.array([[zoom, 0, right * width], [0, zoom, down * height]], np.float32)


def _brighter(image: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(image * np.float32(gain), 0, 255).astype(np.uint8)


def count_all(shots: Sequence[Shot], rng: random.Random) -> list[Count]:
    """Count false cuts within shots, and cuts between people."""
    steps = {"one shot, 5 frames a second": 1}
    steps |= {f"one shot, {5 / step:g} frames a second": step for step in FEWER}
    within = {
        name: [pair for shot in shots for pair in pairwise(shot.faces[::step])]
        for name, step in steps.items()
    }
    counts = [
        _count(name, [(a.look, b.look) for a, b in pairs if _same_place(a, b)])
        for name, pairs in within.items()
    ]
    jumps = [(a.look, b.jumped) for a, b in within["one shot, 5 frames a second"]]
    counts.append(_count("one shot, camera and exposure jump", jumps))
    for name, same in (("another person, other scene", False), ("another person, same set", True)):
        counts.append(_count(name, list(_between(shots, same, rng))))
    return counts


def _between(shots: Sequence[Shot], same: bool, rng: random.Random) -> Iterator[tuple[Look, Look]]:
    found = tries = 0
    while found < PAIRS and (tries := tries + 1) < 50 * PAIRS:
        one, other = rng.sample(shots, 2)
        if one.person == other.person or (one.corpus == other.corpus) != same:
            continue
        a, b = rng.choice(one.faces), rng.choice(other.faces)
        if _same_place(a, b):
            found += 1
            yield a.look, b.look


def _same_place(a: Sighting, b: Sighting) -> bool:
    return overlap(a.box, b.box) >= MIN_OVERLAP


def _count(what: str, pairs: Sequence[tuple[Look, Look]]) -> Count:
    return Count(what, sum(b.is_cut_from(a) for a, b in pairs), len(pairs))


def microseconds(call: Callable[[], object], rounds: int, calls: int = 200) -> float:
    """The least mean time of a call over the rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls)
    return min(times) * 1e6


def report(result: CutsResult) -> str:
    """Format the result in Markdown."""
    rows = [
        (c.what, f"{c.pairs}", f"{c.cuts}", f"{100 * c.cuts / max(1, c.pairs):.2f} %")
        for c in result.counts
    ]
    return document(
        f"{result.shots} shots of {result.people} people, seed {result.seed}.\n"
        f"{script.machine_line(result.machine)}",
        markdown_table("pairs of frames | number | seen as cuts | share", rows, "lrrr"),
        f"Cost: {result.scene_us:.0f} µs for each 720p frame with a face, and "
        f"{result.face_us:.0f} µs for each face.",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--person", type=re.compile, default=re.compile("(.*)"), metavar="REGEX")
    parser.add_argument("--seed", type=int, default=1)
    options = script.parse(parser, arguments)
    rng, model = random.Random(options.seed), Model.load(device="cpu", threads=1)
    paths = [path for folder in options.folders for path in sorted(folder.glob("*.mp4"))]
    read = [read_shot(model, path, options.person, rng) for path in paths]
    shots = [shot for shot in read if shot.faces]
    image = np.random.default_rng(options.seed).integers(0, 255, (720, 1280, 3), np.uint8)
    scene, crop = Scene.of(image), image[:48, :48, 0]
    look = Look.of(scene, crop)
    result = CutsResult(
        describe_machine(),
        len(shots),
        len({shot.person for shot in shots}),
        options.seed,
        count_all(shots, rng),
        microseconds(lambda: Scene.of(image), options.rounds),
        microseconds(lambda: Look.of(scene, crop).is_cut_from(look), options.rounds),
    )
    script.publish(report(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
