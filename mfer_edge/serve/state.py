"""What all requests to a server share: the loaded model, threads, worker processes, places."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.live.pool import SessionPool
from mfer_edge.live.sources import LiveChoice
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.metrics import Metrics
from mfer_edge.serve.options import ServeOptions

DECODING = 4  # threads for images, while all others wait for a process


class Full(Exception):
    """All places are taken."""


class Places:
    """A limited number of places; for the event loop's thread."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for a `with` block.

        Raises:
            Full: none is free.
        """
        if self.taken >= self.most:
            raise Full
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@dataclass(frozen=True)
class ServerState:
    """Everything that the endpoints use."""

    pipeline: Pipeline
    pool: SessionPool | None  # that computes live sessions; None: the pipeline does
    isolated: IsolatedPool  # that analyses uploads
    options: ServeOptions
    threads: ThreadPoolExecutor  # in which live sessions compute, or wait for a process that does
    sessions: Places
    uploads: Places
    sources: tuple[LiveChoice, ...] = ()  # that the server reads, for all who watch
    metrics: Metrics = field(default_factory=Metrics)

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        isolated: IsolatedPool,
        options: ServeOptions,
        sources: tuple[LiveChoice, ...] = (),
        *,
        pool: SessionPool | None = None,
    ) -> ServerState:
        """State of a server that starts."""
        # More threads than cores that compute would take the interpreter's lock from each other.
        threads = pipeline.threads if pool is None else options.limits.sessions + DECODING
        return cls(
            pipeline,
            pool,
            isolated,
            options,
            ThreadPoolExecutor(max(2, threads), thread_name_prefix="live"),
            Places(options.limits.sessions),
            Places(options.limits.uploads),
            sources,
        )

    def close(self) -> None:
        """End the worker processes and the threads; what runs in them is lost."""
        if self.pool is not None:
            self.pool.close()
        self.isolated.close(cancel=True)
        self.threads.shutdown(wait=False, cancel_futures=True)
