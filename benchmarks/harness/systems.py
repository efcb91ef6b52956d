"""Compared systems: bundles as mfer-edge runs them, and the weights of the PyTorch reference."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.processes import Job, PassResult, run_python
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from mfer_edge.options import MAX_LEVELS
from mfer_edge.stopwatch import STAGES

HOW_TO_EXPORT = (
    "The full size was not compared: mfer-edge export --preset paper --random-init --int8 "
    "--out paper-int8, then add --bundle paper-int8."
)


@dataclass(frozen=True)
class System:
    """A bundle, and how it analyses clips."""

    bundle: Bundle
    folder: str = ""  # empty: the one that ships
    skip_still: float = 0.0  # grey levels; 0: every face is embedded

    @property
    def name(self) -> str:
        """Name and precision of the bundle, its folder, and the approximation if any."""
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
        """Whether its scores differ by intention from exact ones, if only slightly."""
        return bool(self.bundle.manifest.approximations) or self.skip_still > 0

    def job(self, clips: Sequence[str]) -> Job:
        """Make the job that analyses clips."""
        return analysis_job(self.name, self.folder, self.skip_still, clips)


def open_systems(bundles: Sequence[Path], skip_still: float) -> list[System]:
    """Open the shipped bundle and others, the others twice if still faces are to be skipped.

    Raises:
        MferError: a bundle can't be used, or two have the same name.
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


def analysis_job(name: str, bundle: str, skip_still: float, clips: Sequence[str]) -> Job:
    """Make a job that analyses clips with a bundle; see `analyze_with_bundle`."""
    arguments = (bundle, str(skip_still), *clips)
    return Job(name, "benchmarks.harness.systems:analyze_with_bundle", arguments)


def analyze_with_bundle(bundle: str, skip_still: str, *clips: str) -> Callable[[], PassResult]:
    """Open a bundle on all cores; a pass analyses the clips.

    Args:
        bundle: its folder; empty: the one that ships.
        skip_still: grey levels.
    """
    from mfer_edge.pipeline import Pipeline

    pipeline = Pipeline.open(bundle or None, device="cpu")
    options = pipeline.options(skip_still=float(skip_still))

    def one_pass() -> PassResult:
        analyses = [pipeline.analyze(clip, options) for clip in clips]
        # The reference takes a clip as one sequence: no comparison where there are more windows.
        scores = [a.overall.scores if a.overall and len(a.windows) == 1 else None for a in analyses]
        return PassResult(sum_stages([a.timing.stages_s for a in analyses]), scores)

    return one_pass


def sum_stages(clips: Sequence[dict[str, float]]) -> dict[str, float]:
    """Add up the stage times of several clips."""
    return {name: sum(stages_s[name] for stages_s in clips) for name in STAGES}


def write_reference_weights(folder: str) -> None:
    """Write random weights for the reference, in a process of its own: it needs PyTorch.

    Raises:
        MferError: it failed.
    """
    arguments = ["-m", "benchmarks.cpu.reference", "--weights", folder]
    run_python(arguments, "no weights for the reference")


def grey_levels(text: str) -> float:
    """Parse a `--skip-still`.

    Raises:
        argparse.ArgumentTypeError, ValueError: not a number in the range.
    """
    value = float(text)
    if not 0 < value <= MAX_LEVELS:
        raise argparse.ArgumentTypeError(f"must be over 0 and at most {MAX_LEVELS}")
    return value
