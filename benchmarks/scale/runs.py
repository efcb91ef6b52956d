"""Runs of `mfer-edge` as whole process trees: time, CPU time, memory; killed in the middle."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.children import command_line, descendants, proportional_bytes
from mfer_edge.batch.journal import JOURNAL

MFER_EDGE = (sys.executable, "-m", "mfer_edge")
SAMPLE_S = 0.25  # between two looks at the memory and the journal
ACTOR = "MapWorker"  # in the title of a process with a Ray actor of a batch


@dataclass(frozen=True)
class TreeRun:
    """A command and all processes that it started."""

    wall_s: float
    cpu_s: float  # of the processes that have ended
    peak_bytes: int  # sum over the processes; shared pages counted once
    exit_code: int
    stdout: str
    stderr: str


def run_tree(command: Sequence[str], watch: Callable[[int], None] | None = None) -> TreeRun:
    """Run a command, sampling the memory of its processes.

    Args:
        watch: called with the command's process id every `SAMPLE_S`.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0
    while True:
        try:
            stdout, stderr = process.communicate(timeout=SAMPLE_S)
            break
        except subprocess.TimeoutExpired:
            pids = [process.pid, *descendants(process.pid)]
            peak = max(peak, sum(map(proportional_bytes, pids)))
            if watch is not None:
                watch(process.pid)
    wall_s = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return TreeRun(wall_s, cpu_s, peak, process.returncode, stdout, stderr)


def journal_lines(folder: Path) -> int:
    """Number of records that a batch has written."""
    path = folder / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_batch_at(folder: Path, records: int) -> Callable[[int], None]:
    """Kill the command when it has written so many records."""

    def watch(pid: int) -> None:
        if journal_lines(folder) >= records:
            os.kill(pid, signal.SIGKILL)

    return watch


def kill_worker_at(folder: Path, records: int, killed: list[int]) -> Callable[[int], None]:
    """Kill one Ray actor, once, when so many records are written."""

    def watch(_: int) -> None:
        if not killed and journal_lines(folder) >= records:
            actors = [pid for pid in descendants(os.getpid()) if ACTOR in command_line(pid)]
            if actors:
                os.kill(actors[0], signal.SIGKILL)
                killed.append(actors[0])

    return watch


@contextmanager
def ray_cluster(nodes: int) -> Iterator[str]:
    """A Ray cluster of several nodes on this machine, a CPU each; yields its address."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()
