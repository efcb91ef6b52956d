"""Short sound files, and batches of them that run in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.batch.inputs import BatchInput
from mfer_edge.batch.journal import Journal
from mfer_edge.batch.records import ClipRecord, ClipTask, Failure, TaskMaker
from mfer_edge.batch.run import BatchPlan, BatchRun, Counts, run_batch
from mfer_edge.batch.tables import TableSet
from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import write_clip

Words = Callable[[str, float], Path]
"""Writes a WAV file with that name and so many seconds of speech."""


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.counts: list[Counts] = []

    def progress(self, counts: Counts) -> None:
        self.counts.append(counts)

    def failed(self, clip: BatchInput, failure: Failure) -> None:
        self.failures.append(f"{clip.name}: {failure.reason}")


class Batch:
    """A batch in a folder, whose clips are analysed by the pipeline of the tests."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline = pipeline
        self.folder = folder
        self.analysed: list[str] = []  # names of the files, all runs together
        self.heard = Heard()

    def plan(self, inputs: Sequence[BatchInput], formats: Sequence[str] = ("csv",)) -> BatchPlan:
        bundle = self.pipeline.bundle
        tasks = TaskMaker(bundle, self.pipeline.options())
        return BatchPlan(
            inputs, TableSet(bundle.manifest.labels, inputs), tasks, self.folder, formats
        )

    def execute(self, tasks: Iterator[ClipTask]) -> Generator[ClipRecord]:
        for task in tasks:
            self.analysed.append(task.job.path.name)
            try:
                yield task.done(self.pipeline.analyze(task.job.path, task.job.options))
            except MferError as error:
                yield task.failed(error)

    def run(self, inputs: Sequence[BatchInput], formats: Sequence[str] = ("csv",)) -> BatchRun:
        self.folder.mkdir(exist_ok=True)
        with Journal(self.folder) as journal:
            return run_batch(self.plan(inputs, formats), journal, self.execute, self.heard)


@pytest.fixture
def batch(pipeline: Pipeline, tmp_path: Path) -> Batch:
    return Batch(pipeline, tmp_path / "out")


@pytest.fixture
def words(anger: Path, tmp_path: Path) -> Words:
    sound = np.asarray(read_audio(anger)[22_400:48_000])

    def write(name: str, seconds: float = 0.5) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        samples = sound[None, : round(seconds * SAMPLE_RATE)]
        return write_clip(path, audio=samples, rate=SAMPLE_RATE, video=None)

    return write
