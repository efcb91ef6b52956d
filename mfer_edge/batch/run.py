"""Run of a batch: what is known is taken from the journal, the rest is analysed and added."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mfer_edge.batch.inputs import BatchInput
from mfer_edge.batch.journal import Journal
from mfer_edge.batch.records import ClipRecord, ClipTask, Failure, TaskMaker
from mfer_edge.batch.tables import Finished, Row, TableSet
from mfer_edge.batch.writers import write_tables
from mfer_edge.errors import MediaError
from mfer_edge.results import Analysis

TABLES_EVERY_S = 60.0  # least time between two writings of the tables while the batch runs
TABLES_SHARE = 20  # and at least so many times as long as the last writing took

Execute = Callable[[Iterator[ClipTask]], Generator[ClipRecord]]
"""Analyses clips; yields their records in any order. It takes tasks as it needs them."""


@dataclass(frozen=True)
class Counts:
    """How far a batch is."""

    total: int = 0  # clips
    analysed: int = 0  # now
    known: int = 0  # from earlier runs, failures included
    copies: int = 0  # of clips among these
    failed: int = 0  # now or earlier
    media_s: float = 0.0  # of what was analysed now

    @property
    def settled(self) -> int:
        """Clips whose result or failure is known."""
        return self.analysed + self.known + self.copies


class Listener(Protocol):
    """What wants to hear how a batch goes."""

    def progress(self, counts: Counts) -> None:
        """Called after each clip."""

    def failed(self, clip: BatchInput, failure: Failure) -> None:
        """Called for each clip that fails, or failed in an earlier run."""


@dataclass(frozen=True)
class BatchPlan:
    """A batch to run."""

    inputs: Sequence[BatchInput]
    tables: TableSet
    tasks: TaskMaker
    folder: Path
    formats: Sequence[str]


def run_batch(plan: BatchPlan, journal: Journal, execute: Execute, listener: Listener) -> BatchRun:
    """Analyse what the journal does not have yet, and write the tables.

    The tables are written from time to time, at the end, and when the run is interrupted.

    Raises:
        OutputError: the journal or a table can't be written.
        MferError: no worker can be started.
    """
    run = BatchRun(plan, journal, listener)
    try:
        with closing(execute(run.tasks())) as records:
            for record in records:
                run.add(record)
    finally:
        run.write()
    return run


class BatchRun:
    """State of a batch while it runs, and what came of it."""

    def __init__(self, plan: BatchPlan, journal: Journal, listener: Listener) -> None:
        self.counts = Counts(total=len(plan.inputs))
        self.files: list[Path] = []  # that were written
        self.windows = 0  # in the tables
        self._plan = plan
        self._journal = journal
        self._listener = listener
        self._keys: dict[int, str] = {}  # of the results of inputs, by the inputs' numbers
        self._failures: dict[str, Failure | None] = {}  # of results, by their keys
        self._unreadable: dict[int, Failure] = {}  # inputs without content
        self._waiting: dict[str, list[int]] = {}  # inputs whose content is being analysed
        self._next_writing_s = time.monotonic() + TABLES_EVERY_S

    def tasks(self) -> Iterator[ClipTask]:
        """What has to be analysed, in the order of the inputs; the rest is settled on the way."""
        for number, clip in enumerate(self._plan.inputs):
            try:
                task = self._plan.tasks.task(clip.path, clip.adaptation)
            except MediaError as error:
                self._unreadable[number] = failure = Failure.of(error, str(clip.path))
                self._count(replace(self.counts, analysed=self.counts.analysed + 1), clip, failure)
                continue
            if task.key in self._waiting:
                self._waiting[task.key].append(number)
            elif task.key in self._failures:
                self._settle_copy(number, task.key)
            elif (known := self._journal.get(task.key)) is not None and known.final:
                self._failures[task.key] = known.failure
                self._keys[number] = task.key
                self._count(replace(self.counts, known=self.counts.known + 1), clip, known.failure)
            else:
                self._waiting[task.key] = [number]
                yield task

    def add(self, record: ClipRecord) -> None:
        """Keep the record of a clip, for all inputs with this content."""
        self._journal.append(record)
        self._failures[record.key] = record.failure
        first, *copies = self._waiting.pop(record.key)
        self._keys[first] = record.key
        counts = replace(
            self.counts,
            analysed=self.counts.analysed + 1,
            media_s=self.counts.media_s + (record.analysis.duration_s if record.analysis else 0),
        )
        self._count(counts, self._plan.inputs[first], record.failure)
        for number in copies:
            self._settle_copy(number, record.key)
        if time.monotonic() >= self._next_writing_s:
            self.write()

    def write(self) -> None:
        """Write the tables of what is settled, in the order of the inputs."""
        start = time.monotonic()
        plan = self._plan
        self.windows = 0
        self._journal.catch_up()
        self.files = write_tables(plan.folder, plan.formats, plan.tables.tables, self._rows())
        pause_s = max(TABLES_EVERY_S, TABLES_SHARE * (time.monotonic() - start))
        self._next_writing_s = time.monotonic() + pause_s

    def results(self) -> Iterator[tuple[BatchInput, Analysis | Failure]]:
        """What became of each clip that is settled, in the order of the inputs."""
        for number, clip in enumerate(self._plan.inputs):
            if number in self._unreadable:
                yield clip, self._unreadable[number]
            elif number in self._keys:
                record = self._journal.get(self._keys[number])
                outcome = None if record is None else record.analysis or record.failure
                assert outcome is not None, "neither analysed nor failed"
                yield clip, outcome

    def _rows(self) -> Iterator[Sequence[Sequence[Row]]]:
        firsts: dict[str, str] = {}  # name of the first clip with a result, by its key
        # An interruption may fall between the journal and this state.
        keys = {n: key for key, numbers in self._waiting.items() for n in numbers} | self._keys
        for number, clip in enumerate(self._plan.inputs):
            if number in self._unreadable:
                yield self._plan.tables.rows(Finished(clip, None, self._unreadable[number]))
            elif number in keys and (record := self._journal.get(keys[number])) is not None:
                copy_of = firsts.get(record.key)
                rows = self._plan.tables.rows(Finished(clip, record, copy_of=copy_of))
                firsts.setdefault(record.key, clip.name)
                self.windows += len(rows[0])
                yield rows

    def _settle_copy(self, number: int, key: str) -> None:
        self._keys[number] = key
        counts = replace(self.counts, copies=self.counts.copies + 1)
        self._count(counts, self._plan.inputs[number], self._failures[key])

    def _count(self, counts: Counts, clip: BatchInput, failure: Failure | None) -> None:
        if failure is not None:
            counts = replace(counts, failed=counts.failed + 1)
            self._listener.failed(clip, failure)
        self.counts = counts
        self._listener.progress(counts)
