"""A child process with a pipe to it: how it starts, and how it ended."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from mfer_edge.errors import IsolationError

STDERR = 2  # file descriptor
PR_SET_PDEATHSIG = 1  # option of prctl(2), Linux

BOOT = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "getattr(importlib.import_module(sys.argv[2]), sys.argv[3])(int(sys.argv[4]))"
)
"""What a child runs: the script that started it is not imported again, as `multiprocessing` would,
so it needs no guard, and a child holds nothing but the runtime."""


class Child:
    """A process that runs one function, which talks to this one through a pipe.

    Linux ends it together with the thread that started it.

    Args:
        main: the function as `module:name`; it is given the descriptor of its end of the pipe, and
            calls `opened`.
        setup: the first message to it, pickled.

    Attributes:
        connection: this end of the pipe.

    Raises:
        IsolationError: the process did not start.
    """

    def __init__(self, main: str, setup: object) -> None:
        if os.name == "nt":  # no file descriptors are handed over there
            raise IsolationError("worker processes need Linux or macOS")
        self.connection, childs = Pipe()
        search = json.dumps([os.path.abspath(path) for path in sys.path])
        module, name = main.split(":")
        command = [sys.executable, "-c", BOOT, search, module, name, str(childs.fileno())]
        try:
            # A library that prints must not end up between the parent's results.
            self._process = subprocess.Popen(
                command, pass_fds=[childs.fileno()], stdin=subprocess.DEVNULL, stdout=STDERR
            )
            self.connection.send(setup)
        except OSError as error:
            raise IsolationError(f"a worker did not start: {error.strerror or error}") from error
        finally:
            childs.close()  # so that the pipe ends with the child

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        self._process.wait(timeout_s)

    def interrupt(self) -> None:
        """Kill the process, from any thread; who waits for a message of it is told."""
        self._process.kill()

    def kill(self) -> None:
        """End the process now, and the pipe."""
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def ending(self) -> str:
        """How the process ended, once it has, in words: "ended with exit code 1"."""
        code = self._process.returncode
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if name == "SIGKILL":
            return "was killed (SIGKILL), by someone or as memory ran out"
        return f"crashed ({name})"


def block_interrupts() -> None:
    """Keep Ctrl-C from this thread and from the processes that it starts: it is for the parent."""
    if hasattr(signal, "pthread_sigmask"):  # inherited by a child
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def opened(file_descriptor: int) -> Connection:
    """A child's end of the pipe; from now on the child ends with its parent, not with Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # even while it hangs in native code
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return Connection(file_descriptor)


def received(connection: Connection) -> queue.SimpleQueue[Any]:
    """What the parent sends, read ahead; this process ends with the parent's end of the pipe."""
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def receive() -> None:
        while True:
            try:
                messages.put(connection.recv())
            except (EOFError, OSError):
                os._exit(1)

    threading.Thread(target=receive, name="parent", daemon=True).start()
    return messages
