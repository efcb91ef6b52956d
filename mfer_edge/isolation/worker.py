"""Worker processes: a child that holds an open pipeline and analyses clips one at a time.

Jobs come pickled from the parent. What goes back is JSON: a process that has read a hostile clip is
not trusted with pickles.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfer_edge import errors
from mfer_edge.errors import CrashError, MferError
from mfer_edge.isolation.child import opened, received
from mfer_edge.options import SessionOptions
from mfer_edge.sources.url import shown_source

if TYPE_CHECKING:
    from mfer_edge.pipeline import Pipeline
    from mfer_edge.sources.base import TrackChoice
    from mfer_edge.sources.limits import ClipLimits

PROGRESS_S = 0.1  # least time between two messages on the progress of a clip

Message = dict[
    str, Any
]  # one of: {"state": ...}, {"progress": ...}, {"result": ...}, {"error": ...}


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker of a pool opens, and how much it may take."""

    bundle: Path | None = None  # by default the compact bundle in the package
    device: str = "auto"
    threads: int = 0  # CPU threads of each worker; 0: all cores that it may use
    adaptation: Path | None = None  # file of an adaptation
    max_memory_bytes: int | None = None  # resident memory of a worker during a clip

    def open(self) -> Pipeline:
        """Open it, in the worker; errors are those of `Pipeline.open`."""
        from mfer_edge.pipeline import Pipeline

        return Pipeline.open(self.bundle, self.device, self.threads, adaptation=self.adaptation)


@dataclass(frozen=True)
class ClipJob:
    """A clip to analyse."""

    path: Path | str  # or a URL
    options: SessionOptions | None = None  # by default as the bundle was trained
    adaptation: Path | None = None  # file of an adaptation, instead of the setup's
    keep_detections: bool = False
    timeout_s: float | None = None  # from the start of the analysis; None: no limit
    tracks: TrackChoice | None = None  # by default as players do
    limits: ClipLimits | None = None  # of a clip that is not trusted

    @property
    def name(self) -> str:
        """The clip as messages name it."""
        return shown_source(self.path)


def work(file_descriptor: int) -> None:
    """Main function of a worker: open the pipeline, then analyse what comes until told to end.

    Args:
        file_descriptor: of the child's end of a `multiprocessing.Pipe`.
    """
    connection = opened(file_descriptor)
    jobs = received(connection)
    setup = jobs.get()
    assert isinstance(setup, WorkerSetup)
    try:
        pipeline = setup.open()
    except Exception as error:  # whatever it is, the parent has to know
        _send(connection, _failure(told(error)))
        return
    _send(connection, {"state": "ready"})
    while (job := jobs.get()) is not None:
        assert isinstance(job, ClipJob)
        _send(connection, {"state": "started"})
        try:
            _send(connection, {"result": asdict(_analyze(pipeline, job, connection))})
        except MferError as error:
            _send(connection, _failure(error))
        except Exception as error:  # a fault of ours: this process may be in any state
            _send(connection, _failure(told(error, f"{job.name}: ")))
            return


def told(error: Exception, prefix: str = "") -> MferError:
    """An error as the parent is told of it: a fault of ours is a `CrashError`, in one line."""
    if isinstance(error, MferError):
        return error
    line = " ".join(str(error).split())
    return CrashError(f"{prefix}failed: {type(error).__name__}: {line}")


def error_of(message: Message) -> MferError:
    """The error that a message tells of."""
    kind = getattr(errors, str(message["kind"]), None)
    if not (isinstance(kind, type) and issubclass(kind, MferError)):
        kind = CrashError
    return kind(str(message["error"]))


def _analyze(pipeline: Pipeline, job: ClipJob, connection: Connection) -> Any:
    from mfer_edge.adapt import Adaptation
    from mfer_edge.sources.limits import USUAL_LIMITS

    last = [0.0]

    def progress(fraction: float) -> None:
        if (now := time.monotonic()) >= last[0] + PROGRESS_S:
            last[0] = now
            _send(connection, {"progress": fraction})

    if job.adaptation is not None:
        pipeline = pipeline.adapted(Adaptation.load(job.adaptation))
    return pipeline.analyze(
        pipeline.clip(job.path, job.tracks, job.limits or USUAL_LIMITS),
        job.options,
        keep_detections=job.keep_detections,
        progress=progress,
    )


def _failure(error: MferError) -> Message:
    return {"kind": type(error).__name__, "error": str(error)}


def _send(connection: Connection, message: Message) -> None:
    connection.send_bytes(json.dumps(message).encode())
