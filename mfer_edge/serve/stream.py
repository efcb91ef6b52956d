"""`WS /v1/stream`: frames and audio of a viewer in, readings out."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from mfer_edge.errors import MferError
from mfer_edge.live.events import Event, FacesSeen, Gap, LiveReading, Notice
from mfer_edge.live.session import LiveSession
from mfer_edge.outputs.json import round_s
from mfer_edge.serve.messages import (
    AudioMessage,
    ImageMessage,
    MessageError,
    StartMessage,
    parse_message,
    parse_object,
    parse_start,
)
from mfer_edge.serve.recording import Recording
from mfer_edge.serve.security import Refusal, denial
from mfer_edge.serve.state import Full, ServerState
from mfer_edge.serve.told import faces_message, reading_message, ready_message
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.speech.vad import SAMPLE_RATE

START_S = 10.0  # for the first message to come
MAX_BACKLOG_S = 5.0  # of audio that waits, before no more is taken from the socket
MAX_SILENCE_S = 30.0  # that is filled in where audio is missing
MAX_JUMP_S = 60.0  # of an image ahead of all that came
STEPS = 8  # items that a session may work on before another one has its turn

INVALID, TOO_LATE, FAILED = 1008, 1001, 1011  # codes with which a session is closed


class StreamEndpoint:
    """Answers a WebSocket with a live session, if there is a place for one."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, websocket: WebSocket) -> None:
        """Serve one viewer."""
        places, metrics = self._state.sessions, self._state.metrics
        try:
            with places.one():
                metrics.sessions.set(places.taken)
                metrics.sessions_started.inc()
                await websocket.accept()
                await self._serve(websocket)
        except Full:
            metrics.sessions_refused.inc()
            refusal = Refusal(503, f"all {places.most} live sessions of this server are taken")
            await denial(refusal)(websocket.scope, websocket.receive, websocket.send)
        finally:
            metrics.sessions.set(places.taken)

    async def _serve(self, websocket: WebSocket) -> None:
        code, error = 1000, ""
        try:
            viewer = await self._started(websocket)
            await viewer.run()
        except WebSocketDisconnect:
            return
        except MessageError as refused:
            code, error = INVALID, str(refused)
        except TimeoutError:
            code, error = TOO_LATE, "nothing came for too long"
        except MferError as failed:
            code, error = FAILED, str(failed)
        with suppress(WebSocketDisconnect, RuntimeError):  # it is gone
            if error:
                await websocket.send_json({"type": "error", "error": error})
            await websocket.close(code, error.encode()[:100].decode(errors="ignore"))

    async def _started(self, websocket: WebSocket) -> Viewer:
        with anyio.fail_after(START_S):
            message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        start = parse_start(message.get("text") or "")
        options = start.options(self._state.pipeline)
        live = LiveSession(
            self._state.pipeline,
            options,
            has_video=start.video,
            has_audio=start.audio,
            keep_detections=True,
            backend=self._state.pool,
        )
        await websocket.send_json(ready_message(self._state.pipeline, options))
        return Viewer(websocket, self._state, live, start)


