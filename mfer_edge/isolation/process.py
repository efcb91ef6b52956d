"""A worker process as its parent sees it: given a job, watched, stopped."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mfer_edge.errors import CrashError, HangError, IsolationError, MemoryLimitError
from mfer_edge.isolation.child import Child
from mfer_edge.isolation.worker import ClipJob, Message, WorkerSetup, error_of
from mfer_edge.results import Analysis
from mfer_edge.schema import read_as

START_TIMEOUT_S = 300.0  # to load a bundle: large models, a GPU's first start, a busy machine
MEMORY_POLL_S = 0.05  # a process touches about 100 MB of new memory in this time
STOP_S = 5.0  # for an idle worker to end when told to

Progress = Callable[[float], None]


class NotStartedError(Exception):
    """The worker was gone before it took the job, which another one may have."""


class WorkerProcess:
    """A worker that is running and ready, for the thread that made it.

    Linux ends the worker together with that thread.

    Raises:
        MferError: the worker's pipeline does not open, with its own type and message.
        IsolationError: the worker died or hung before it was ready.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._child = Child("mfer_edge.isolation.worker:work", setup)
        self._max_memory = setup.max_memory_bytes
        message = self._receive(time.monotonic() + START_TIMEOUT_S)
        if message is None:
            alive = self.alive
            self.kill()
            why = f"not ready in {START_TIMEOUT_S:g} s" if alive else self._child.ending()
            raise IsolationError(f"a worker did not start: {why}")
        if "error" in message:
            self.kill()
            raise error_of(message)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    def analyze(self, job: ClipJob, progress: Progress | None) -> Analysis:
        """Have a clip analysed. After any `IsolationError` the process is gone.

        Raises:
            NotStartedError: the process was gone before.
            MferError: the analysis failed.
            HangError, MemoryLimitError, CrashError: the process was stopped, or ended by itself.
        """
        try:
            self._child.connection.send(job)
        except OSError as error:
            self.kill()
            raise NotStartedError from error
        deadline = None if job.timeout_s is None else time.monotonic() + job.timeout_s
        started = False
        while True:
            message = self._receive(deadline, self._max_memory)
            if message is None:
                raise self._lost(job, deadline, started)
            if "result" in message:
                return _analysis(job, message)
            if "error" in message:
                raise error_of(message)
            started = True
            if progress is not None and "progress" in message:
                progress(float(message["progress"]))

    def stop(self) -> None:
        """End the process when it is idle."""
        with suppress(OSError):  # it has ended
            self._child.connection.send(None)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_S)
        self.kill()

    def interrupt(self) -> None:
        """Kill the process, from any thread: its analysis fails."""
        self._child.interrupt()

    def kill(self) -> None:
        """End the process now."""
        self._child.kill()

    def _receive(self, deadline: float | None, max_memory: int | None = None) -> Message | None:
        """The next message; None if the process ends, the time is over, or the memory."""
        while True:
            waits = [MEMORY_POLL_S] if max_memory is not None else []
            if deadline is not None:
                waits.append(max(0.0, deadline - time.monotonic()))
            try:
                if self._child.connection.poll(min(waits, default=None)):
                    message: Message = json.loads(self._child.connection.recv_bytes())
                    return message
            except (OSError, EOFError, ValueError):  # its end of the pipe is closed, or damaged
                return None
            if deadline is not None and time.monotonic() >= deadline:
                return None
            if max_memory is not None and resident_bytes(self.pid) > max_memory:
                return None

    def _lost(self, job: ClipJob, deadline: float | None, started: bool) -> Exception:
        """End the process, and say why."""
        hung = deadline is not None and time.monotonic() >= deadline
        used = resident_bytes(self.pid) if self._max_memory is not None else 0
        self.kill()
        if self._max_memory is not None and used > self._max_memory:
            limit = f"{self._max_memory / 1e6:.0f} MB"
            return MemoryLimitError(f"{job.name}: stopped as it took more than {limit} of memory")
        if hung:
            return HangError(f"{job.name}: stopped as it was not done in {job.timeout_s:g} s")
        if not started:
            return NotStartedError()
        return CrashError(f"{job.name}: the process that analysed it {self._child.ending()}")


def _analysis(job: ClipJob, message: Message) -> Analysis:
    try:
        analysis: Analysis = read_as(Analysis, message["result"])
    except ValueError as error:
        raise CrashError(f"{job.name}: the worker's result is damaged: {error}") from error
    return analysis


def memory_is_shown() -> bool:
    """Whether this system shows the memory of processes in /proc."""
    return Path("/proc/self/statm").exists()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
