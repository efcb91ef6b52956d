"""How commands analyse clips: in their own process, or in a worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.options import STDIN
from mfer_edge.cli.progress import Progress

if TYPE_CHECKING:
    from mfer_edge.manifest import Manifest
    from mfer_edge.options import SessionOptions
    from mfer_edge.results import Analysis
    from mfer_edge.sources.base import TrackChoice
    from mfer_edge.sources.prefetch import StartedSource

Analyzer = Callable[[Path | str, Progress | None], "Analysis"]
"""Analyses one clip; raises an `MferError` if that fails."""


@dataclass(frozen=True)
class WindowRequest:
    """Windows and faces as they were asked for; None for the bundle's own."""

    window_s: float | None
    hop_s: float | None
    faces: str
    skip_still: float

    def options(self, manifest: Manifest) -> SessionOptions:
        """Options for a bundle.

        Raises:
            click.UsageError: its engines can't take such windows.
        """
        from mfer_edge.options import make_options

        try:
            return make_options(
                manifest, self.window_s, self.hop_s, faces=self.faces, skip_still=self.skip_still
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from error


@dataclass(frozen=True)
class Isolation:
    """Whether clips are analysed in a worker process, and what a clip may take there."""

    asked: bool = False
    timeout_s: float | None = None
    max_memory_mb: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether a worker process is needed: limits can't be enforced without one."""
        return self.asked or self.timeout_s is not None or self.max_memory_mb is not None


@dataclass(frozen=True)
class Request:
    """The model and the way in which a command analyses clips."""

    bundle: Path | None
    device: str
    threads: int
    adaptation: Path | None
    windows: WindowRequest
    isolation: Isolation
    keep_detections: bool = False
    tracks: TrackChoice | None = None  # by default as players do


@contextmanager
def analyzer(request: Request, first: Path | str) -> Iterator[Analyzer]:
    """Open the model, here or in a worker.

    Args:
        first: the clip to come first: if it is a file, it is decoded while the engines load.

    Raises:
        MferError: it does not open.
        click.UsageError: its engines can't take such windows.
    """
    if request.isolation.wanted:
        with _isolated(request) as analyze:
            yield analyze
        return
    from mfer_edge.pipeline import Pipeline

    begun: dict[Path | str, StartedSource] = {}
    with ExitStack() as closed_at_the_end:
        with Pipeline.opening(
            request.bundle, request.device, request.threads, adaptation=request.adaptation
        ) as opening:
            if isinstance(first, Path) and first != STDIN and first.is_file():
                # What is wrong with it is told when its turn comes, and it is opened again.
                with suppress(Exception):
                    begun[first] = opening.begin(first, request.tracks)
                    closed_at_the_end.push(begun[first])
            pipeline = opening.pipeline()
        options = request.windows.options(pipeline.bundle.manifest)
        keep = request.keep_detections
        yield lambda clip, progress: pipeline.analyze(
            begun.pop(clip, clip),
            options,
            keep_detections=keep,
            progress=progress,
            tracks=request.tracks,
        )


@contextmanager
def _isolated(request: Request) -> Iterator[Analyzer]:
    from mfer_edge.bundle import Bundle
    from mfer_edge.isolation.pool import IsolatedPool
    from mfer_edge.isolation.worker import ClipJob, WorkerSetup

    options = request.windows.options(Bundle.open(request.bundle).manifest)
    limit = request.isolation.max_memory_mb
    setup = WorkerSetup(
        bundle=request.bundle,
        device=request.device,
        threads=request.threads,
        adaptation=request.adaptation,
        max_memory_bytes=None if limit is None else int(limit * 1e6),
    )
    with IsolatedPool(setup) as pool:

        def analyze(clip: Path | str, progress: Progress | None) -> Analysis:
            job = ClipJob(
                clip,
                options,
                keep_detections=request.keep_detections,
                timeout_s=request.isolation.timeout_s,
                tracks=request.tracks,
            )
            return pool.submit(job, progress=progress).result()

        yield analyze
