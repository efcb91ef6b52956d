"""A batch on a cluster: Ray Data with an actor for each worker.

An actor keeps its clips in a worker process of its own, as on one machine: a clip that crashes or
hangs costs that clip, and the actor goes on. An actor that is lost, with its machine or alone, is
started again elsewhere by Ray, and its clips are done again.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mfer_edge.batch.local import default_workers
from mfer_edge.batch.records import ClipRecord, ClipTask
from mfer_edge.errors import BatchError, MferError
from mfer_edge.install import install_hint
from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.schema import read_as

LOCAL = "local"  # address of a cluster that is started on this machine, for this batch
STDERR = 2  # file descriptor
CONNECT_S = 10.0  # for a cluster to answer at all
MAX_BLOCKS = 10_000  # into which clips are divided; a lost actor's block is done again

Item = dict[str, Any]  # a row of a Ray dataset


@dataclass(frozen=True)
class ClusterOptions:
    """A Ray cluster, and what an actor takes of it."""

    address: str = LOCAL  # or as `ray.init` takes it: `auto`, `HOST:PORT`
    workers: int | None = None  # actors; by default as many as the cluster has room for
    gpu_share: float = 0.0  # of a GPU, for each actor


class RayAnalyzer:
    """An actor: a pool of one worker process that analyses the clips it is given."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._name = f"{socket.gethostname()}, process {os.getpid()}"
        self._pool: IsolatedPool | None = None
        self._failure = ""
        try:
            self._pool = IsolatedPool(setup)
        except MferError as error:  # raised here, it would come back inside a page of Ray's
            self._failure = str(error)

    def __call__(self, item: Item) -> Item:
        """Analyse one clip; the record goes back as JSON."""
        if self._pool is None:
            return {"actor": self._name, "record": "", "failure": self._failure}
        task: ClipTask = pickle.loads(item["task"])
        try:
            record = task.done(self._pool.submit(task.job).result())
        except MferError as error:
            record = task.failed(error)
        return {"actor": self._name, "record": record.to_json(), "failure": ""}


def cluster_records(
    tasks: Iterator[ClipTask],
    setup: WorkerSetup,
    options: ClusterOptions,
    note: Callable[[str], None] = lambda line: None,
) -> Generator[ClipRecord]:
    """Yield the records of tasks as clips finish. All tasks are taken at once.

    Clips and bundle must have the same paths on all machines, which need mfer-edge and Ray.

    Args:
        note: called with a line when a worker was lost.

    Raises:
        BatchError: Ray is not installed, the cluster can't be reached, has no room for the workers,
            or gave up.
    """
    items = [{"task": pickle.dumps(_absolute(task))} for task in tasks]
    if not items:
        return
    ray = import_ray()
    workers = _connect(ray, setup, options)
    try:
        actors: set[str] = set()
        for item in _dataset(ray, items, setup, options.gpu_share, workers).iter_rows():
            if item["failure"]:
                raise BatchError(f"{item['actor']}: {item['failure']}")
            if item["actor"] not in actors and len(actors) >= workers:
                note(f"a worker was lost: {item['actor']} takes its place")
            actors.add(item["actor"])
            record: ClipRecord = read_as(ClipRecord, json.loads(item["record"]))
            yield record
    except ray.exceptions.RayError as error:
        raise BatchError(f"Ray gave up: {_first_line(error)}") from error
    finally:
        ray.shutdown()


def import_ray() -> ModuleType:
    """Import Ray with its Data part.

    Raises:
        BatchError: it is not installed.
    """
    # Ray prints what its processes and its core have to say on stdout and stderr: pages for a
    # worker that is lost.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise BatchError(f"--ray needs Ray: {install_hint('ray')}") from error
    return ray


def _connect(ray: ModuleType, setup: WorkerSetup, options: ClusterOptions) -> int:
    """Connect to the cluster, or start one; return the number of workers."""
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _check_reachable(options.address)
    local = options.address == LOCAL
    here = options.workers or default_workers(setup.device)
    try:
        with _quiet_core():
            ray.init(
                address=options.address,
                num_cpus=here * _cpus(setup) if local else None,
                include_dashboard=False if local else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except Exception as error:  # Ray raises many kinds
        raise BatchError(f"--ray {options.address}: {_first_line(error)}") from error
    try:
        return _workers(ray.cluster_resources(), setup, options)
    except BaseException:
        ray.shutdown()
        raise


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Drop what is written to stderr meanwhile: Ray's core says there that it says nothing."""
    sys.stderr.flush()
    kept = os.dup(STDERR)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), STDERR)
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing answers: Ray tries for minutes, then ends this process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise BatchError(f"--ray {address}: no answer ({error})") from error


def _workers(resources: Mapping[str, float], setup: WorkerSetup, options: ClusterOptions) -> int:
    needs = {"CPU": _cpus(setup), "GPU": options.gpu_share}
    room = min(
        int(resources.get(name, 0.0) / needed + 1e-6) for name, needed in needs.items() if needed
    )
    workers = options.workers or room
    if workers > room or not room:
        each = " and ".join(f"{needed:g} {name}" for name, needed in needs.items() if needed)
        raise BatchError(
            f"--ray {options.address}: the cluster has room for {room} workers of {each} each"
        )
    return workers


def _dataset(
    ray: ModuleType, items: list[Item], setup: WorkerSetup, gpu_share: float, workers: int
) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    blocks = min(len(items), MAX_BLOCKS)
    return ray.data.from_items(items, override_num_blocks=blocks).map(
        RayAnalyzer,
        fn_constructor_args=(setup,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=_cpus(setup),
        num_gpus=gpu_share or None,
    )


def _cpus(setup: WorkerSetup) -> int:
    return max(1, setup.threads)


def _absolute(task: ClipTask) -> ClipTask:
    """Actors have other working folders. Results keep the name of the input, not of the file."""
    job = task.job
    adaptation = None if job.adaptation is None else Path(os.path.abspath(job.adaptation))
    job = replace(job, path=Path(os.path.abspath(job.path)), adaptation=adaptation)
    return replace(task, job=job)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
