"""A pool of worker processes: a clip that crashes, hangs or eats the memory costs that clip."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType

from mfer_edge.errors import IsolationError
from mfer_edge.isolation.child import block_interrupts
from mfer_edge.isolation.process import (
    NotStartedError,
    Progress,
    WorkerProcess,
    memory_is_shown,
)
from mfer_edge.isolation.worker import ClipJob, WorkerSetup
from mfer_edge.results import Analysis

STARTS = 3  # of a worker for one clip, if it is gone before it takes the clip


@dataclass(frozen=True)
class _Order:
    job: ClipJob
    progress: Progress | None
    future: Future[Analysis]


class IsolatedPool:
    """Worker processes that each hold an open pipeline.

    A worker that is lost is started again for the next clip. Workers end with the pool, and with
    the process that made it, however that ends.

    Args:
        setup: what every worker opens.
        workers: number of processes.

    Raises:
        MferError: the workers' pipeline does not open; as `Pipeline.open`.
        IsolationError: the workers do not start, or their memory can't be watched on this system.

    Example:
        >>> with IsolatedPool(WorkerSetup(threads=1), workers=2) as pool:
        ...     futures = [pool.submit(ClipJob(path, timeout_s=60)) for path in clips]
        ...     labels = [future.result().overall.label for future in futures]
    """

    def __init__(self, setup: WorkerSetup | None = None, *, workers: int = 1) -> None:
        self.setup = setup or WorkerSetup()
        if self.setup.max_memory_bytes is not None and not memory_is_shown():
            raise IsolationError("memory can't be limited: this system does not show it in /proc")
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._slots = [_Slot(self, number) for number in range(workers)]
        try:
            for slot in self._slots:
                slot.ready.result()
        except BaseException:
            self.close(cancel=True)
            raise

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that run."""
        running = [slot.worker for slot in self._slots]
        return [worker.pid for worker in running if worker is not None]

    def submit(self, job: ClipJob, *, progress: Progress | None = None) -> Future[Analysis]:
        """Have a clip analysed by the next free worker.

        Args:
            progress: called with the share of the clip that is done, 0 to 1, in another thread.

        Returns:
            Its analysis; or an `MferError`: as `Pipeline.analyze` and `Pipeline.adapted` raise, and
            `CrashError`, `HangError` and `MemoryLimitError` for the loss of the worker. What has
            not begun can be cancelled.
        """
        order = _Order(job, progress, Future())
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._orders.put(order)
        return order.future

    def close(self, *, cancel: bool = False) -> None:
        """End the workers: after all that was submitted, or with `cancel` at once."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            for _ in self._slots:
                self._orders.put(None)
        if cancel:
            for slot in self._slots:
                slot.cancel()
        for slot in self._slots:
            slot.thread.join()

    def __enter__(self) -> IsolatedPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(cancel=error is not None)


class _Slot:
    """A thread with the worker process that it starts, feeds and replaces."""

    def __init__(self, pool: IsolatedPool, number: int) -> None:
        self.ready: Future[None] = Future()
        self.worker: WorkerProcess | None = None
        self._pool = pool
        self._cancelled = False
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name=f"worker-{number}", daemon=True)
        self.thread.start()

    def cancel(self) -> None:
        """Lose what runs and what waits."""
        with self._lock:
            self._cancelled = True
            if self.worker is not None:
                self.worker.interrupt()

    def _run(self) -> None:
        block_interrupts()
        try:
            self._start()
        except BaseException as error:
            self.ready.set_exception(error)
            return
        self.ready.set_result(None)
        while (order := self._pool._orders.get()) is not None:
            if self._cancelled:
                order.future.cancel()
            if not order.future.set_running_or_notify_cancel():
                continue
            try:
                result = self._analyze(order)
            except BaseException as error:
                order.future.set_exception(error)
            else:
                order.future.set_result(result)
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def _analyze(self, order: _Order) -> Analysis:
        for _ in range(STARTS):
            worker = self.worker
            if worker is None or not worker.alive:
                worker = self._start()
            try:
                return worker.analyze(order.job, order.progress)
            except NotStartedError:
                self._lose()
            except IsolationError as error:
                self._lose()
                if self._cancelled:
                    raise IsolationError(f"{order.job.name}: the pool was closed") from error
                raise
        raise IsolationError(f"{order.job.name}: {STARTS} workers ended before they took it")

    def _start(self) -> WorkerProcess:
        self._lose()
        worker = WorkerProcess(self._pool.setup)
        with self._lock:
            self.worker = worker
            cancelled = self._cancelled
        if cancelled:
            self._lose()
            raise IsolationError("the pool was closed")
        return worker

    def _lose(self) -> None:
        with self._lock:
            worker, self.worker = self.worker, None
        if worker is not None:
            worker.kill()
