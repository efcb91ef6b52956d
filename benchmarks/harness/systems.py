"""Who is compared: bundles, the reference, and decoding alone, each to run in its own process."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.processes import Pass, Work
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from mfer_edge.faces.embedding_cache import MAX_LEVELS
from mfer_edge.sources.clip import Clip
from mfer_edge.stopwatch import STAGES

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame


SAMPLES = sorted((Path(__file__).resolve().parents[2] / "samples").glob("*.mp4"))
HOW_TO_EXPORT = (
    "The full size was not compared: mfer-edge export --preset paper --random-init --int8 "
    "--out paper-int8, then add --bundle paper-int8."
)


@dataclass(frozen=True)
class System:
    """A bundle, and how it reads the clips."""

    bundle: Bundle
    folder: str = ""  # empty: the one that ships
    skip_still: float = 0.0  # grey levels; 0: every face is embedded

    @property
    def name(self) -> str:
        """Tell it from the others."""
        manifest = self.bundle.manifest
        name = f"{manifest.name} {manifest.precision}"
        name += f" ({Path(self.folder).name})" if self.folder else ""
        return name + (f", skip-still {self.skip_still:g}" if self.skip_still else "")

    @property
    def full_size(self) -> bool:
        """Whether the reference is of the same model."""
        return self.bundle.manifest.name == "paper"

    @property
    def approximate(self) -> bool:
        """Whether it is to give other scores than an exact reading, if only slightly."""
        return bool(self.bundle.manifest.approximations) or self.skip_still > 0

    def work(self, clips: Sequence[str]) -> Work:
        """Give what a process is to do."""
        return reading(self.name, self.folder, self.skip_still, clips)


def reading(name: str, bundle: str, skip_still: float, clips: Sequence[str]) -> Work:
    """Give what a process is to do that reads clips with a bundle: see `read_with_bundle`."""
    arguments = (bundle, str(skip_still), *clips)
    return Work(name, "benchmarks.harness.systems:read_with_bundle", arguments)


def systems_of(bundles: Sequence[Path], skip_still: float) -> list[System]:
    """Open the shipped bundle and others, these twice if faces are to be skipped.

    Raises:
        MferError: one can't be used, or two can't be told from each other.
    """
    systems = [System(Bundle.open())]
    for folder in bundles:
        bundle = Bundle.open(folder)
        systems.append(System(bundle, str(folder)))
        if skip_still:
            systems.append(System(bundle, str(folder), skip_still))
    for name, count in Counter(system.name for system in systems).items():
        if count > 1:
            raise MferError(f"{name}: {count} bundles of that name; rename a folder")
    return systems


def levels(text: str) -> float:
    """Read a `--skip-still`.

    Raises:
        argparse.ArgumentTypeError, ValueError: it makes no sense.
    """
    value = float(text)
    if not 0 < value <= MAX_LEVELS:
        raise argparse.ArgumentTypeError(f"must be over 0 and at most {MAX_LEVELS}")
    return value


def write_weights(folder: str) -> None:
    """Let another process write the reference's weights: it needs PyTorch.

    Raises:
        MferError: it can't.
    """
    command = [sys.executable, "-m", "benchmarks.cpu.reference", "--weights", folder]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise MferError(f"no weights for the reference: {result.stderr.strip().splitlines()[-1]}")


# What runs in processes of its own.


def read_with_bundle(bundle: str, skip_still: str, *clips: str) -> Callable[[], Pass]:
    """Open a bundle, the shipped one where none is named, on all cores."""
    from mfer_edge.pipeline import Pipeline

    pipeline = Pipeline.open(bundle or None, device="cpu")
    windows = pipeline.windows(skip_still=float(skip_still))

    def one_pass() -> Pass:
        analyses = [pipeline.analyze(clip, windows) for clip in clips]
        stages = [analysis.timing.stages_s for analysis in analyses]
        # The reference takes a clip as one sequence, which longer ones are not here.
        scores = [a.overall.scores if a.overall and len(a.windows) == 1 else None for a in analyses]
        return Pass(added(stages), scores)

    return one_pass


def read_with_reference(weights: str, *clips: str) -> Callable[[], Pass]:
    """Load the reference."""
    from benchmarks.cpu.reference import Reference

    reference = Reference(Path(weights))

    def one_pass() -> Pass:
        results = [reference.analyze(clip) for clip in clips]
        return Pass(added([r.stages_s for r in results]), [r.scores for r in results])

    return one_pass


def decode(*clips: str) -> Callable[[], None]:
    """Decode clips by PyAV, every frame and all the sound, and convert nothing."""

    def one_pass() -> None:
        for path in clips:
            for _ in frames(path):
                pass

    return one_pass


def frames(path: str) -> Iterator[VideoFrame | AudioFrame]:
    """Decode a clip's first video and first sound track."""
    import av

    with av.open(f"file:{path}") as container:  # a name may hold what looks like a protocol
        videos, sounds = container.streams.video[:1], container.streams.audio[:1]
        for video in videos:
            video.thread_type = "AUTO"
        yield from container.decode(*videos, *sounds)


def decode_as_we_do(*clips: str) -> Callable[[], None]:
    """Decode clips as mfer-edge does, the pictures it wants and the sound."""

    def one_pass() -> None:
        for path in clips:
            with Clip(path) as clip:
                for _ in clip:
                    pass

    return one_pass


def decode_by_opencv(*clips: str) -> Callable[[], None]:
    """Decode the pictures of clips by OpenCV, every one of them, as it gives them: BGR."""
    import cv2

    def one_pass() -> None:
        for path in clips:
            capture = cv2.VideoCapture(path)
            while capture.read()[0]:
                pass

    return one_pass


def added(stages: Sequence[dict[str, float]]) -> dict[str, float]:
    """Add up the stages of several clips."""
    return {name: sum(clip[name] for clip in stages) for name in STAGES}
