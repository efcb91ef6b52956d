"""Connections of the server: how many, and for how long without a request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import anyio
import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

MAX_PIPELINED = 256_000  # bytes of requests that wait for the answer to the one before

FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 38\r\n"
    b"Connection: close\r\nRetry-After: 5\r\n\r\nmfer-edge: too many open connections.\r\n"
)


class Connections:
    """Register of open connections.

    Args:
        most: connections at once; past these the one that has idled longest is closed.
        pause_s: for which a connection may stay without a request that has come whole; it is closed
            after one to two times that.
    """

    def __init__(self, most: int, pause_s: float) -> None:
        self.most, self.pause_s = most, pause_s
        self._open: dict[asyncio.BaseTransport, HttpConnection | None] = {}  # None: a WebSocket

    def __len__(self) -> int:
        return len(self._open)

    def protocols(self) -> tuple[type[HttpConnection], type[WebSocketConnection]]:
        """Protocol classes for uvicorn whose connections are in this register."""
        http = type("RegisteredHttp", (HttpConnection,), {"register": self})
        web_socket = type("RegisteredWebSocket", (WebSocketConnection,), {"register": self})
        return http, web_socket

    def add(self, connection: HttpConnection) -> None:
        """Register a connection, and close another one if there are too many."""
        self._open[connection.transport] = connection
        if len(self._open) <= self.most:
            return
        if (idle := next(self._idle(), None)) is not None and idle is not connection.transport:
            self.abort(idle)
        else:
            connection.transport.write(FULL)
            connection.transport.close()

    def upgrade(self, transport: asyncio.BaseTransport) -> None:
        """Note that a connection has become a WebSocket."""
        self._open[transport] = None

    def remove(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection that was closed."""
        self._open.pop(transport, None)

    def abort_client(self, client: tuple[str, int] | None) -> None:
        """Cut the connection of a client that does not take what it is sent."""
        for transport in list(self._open):
            if transport.get_extra_info("peername", ())[:2] == client:
                self.abort(transport)

    def abort(self, transport: asyncio.BaseTransport) -> None:
        """Cut a connection at once, whatever is still to be sent."""
        self.remove(transport)
        cast(asyncio.Transport, transport).abort()

    def _idle(self) -> Iterator[asyncio.BaseTransport]:
        return (
            transport
            for transport, connection in self._open.items()
            if connection is not None and connection.idle
        )


class HttpConnection(H11Protocol):
    """A connection that is closed if no request comes whole on it."""

    register: Connections

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._check: asyncio.TimerHandle | None = None
        self._seen: object = self  # the request that was answered at the last check

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch the connection."""
        super().connection_made(transport)
        self._check = self.loop.call_later(self.register.pause_s, self._close_if_idle)
        self.register.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching it."""
        self._stop()
        self.register.remove(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a client that sends on and on while it is answered is cut off."""
        super().data_received(data)
        waits = self.conn.their_state is h11.DONE  # for the answer to the request before
        if waits and len(self.conn.trailing_data[0]) > MAX_PIPELINED:
            self.register.abort(self.transport)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection over to a WebSocket."""
        self._stop()
        self.register.upgrade(self.transport)
        super().handle_websocket_upgrade(event)

    def _stop(self) -> None:
        if self._check is not None:
            self._check.cancel()

    def _close_if_idle(self) -> None:
        if self.idle and (self.cycle is None or self._seen is self.cycle):
            self.register.abort(self.transport)
            return
        self._seen = self.cycle if self.idle else self
        self._check = self.loop.call_later(self.register.pause_s, self._close_if_idle)


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket in the register."""

    register: Connections

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.register.remove(self.transport)
        super().connection_lost(exc)


class ClientGone(ConnectionAbortedError):
    """A client that was cut off; as any `OSError` it ends a WebSocket of the framework."""


class SendDeadline:
    """ASGI middleware that cuts the connection of a client that does not take what it is sent."""

    def __init__(self, app: ASGIApp, register: Connections, send_s: float) -> None:
        self._app, self._register, self._send_s = app, register, send_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with a time limit on everything that is sent."""

        async def send_in_time(message: Message) -> None:
            try:
                # `asyncio.wait_for` may swallow a cancellation before Python 3.12.
                with anyio.fail_after(self._send_s):
                    await send(message)
            except TimeoutError as error:
                self._register.abort_client(scope.get("client"))
                raise ClientGone("the client does not read") from error

        try:
            await self._app(scope, receive, send_in_time)
        except ClientGone:
            await asyncio.sleep(0)  # the protocol is told that the connection is lost
