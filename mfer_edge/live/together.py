"""A camera beside a microphone: two devices as one source, on the clock of the sound."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

from mfer_edge.errors import MediaError
from mfer_edge.live.clock import Stamps
from mfer_edge.live.streams import LIVE_LAG_S
from mfer_edge.sources.base import AudioChunk, Frame, Source
from mfer_edge.speech.vad import SAMPLE_RATE

JOIN_S = 1.0  # for which a thread that waits for a device is waited for


class Together:
    """A source of frames and a source of audio, read by a thread each.

    A frame's time is that of the sound that arrives with it: see `Stamps`. If one of the two breaks
    off, so does this source.

    Args:
        video: its audio is left out.
        audio: its frames are left out.
    """

    has_video = has_audio = True
    duration_s = None
    max_lag_s = LIVE_LAG_S

    def __init__(self, video: Source, audio: Source) -> None:
        self.name = f"{video.name}, {audio.name}"
        self._sources = video, audio
        self._items: queue.SimpleQueue[Frame | AudioChunk | Exception] = queue.SimpleQueue()
        self._stamps = Stamps(has_audio=True)
        self._threads: list[threading.Thread] = []
        self._closed = False

    def __enter__(self) -> Together:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed = True
        for source in self._sources:
            source.__exit__(*exception)
        for thread in self._threads:
            thread.join(JOIN_S)

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        for source, kind in zip(self._sources, (Frame, AudioChunk), strict=True):
            thread = threading.Thread(target=self._read, args=(source, kind), daemon=True)
            self._threads.append(thread)
            thread.start()
        while True:
            item = self._items.get()
            if isinstance(item, Exception):
                raise item
            yield item

    def warnings(self) -> tuple[str, ...]:
        """What was damaged, by device."""
        return tuple(
            f"{source.name}: {warning}"
            for source in self._sources
            for warning in source.warnings()
            if not warning.startswith("no ")  # of the track that the other one has
        )

    def _read(self, source: Source, kind: type) -> None:
        try:
            for item in source:
                if self._closed:
                    return
                if isinstance(item, kind):
                    self._put(item)
            raise MediaError(f"{source.name}: it ended")
        except Exception as error:  # raised in the thread that iterates
            self._items.put(error)

    def _put(self, item: Frame | AudioChunk) -> None:
        now_s = time.monotonic()
        if isinstance(item, AudioChunk):
            self._stamps.audio(len(item.samples) / SAMPLE_RATE, now_s)
            self._items.put(item)
        elif (time_s := self._stamps.frame(now_s)) is not None:
            self._items.put(Frame(time_s, item.image))