class Viewer:
    """One live session and its socket.

    Two tasks: one takes messages from the socket and puts them into the session, the other has
    the session work in a thread and sends what comes of it. While the session is far behind, or
    the viewer does not read, nothing is taken from the socket: its sender has to wait.
    """

    def __init__(
        self, websocket: WebSocket, state: ServerState, live: LiveSession, start: StartMessage
    ) -> None:
        self._websocket, self._state, self._live = websocket, state, live
        self._drop, self._video, self._audio = start.drop, start.video, start.audio
        self._recording: Recording | None = None
        self._next_sample = 0
        self._latest_s = -1.0  # time of the latest frame
        self._dropped = 0  # frames, as far as they have been counted
        self._arrived, self._worked = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Serve until the viewer ends the session, or goes away.

        Raises:
            MessageError: the viewer sent what is not as documented.
            MferError: the model failed.
            TimeoutError: the viewer sent nothing for too long.
            WebSocketDisconnect: the viewer is gone.
        """
        tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._work())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        while True:
            with anyio.fail_after(self._state.options.limits.idle_s):
                message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            if (binary := message.get("bytes")) is not None:
                await self._put(parse_message(binary))
                await self._wait_for_room()
            elif await self._control(parse_object(message.get("text") or "")):
                return

    async def _control(self, message: dict[str, Any]) -> bool:
        """Do what a text message asks; returns whether it ends the session."""
        match message:
            case {"type": "end"}:
                self._live.end(self._duration_s(message.get("duration_s")))
                self._arrived.set()
                return True
            case {"type": "record", "on": True}:
                self._recording = Recording(self._state.pipeline, self._live.options)
            case {"type": "record", "on": False} if self._recording is not None:
                recording, self._recording = self._recording, None
                await self._send(await asyncio.to_thread(recording.message, self._live))
            case {"type": "record", "on": False}:
                raise MessageError("no recording was begun")
            case _:
                raise MessageError(f"messages of type {str(message.get('type'))[:50]} are unknown")
        return False

    async def _put(self, message: ImageMessage | AudioMessage) -> None:
        metrics = self._state.metrics
        if isinstance(message, AudioMessage):
            if not self._audio:
                raise MessageError("audio came, but the start message said that none would")
            self._fill_gap(message.start)
            self._live.put(AudioChunk(message.samples))
            self._next_sample = message.start + len(message.samples)
            metrics.audio.inc(len(message.samples) / SAMPLE_RATE)
        else:
            if not self._video:
                raise MessageError("an image came, but the start message said that none would")
            if message.time_s <= self._latest_s:
                raise MessageError(
                    f"an image of {message.time_s:g} s after one of {self._latest_s:g} s"
                )
            if message.time_s > self._reached_s + MAX_JUMP_S:
                raise MessageError(
                    f"an image of {message.time_s:g} s, where {self._reached_s:g} s were reached"
                )
            loop = asyncio.get_running_loop()
            image = await loop.run_in_executor(self._state.threads, message.decode)
            self._latest_s = message.time_s
            self._live.put(Frame(message.time_s, image))
            metrics.frames.inc()
        self._arrived.set()

    def _fill_gap(self, start: int) -> None:
        """Audio that the viewer lost is silence; it can't come twice."""
        missing = start - self._next_sample
        if missing < 0:
            raise MessageError(
                f"audio from sample {start} on, after that up to {self._next_sample}"
            )
        if missing > MAX_SILENCE_S * SAMPLE_RATE:
            raise MessageError(f"{missing / SAMPLE_RATE:.0f} s of audio are missing")
        if missing:
            self._live.put(AudioChunk(np.zeros(missing, np.float32)))

    def _duration_s(self, given: object) -> float | None:
        """Length of the stream as the viewer tells it: a clip's is not that of its last frame."""
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise MessageError("duration_s is a number")
        if not 0 <= given <= self._reached_s + MAX_JUMP_S:
            raise MessageError(f"duration_s is {str(given)[:50]}: not the length of what came")
        return float(given)

    @property
    def _reached_s(self) -> float:
        return max(self._latest_s, self._next_sample / SAMPLE_RATE)

    async def _wait_for_room(self) -> None:
        live = self._live
        while live.backlog_s > MAX_BACKLOG_S or (not self._drop and live.waiting):
            self._worked.clear()
            await self._worked.wait()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._live.waiting:
                events = await loop.run_in_executor(self._state.threads, self._steps)
                self._worked.set()
                for event in events:
                    await self._tell(event)
            if self._live.ended:
                break
        await self._end()

    def _steps(self) -> list[Event]:
        try:
            return [event for _ in range(STEPS) for event in self._live.step()]
        except ValueError as error:  # times that can't be, for one
            raise MessageError(str(error)) from error

    async def _tell(self, event: Event) -> None:
        metrics = self._state.metrics
        if isinstance(event, LiveReading):
            reading = event.reading
            metrics.compute.observe(event.compute_s)
            metrics.lag.observe(event.lag_s)
            metrics.readings.labels("+".join(reading.modalities) or "none").inc()
            if self._recording is not None:
                self._recording.add(reading)
            dropped = self._live.dropped
            metrics.frames_dropped.inc(dropped - self._dropped)
            self._dropped = dropped
            await self._send(reading_message(event, dropped))
        elif isinstance(event, FacesSeen):
            await self._send(faces_message(event))
        elif isinstance(event, Notice):
            await self._send({"type": "notice", "text": event.text})
        elif isinstance(event, Gap):
            await self._send({"type": "notice", "text": event.reason})

    async def _end(self) -> None:
        if self._recording is not None:
            await self._send(await asyncio.to_thread(self._recording.message, self._live))
        stats = self._live.stats()
        await self._send(
            {
                "type": "end",
                "duration_s": round_s(stats.duration_s),
                "frames": stats.frames,
                "dropped": stats.dropped,
                "audio_s": round_s(stats.audio_s),
                "readings": stats.readings,
            }
        )

    async def _send(self, message: dict[str, Any]) -> None:
        await self._websocket.send_json(message)
