"""A real server in a thread of the tests, and clients of it."""

from __future__ import annotations

import http.client
import http.server
import json
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from websockets.sync.client import ClientConnection, connect

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.live.pool import SessionPool
from mfer_edge.live.sources import LiveChoice
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.options import ServeOptions
from mfer_edge.serve.server import listen, make_server
from mfer_edge.serve.state import ServerState
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip

BOUNDARY = "a-boundary"
PATIENCE_S = 60.0
IMAGE, PCM_S16, PCM_F32 = 1, 2, 3


@dataclass(frozen=True)
class Answer:
    """Answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    state: ServerState
    port: int

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}"

    def connection(self) -> http.client.HTTPConnection:
        """A new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request on a connection of its own. The path is sent as it is."""
        connection = self.connection()
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def analyze(
        self,
        content: bytes,
        name: str = "clip.mp4",
        *,
        fields: Mapping[str, str] | None = None,
        path: str = "/v1/analyze",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a clip."""
        form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **(headers or {})}
        return self.ask(path, "POST", headers=form, body=multipart(content, name, fields))

    @contextmanager
    def stream(self, start: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Client]:
        """Open a live session, and send the first message unless `start` is None."""
        with connect(
            f"ws://127.0.0.1:{self.port}/v1/stream",
            max_size=None,
            compression=None,
            open_timeout=PATIENCE_S,
            **options,
        ) as socket:
            client = Client(socket)
            if start is not None:
                client.tell({"type": "start", **start})
                assert client.next()["type"] == "ready"
            yield client


@dataclass(frozen=True)
class Client:
    """A viewer."""

    socket: ClientConnection

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a text message."""
        self.socket.send(json.dumps(message))

    def send(self, kind: int, position: float, payload: bytes) -> None:
        """Send a binary message."""
        self.socket.send(struct.pack("<B7xd", kind, position) + payload)

    def next(self) -> dict[str, Any]:
        """The next message of the server."""
        message: dict[str, Any] = json.loads(self.socket.recv(PATIENCE_S))
        return message

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Messages up to the first one of a type, that one included."""
        messages = [self.next()]
        while messages[-1]["type"] != kind:
            messages.append(self.next())
        return messages

    def feed(self, items: Sequence[Frame | AudioChunk], since: int = 0) -> int:
        """Send frames and audio without loss; returns the number of samples so far."""
        for item in items:
            if isinstance(item, Frame):
                self.send(IMAGE, item.time_s, png(item.image))
            else:
                self.send(PCM_F32, since, item.samples.astype("<f4").tobytes())
                since += len(item.samples)
        return since


def png(image: np.ndarray) -> bytes:
    """Encode an image without loss."""
    encoded: bytes = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    return encoded


def items_of(path: Path) -> tuple[list[Frame | AudioChunk], float]:
    """Frames, audio and length of a clip, as the runtime reads it."""
    with Clip(path) as clip:
        return list(clip), clip.duration_s


def multipart(content: bytes, name: str, fields: Mapping[str, str] | None = None) -> bytes:
    """A multipart body."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in (fields or {}).items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="clip"; filename="{name}"\r\n\r\n'
    return b"".join([*parts, head.encode(), content, f"\r\n--{BOUNDARY}--\r\n".encode()])


@contextmanager
def serving(
    pipeline: Pipeline,
    isolated: IsolatedPool,
    options: ServeOptions,
    sources: tuple[LiveChoice, ...] = (),
    *,
    pool: SessionPool | None = None,
) -> Iterator[Served]:
    """Run a server in a thread, on any free port."""
    state = ServerState.of(pipeline, isolated, options, sources, pool=pool)
    started = threading.Event()
    server = make_server(state, started.set)
    with listen(options) as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        assert started.wait(PATIENCE_S)
        try:
            yield Served(state, opened.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            state.threads.shutdown(wait=False)
            assert not thread.is_alive(), "the server does not end"


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve the files of a folder, as a camera on the network would; yields the address."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Print nothing."""
