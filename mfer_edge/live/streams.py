"""Streams without an end: what breaks off is an error, so that it is opened again."""

from __future__ import annotations

from collections.abc import Iterator

from av.container import InputContainer

from mfer_edge.cpu import decoding_threads
from mfer_edge.errors import MediaError
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.url import open_url, shown_url

LIVE_LAG_S = 5.0  # of one track behind the other


class LiveClip(Clip):
    """A stream or a device, opened; a `Source`.

    What announces a length is a file and ends with it. Anything else has no end.

    Args:
        name: for messages.
        container: the stream, opened.
        frame_rate, threads: as of `Clip`.

    Raises:
        MediaError: as `Clip`. While iterating also: the stream broke off.
    """

    def __init__(
        self, name: str, container: InputContainer, frame_rate: float | None, threads: int = 1
    ) -> None:
        super().__init__(name, frame_rate, threads, container=container)
        self.name = name
        self.is_file = bool(self.duration_s)
        if not self.is_file:
            self.max_lag_s = LIVE_LAG_S

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        yield from super().__iter__()
        if not self.is_file:
            how = "nothing came any more" if self._stalled else "the stream broke off"
            self._stalled, self._ending = False, None  # no warnings: it is an error
            raise MediaError(f"{self.name}: {how}")


def open_stream(url: str, frame_rate: float, threads: int) -> LiveClip:
    """Open a URL.

    Args:
        threads: that the model uses.

    Raises:
        MediaError: as `open_url` and `Clip`.
    """
    return LiveClip(shown_url(url), open_url(url), frame_rate, decoding_threads(threads))
