"""A batch on this machine: a pool of worker processes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import chain, islice

from mfer_edge.batch.records import ClipRecord, ClipTask
from mfer_edge.bench.nvml import nvidia_gpus
from mfer_edge.cpu import core_count
from mfer_edge.errors import MferError
from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.results import Analysis

AHEAD = 2  # clips for each worker that are running or wait


def default_workers(device: str) -> int:
    """Number of workers that this machine does best with, each on one CPU thread.

    A process a core: most of a clip's work is on one thread (benchmarks/results/batch.md). With a
    GPU, one process decodes and finds faces while the other has the GPU; this is not measured.

    Args:
        device: as for `Pipeline.open`.
    """
    on_gpu = device in ("cuda", "tensorrt") or (device == "auto" and bool(nvidia_gpus()))
    return min(2, core_count()) if on_gpu else core_count()


def local_records(
    tasks: Iterator[ClipTask], setup: WorkerSetup, workers: int
) -> Generator[ClipRecord]:
    """Yield the records of tasks as clips finish; tasks are taken a few ahead.

    No worker is started if there is no task.

    Raises:
        MferError: the workers do not start.
    """
    first = next(tasks, None)
    if first is None:
        return
    tasks = chain([first], tasks)
    with IsolatedPool(setup, workers=workers) as pool:
        running: dict[Future[Analysis], ClipTask] = {}
        while True:
            for task in islice(tasks, AHEAD * workers - len(running)):
                running[pool.submit(task.job)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield _record(running.pop(future), future)


def _record(task: ClipTask, future: Future[Analysis]) -> ClipRecord:
    try:
        return task.done(future.result())
    except MferError as error:
        return task.failed(error)
