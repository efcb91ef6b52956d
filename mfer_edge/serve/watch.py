"""`WS /v1/watch`: a camera or a stream that the server reads, once for all who watch it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import anyio
import cv2
from starlette.websockets import WebSocket, WebSocketDisconnect

from mfer_edge.errors import MferError
from mfer_edge.live.events import Event, FacesSeen, Gap, LiveReading, Notice
from mfer_edge.live.feed import Feeder, FeedOptions
from mfer_edge.live.session import LiveSession
from mfer_edge.live.sources import LiveChoice
from mfer_edge.serve.messages import HEADER, IMAGE, MessageError, parse_object
from mfer_edge.serve.recording import Recording
from mfer_edge.serve.security import Refusal, denial
from mfer_edge.serve.state import Full, ServerState
from mfer_edge.serve.told import faces_message, reading_message, ready_message
from mfer_edge.sources.base import AudioChunk, Frame, Source, SourceAround

SENT_SIDE = 640  # pixels of the pictures that are sent
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]
WAITING = 60  # messages that may wait for one viewer
GIVE_UP_S = 60.0  # without a source that was lost

Message = bytes | Event


class WatchEndpoint:
    """Answers a WebSocket with what a source shows, which runs while somebody watches."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._running: dict[str, Watch] = {}  # by number of the source

    async def __call__(self, websocket: WebSocket) -> None:
        """Serve one viewer."""
        number, sources = websocket.query_params.get("source", ""), self._state.sources
        if number not in map(str, range(len(sources))):
            refusal = Refusal(404, "no such source: see /v1/info")
            await denial(refusal)(websocket.scope, websocket.receive, websocket.send)
            return
        watch = self._running.get(number)
        if watch is None or watch.ended:
            watch = Watch(self._state, sources[int(number)])
        try:
            with watch.joined() as queue:
                self._running[number] = watch
                await websocket.accept()
                await _WatchViewer(websocket, self._state, watch, queue).run()
        except Full:
            refusal = Refusal(503, f"all {self._state.sessions.most} live sessions are taken")
            await denial(refusal)(websocket.scope, websocket.receive, websocket.send)


class Watch:
    """A source that is being read in threads of its own, and those who watch it."""

    def __init__(self, state: ServerState, choice: LiveChoice) -> None:
        self.live = LiveSession(
            state.pipeline,
            state.pipeline.options(faces="all"),
            has_video=None,
            has_audio=None,
            keep_detections=True,
            backend=state.pool,
        )
        self.ended = False
        self._state, self._choice = state, choice
        self._queues: set[asyncio.Queue[Message | MferError | None]] = set()
        self._loop = asyncio.get_running_loop()
        self._place = ExitStack()
        options = FeedOptions(give_up_s=GIVE_UP_S)
        self._feeder = Feeder(self.live, self._open, options)

    def joined(self) -> _Joined:
        """A `with` block for one viewer, in which messages come into a queue."""
        return _Joined(self)

    def add(self) -> asyncio.Queue[Message | MferError | None]:
        """Let somebody watch.

        Raises:
            Full: the source does not run yet, and there is no place.
        """
        if not self._queues:
            self._place.enter_context(self._state.sessions.one())
            threading.Thread(target=self._run, name="watch", daemon=True).start()
        queue: asyncio.Queue[Message | MferError | None] = asyncio.Queue(WAITING)
        self._queues.add(queue)
        return queue

    def remove(self, queue: asyncio.Queue[Message | MferError | None]) -> None:
        """Let somebody go; the source ends with the last one."""
        self._queues.discard(queue)
        if not self._queues and not self.ended:
            self.ended = True
            self._place.close()
            threading.Thread(target=self._feeder.stop, daemon=True).start()

    def _open(self) -> Source:
        return _Shown(self._choice.open(self.live.pipeline), self)

    def _run(self) -> None:
        last: MferError | None = None
        try:
            with self._feeder:
                for event in self.live.events():
                    self.tell(event)
        except MferError as error:
            last = error
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._end, last)

    def tell(self, message: Message) -> None:
        """Tell all who watch; from any thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, message)

    def _tell(self, message: Message) -> None:
        for queue in self._queues:
            if queue.full() and isinstance(message, bytes | FacesSeen):
                continue  # a viewer who is slow sees fewer pictures
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    def _end(self, error: MferError | None) -> None:
        if not self.ended:
            self.ended = True
            self._place.close()
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(error)


class _Joined:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __enter__(self) -> asyncio.Queue[Message | MferError | None]:
        self._queue = self._watch.add()
        return self._queue

    def __exit__(self, *exception: object) -> None:
        self._watch.remove(self._queue)


class _Shown(SourceAround):
    """A source whose frames are also sent as pictures."""

    def __init__(self, source: Source, watch: Watch) -> None:
        super().__init__(source)
        self._watch = watch

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        for item in self._source:
            if isinstance(item, Frame):
                item = _scaled(item)
                jpeg = cv2.imencode(".jpg", item.image, QUALITY)[1].tobytes()
                self._watch.tell(HEADER.pack(IMAGE, item.time_s) + jpeg)
            yield item


def _scaled(frame: Frame) -> Frame:
    """A frame as it is sent and read: boxes are then in the picture's own pixels."""
    height, width = frame.image.shape[:2]
    scale = SENT_SIDE / max(height, width)
    if scale >= 1:
        return frame
    size = round(width * scale), round(height * scale)
    return replace(frame, image=cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA))


