"""`POST /v1/analyze`: a clip in, its analysis out; with server-sent events on the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mfer_edge.errors import EngineError, IsolationError, MferError
from mfer_edge.isolation.worker import ClipJob
from mfer_edge.options import SessionOptions
from mfer_edge.results import Analysis
from mfer_edge.serve.recording import result_files
from mfer_edge.serve.security import Refusal, denial
from mfer_edge.serve.state import Full, ServerState
from mfer_edge.serve.upload import Upload, UploadError, received
from mfer_edge.sources.limits import ClipLimits

EVENT_S = 0.2  # least time between two events of progress
HEARTBEAT_S = 10.0  # a comment keeps a quiet connection open
BUSY = "as many clips as this server takes at once are being analysed: try again in a few seconds"
DRAINED = 2**20  # bytes of a refused upload that are read, so that its sender reads the answer


class AnalyzeEndpoint:
    """ASGI endpoint. The clip is analysed in a worker process and deleted, whatever happens."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        started_s = time.monotonic()
        outcome = "lost"
        try:
            with self._state.uploads.one():
                async with received(request, self._state.options.limits) as upload:
                    answer = _Answer(self._state, request, upload, send)
                    outcome = await answer.give()
        except Full:
            outcome = "busy"
            await _drain(request)
            await denial(Refusal(503, BUSY))(scope, receive, send)
        except UploadError as error:
            outcome = error.outcome
            if outcome != "gone":
                await denial(Refusal(error.status, str(error)))(scope, receive, send)
        finally:
            self._state.metrics.uploads.labels(outcome).inc()
            if outcome == "done":
                self._state.metrics.upload_seconds.observe(time.monotonic() - started_s)


def _seconds(fields: Mapping[str, str], name: str) -> float | None:
    """A field of the form; None where there is none.

    Raises:
        ValueError: it is no number.
    """
    if not (text := fields.get(name)):
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{name} is {text[:50]!r}: it must be a number of seconds") from error


@dataclass(frozen=True)
class _Answer:
    """Analysis of an upload, told to its sender."""

    state: ServerState
    request: Request
    upload: Upload
    send: Send

    async def give(self) -> str:
        """Answer; returns the outcome."""
        options = self._options()
        progress = _Progress(asyncio.get_running_loop())
        limits = self.state.options.limits
        job = ClipJob(
            self.upload.path,
            options,
            timeout_s=limits.analysis_s,
            limits=ClipLimits(limits.clip_s, limits.frame_pixels),
        )
        order = self.state.isolated.submit(job, progress=progress)
        running = asyncio.wrap_future(order)
        gone = asyncio.create_task(_disconnected(self.request.receive))
        try:
            if "text/event-stream" in self.request.headers.get("accept", ""):
                return await self._stream(running, gone, progress)
            return await self._wait(running, gone)
        finally:
            gone.cancel()
            if not order.cancel():  # it has begun: the place is free once the process is
                await asyncio.wait({running})

    def _options(self) -> SessionOptions:
        fields = self.upload.fields
        try:
            window_s, hop_s = _seconds(fields, "window_s"), _seconds(fields, "hop_s")
            return self.state.pipeline.options(window_s, hop_s, fields.get("faces") or "main")
        except ValueError as error:
            raise UploadError(400, "bad_request", str(error)) from error

    async def _wait(self, running: asyncio.Future[Analysis], gone: asyncio.Task[None]) -> str:
        await _first_of(running, gone)
        if not running.done():
            return "gone"
        outcome, status, content = self._result(running)
        await JSONResponse(content, status)(self.request.scope, self.request.receive, self.send)
        return outcome

    async def _stream(
        self,
        running: asyncio.Future[Analysis],
        gone: asyncio.Task[None],
        progress: _Progress,
    ) -> str:
        start = {"type": "http.response.start", "status": 200}
        await self.send({**start, "headers": [(b"content-type", b"text/event-stream")]})
        async for fraction in progress.until(running, gone):
            await self._event("progress", {"fraction": fraction})
        if not running.done():
            return "gone"
        outcome, _, content = self._result(running)
        await self._event("error" if outcome != "done" else "result", content)
        if outcome == "done" and self.request.query_params.get("files") == "1":
            analysis = self._named(running.result())
            await self._event("files", await asyncio.to_thread(result_files, analysis))
        await self.send({"type": "http.response.body", "body": b""})
        return outcome

    async def _event(self, name: str, data: Any) -> None:
        body = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
        await self.send({"type": "http.response.body", "body": body, "more_body": True})

    def _result(self, running: asyncio.Future[Analysis]) -> tuple[str, int, dict[str, Any]]:
        """Outcome, status and content of the answer."""
        try:
            analysis = running.result()
        except MferError as error:
            text = str(error).replace(str(self.upload.path), self.upload.name)
            if isinstance(error, EngineError) or type(error) is IsolationError:
                return "lost", 500, {"error": text}
            outcome = "lost" if isinstance(error, IsolationError) else "bad_clip"
            return outcome, 422, {"error": text}
        return "done", 200, self._named(analysis).to_dict()

    def _named(self, analysis: Analysis) -> Analysis:
        return replace(analysis, source=self.upload.name)


class _Progress:
    """Share of a clip that is done, told by a worker's thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._fraction = loop, 0.0
        self._changed = asyncio.Event()

    def __call__(self, fraction: float) -> None:
        """Take note; from any thread."""
        self._loop.call_soon_threadsafe(self._set, fraction)

    async def until(self, *ends: asyncio.Future[Any]) -> AsyncIterator[float]:
        """Yield the share when it changes, and now and then, until one of several futures ends."""
        yield self._fraction
        while not any(end.done() for end in ends):
            changed = asyncio.create_task(self._changed.wait())
            await _first_of(changed, *ends, timeout=HEARTBEAT_S)
            changed.cancel()
            self._changed.clear()
            yield self._fraction
            await _first_of(*ends, timeout=EVENT_S)

    def _set(self, fraction: float) -> None:
        self._fraction = round(fraction, 3)
        self._changed.set()


async def _first_of(*ends: asyncio.Future[Any], timeout: float | None = None) -> None:
    await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


async def _disconnected(receive: Callable[[], Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drain(request: Request) -> None:
    """Read what a refused sender is about to send, so that it gets to reading the answer."""
    read = 0
    with suppress(Exception):
        async for chunk in request.stream():
            read += len(chunk)
            if read > DRAINED:
                return
