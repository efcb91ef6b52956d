"""Embedding ahead: a thread embeds faces while the next frames are searched for more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mfer_edge.faces.embedding_cache import CachedFace, Embed, embed_missing

if TYPE_CHECKING:
    from mfer_edge.model import Model

AT_ONCE = 4  # faces in a call: one by one they take longer than they save


@contextmanager
def embedding_ahead(model: Model) -> Iterator[EmbeddingAhead | None]:
    """Context manager: a thread that embeds faces, where a core may be free for it.

    None with one CPU thread; on a GPU, where a window's faces take no time; and with a large model,
    whose calls keep all cores busy: the thread gains nothing there and takes 47 MB.
    """
    if model.device != "cpu" or model.threads == 1 or not model.manifest.small:
        yield None
        return
    with ThreadPoolExecutor(1, "embed") as thread:
        ahead = EmbeddingAhead(model.visual.embed, thread)
        try:
            yield ahead
        finally:
            ahead.end()


class EmbeddingAhead:
    """Embeds faces in a thread, a few in one call, each as its window would have embedded it.

    Args:
        embed: as of `embed_missing`.
        thread: to do it in.
    """

    def __init__(self, embed: Embed, thread: ThreadPoolExecutor) -> None:
        self._embed, self._thread = embed, thread
        self._collected: list[CachedFace] = []
        self._calls: list[Future[float]] = []
        self._ended = False

    def add(self, faces: Iterable[CachedFace]) -> None:
        """Embed these, together with the next ones."""
        if self._ended:
            return
        self._collected += (face for face in faces if not face.embeddings)
        if len(self._collected) >= AT_ONCE:
            self._calls.append(self._thread.submit(self._timed, self._collected))
            self._collected = []

    def end(self) -> None:
        """Begin no further call, now or later."""
        self._ended = True
        for call in self._calls:
            call.cancel()
        self._calls = []

    def wait(self) -> float:
        """Wait for the thread; faces that are too few for a call are left to the caller.

        Returns:
            Seconds that it took since the last time.

        Raises:
            EngineError: the engine failed.
        """
        calls, self._calls = self._calls, []
        self._collected = []
        return sum(call.result() for call in calls)

    def _timed(self, faces: list[CachedFace]) -> float:
        start = time.perf_counter()
        embed_missing(faces, self._embed)
        return time.perf_counter() - start
