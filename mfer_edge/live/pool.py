"""Live sessions in processes of their own: one core is then no longer one interpreter's."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoResultError  # another one before Python 3.11
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mfer_edge.errors import CrashError, HangError
from mfer_edge.isolation.child import Child, block_interrupts
from mfer_edge.isolation.process import START_TIMEOUT_S, resident_bytes
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.live.host import Call, Update
from mfer_edge.options import MAX_LAG_S, SessionOptions
from mfer_edge.results import FaceDetection, Reading, Track
from mfer_edge.sources.base import AudioChunk, Frame

if TYPE_CHECKING:
    from mfer_edge.bundle import Bundle

CALL_TIMEOUT_S = 60.0  # without an answer to anything, while calls wait


def default_processes(bundle: Bundle, device: str, threads: int) -> int:
    """Processes for live sessions: one for each CPU thread, as long as the model is small.

    Zero, for this process alone, where there is one thread, where each process would hold another
    copy of a large model, where a GPU does the work, and on Windows.

    Args:
        device: where the large engines run.
        threads: CPU threads for all sessions together.
    """
    small = bundle.manifest.small
    return threads if device == "cpu" and small and threads > 1 and os.name != "nt" else 0


class SessionPool:
    """Processes that compute live sessions, each with a pipeline of its own.

    A session stays in the process that had the fewest sessions when it began. A process is started
    once all that run have a session, so an idle server has one. One that is lost takes its sessions
    with it, and is started again for the next.

    Args:
        setup: what every process opens.
        processes: most that run at once.

    Raises:
        MferError: the pipeline does not open; as `Pipeline.open`.
        IsolationError: a process does not start.

    Example:
        >>> with SessionPool(WorkerSetup(threads=1), processes=2) as pool:
        ...     live = LiveSession(pipeline, backend=pool)
    """

    def __init__(self, setup: WorkerSetup, processes: int) -> None:
        self._setup, self._processes = setup, processes
        self._lock = threading.Lock()
        self._closed = False
        # Linux ends a process with the thread that started it.
        self._starter = ThreadPoolExecutor(1, "starter", initializer=block_interrupts)
        self._workers: list[_Worker] = []
        try:
            self._workers.append(self._started())
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, setup: WorkerSetup, processes: int, threads: int) -> SessionPool:
        """A pool whose processes share a number of CPU threads, at least one each."""
        return cls(replace(setup, threads=max(1, threads // processes)), processes)

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that run."""
        return [worker.child.pid for worker in self._workers if worker.child.alive]

    @property
    def resident_bytes(self) -> int:
        """Memory of the processes; 0 where the system does not show it in /proc."""
        return sum(map(resident_bytes, self.pids))

    def session(
        self,
        options: SessionOptions | None = None,
        *,
        has_video: bool = True,
        has_audio: bool = True,
        keep_detections: bool = False,
        max_lag_s: float = MAX_LAG_S,
    ) -> RemoteSession:
        """Start a session; arguments are those of `Pipeline.session`.

        Raises:
            MferError: a process that was lost does not start again, or the pool is closed.
            ValueError: the options are none that the engines can take.
        """
        chosen = {
            "has_video": has_video,
            "has_audio": has_audio,
            "keep_detections": keep_detections,
            "max_lag_s": max_lag_s,
        }
        return RemoteSession(*self._place(), options, chosen)

    def close(self) -> None:
        """End the processes; what runs in them is lost."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.end()
        self._starter.shutdown(cancel_futures=True)

    def __enter__(self) -> SessionPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _place(self) -> tuple[_Worker, int]:
        """A process for a session, and its number there."""
        with self._lock:
            self._workers = [worker for worker in self._workers if worker.child.alive]
            idlest = min(self._workers, key=lambda worker: worker.sessions, default=None)
            room = len(self._workers) < self._processes
            if idlest is None or (idlest.sessions and room):
                idlest = self._started()
                self._workers.append(idlest)
            return idlest, idlest.number()

    def _started(self) -> _Worker:
        if self._closed:
            raise CrashError("the pool of live sessions is closed")
        return self._starter.submit(_Worker, self._setup).result()


class _Worker:
    """A process, and the calls to it, which it answers in their order.

    It is sent the next call while it computes, so that it need not wait for this process.

    Attributes:
        child: the process.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._numbers = itertools.count()
        self._sessions: set[int] = set()  # that it holds, by number
        self._dropped: deque[int] = deque()
        self._sending, self._ending = threading.Lock(), threading.Lock()
        self._waiting: deque[Future[Any]] = deque()  # for answers
        self._answered_s = time.monotonic()  # when the latest answer came
        self.child = Child("mfer_edge.live.host:host", setup)
        self._receiver = threading.Thread(target=self._receive, name="live answers", daemon=True)
        started: Future[None] = Future()
        self._waiting.append(started)
        self._receiver.start()
        try:
            self._result(started, START_TIMEOUT_S)
        except BaseException:
            self.end()
            raise

    @property
    def sessions(self) -> int:
        """Number of sessions that it holds."""
        return len(self._sessions)

    def number(self) -> int:
        """A number for a new session."""
        number = next(self._numbers)
        self._sessions.add(number)
        return number

    def call(self, session: int, method: str, *arguments: object, **options: object) -> Any:
        """Have a method of a session run: see `Call`.

        Raises:
            MferError, ValueError: as the method raises them.
            CrashError, HangError: the process is lost.
        """
        answer: Future[Any] = Future()
        with self._sending:
            dropped = tuple(self._dropped.popleft() for _ in range(len(self._dropped)))
            self._waiting.append(answer)
            try:
                self.child.connection.send(Call(session, method, arguments, options, dropped))
            except OSError:
                self._fail()
        return self._result(answer, CALL_TIMEOUT_S)

    def drop(self, number: int) -> None:
        """Forget a session that nobody holds any more; it is gone with the next call."""
        self._sessions.discard(number)
        self._dropped.append(number)

    def end(self) -> None:
        """End the process, from any thread; a call that waits for it fails."""
        self.child.interrupt()
        self._receiver.join()

    def _result(self, answer: Future[Any], timeout_s: float) -> Any:
        while True:
            try:
                return answer.result(timeout_s)
            except NoResultError:
                if time.monotonic() - self._answered_s < timeout_s:
                    continue  # it is busy with the calls before
            self.child.interrupt()
            why = f"the process that computed this live session hung for {timeout_s:g} s"
            raise HangError(why)

    def _receive(self) -> None:
        """Hand out the answers, in a thread, until the process ends."""
        with suppress(Exception):  # the end of the pipe, or what is no answer
            while True:
                received = self.child.connection.recv()
                answer, self._answered_s = self._waiting.popleft(), time.monotonic()
                if isinstance(received, Exception):
                    answer.set_exception(received)
                else:
                    answer.set_result(received)
        self.child.interrupt()  # if it has not ended
        with self._sending:
            self.child.kill()
        self._fail()

    def _fail(self) -> None:
        """Tell all who wait that the process is lost."""
        with self._ending:
            self.child.wait()
            while self._waiting:
                why = f"the process that computed this live session {self.child.ending()}"
                self._waiting.popleft().set_exception(CrashError(why))