class _WatchViewer:
    """One who watches: messages of the source to a socket."""

    def __init__(
        self,
        websocket: WebSocket,
        state: ServerState,
        watch: Watch,
        queue: asyncio.Queue[Message | MferError | None],
    ) -> None:
        self._websocket, self._state, self._watch, self._queue = websocket, state, watch, queue
        self._recording: Recording | None = None

    async def run(self) -> None:
        """Serve until the source ends, or the viewer goes."""
        live = self._watch.live
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.send_json(ready_message(self._state.pipeline, live.options))
            async with anyio.create_task_group() as group:
                group.start_soon(self._receive, group.cancel_scope)
                group.start_soon(self._send, group.cancel_scope)
            await self._websocket.close()

    async def _receive(self, scope: anyio.CancelScope) -> None:
        """Do what the viewer asks."""
        with suppress(WebSocketDisconnect, MessageError):
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                asked = parse_object(message.get("text") or "")
                if asked == {"type": "record", "on": True}:
                    self._recording = Recording(self._state.pipeline, self._watch.live.options)
                elif asked == {"type": "record", "on": False} and self._recording is not None:
                    recording, self._recording = self._recording, None
                    told = await asyncio.to_thread(recording.message, self._watch.live)
                    await self._websocket.send_json(told)
                elif asked.get("type") == "end":
                    break
        scope.cancel()

    async def _send(self, scope: anyio.CancelScope) -> None:
        with suppress(WebSocketDisconnect):
            while (message := await self._queue.get()) is not None:
                if isinstance(message, bytes):
                    await self._websocket.send_bytes(message)
                elif (told := self._told(message)) is not None:
                    await self._websocket.send_json(told)
                if isinstance(message, MferError):
                    break
        scope.cancel()

    def _told(self, message: Event | MferError) -> dict[str, Any] | None:
        if isinstance(message, MferError):
            return {"type": "error", "error": str(message)}
        if isinstance(message, LiveReading):
            if self._recording is not None:
                self._recording.add(message.reading)
            return reading_message(message, self._watch.live.dropped)
        if isinstance(message, FacesSeen):
            return faces_message(message)
        if isinstance(message, Gap):
            back = "is back" if message.end_s is not None else f"was lost: {message.reason}"
            return {"type": "notice", "text": f"the source {back}"}
        if isinstance(message, Notice):
            return {"type": "notice", "text": message.text}
        return None