class RemoteSession:
    """A `Session` in another process: the part of it that live sessions use."""

    def __init__(
        self,
        worker: _Worker,
        number: int,
        options: SessionOptions | None,
        chosen: dict[str, Any],
    ) -> None:
        self.detections: list[FaceDetection] = []
        self.audio_s = 0.0
        self._worker, self._number = worker, number
        self._readings: list[Reading] = []
        self._warnings: tuple[str, ...] = ()
        weakref.finalize(self, worker.drop, number)
        worker.call(number, "open", options, **chosen)

    def push(self, item: Frame | AudioChunk) -> None:
        """Add the next item of the source; errors are those of `Session.push`."""
        self._update("push", item)

    def prepare(self) -> None:
        """Do ahead what the next reading will most likely need."""
        self._update("prepare")

    def readings(self) -> list[Reading]:
        """Return the readings that have become ready since the last call."""
        ready, self._readings = self._readings, []
        return ready

    def warnings(self) -> tuple[str, ...]:
        """What was left out so far, a line each, for the user."""
        return self._warnings

    def tracks(self) -> tuple[Track, ...]:
        """Every face so far; of those that were lost, the latest 10,000."""
        tracks: tuple[Track, ...] = self._worker.call(self._number, "tracks")
        return tracks

    def close(self, end_s: float | None = None) -> None:
        """End the stream; the rest of it makes a last window."""
        self._update("close", end_s)

    def _update(self, method: str, *arguments: object) -> None:
        update: Update = self._worker.call(self._number, method, *arguments)
        self._readings += update.readings
        self._warnings = update.warnings
        self.detections += update.detections
        self.audio_s = update.audio_s
