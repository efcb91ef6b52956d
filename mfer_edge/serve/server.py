"""The server process: its socket, its limits on files, uvicorn."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from mfer_edge.errors import MferError
from mfer_edge.serve.app import build_app
from mfer_edge.serve.connections import Connections
from mfer_edge.serve.messages import MAX_MESSAGE
from mfer_edge.serve.options import ServeOptions
from mfer_edge.serve.state import ServerState

GRACE_S = 3.0  # for requests to end when the server is told to
PING_S = 20.0  # between signs of life of a WebSocket, and for the answer
OTHER_FILES = 256  # that the process needs beside its connections
MAX_REQUEST_HEAD = 32_000  # bytes


def listen(options: ServeOptions) -> socket.socket:
    """Open the socket, so that an address in use is known before anything is loaded.

    Raises:
        MferError: the address is in use, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((options.host, options.port), family=family, backlog=1024)
    except (OSError, UnicodeError, OverflowError) as error:
        code = getattr(error, "errno", None)
        reason = getattr(error, "strerror", None) or str(error)
        if code == errno.EADDRINUSE:
            reason = "in use: another server may be running; choose a --port"
        raise MferError(f"{options.host}:{options.port}: {reason}") from error


def address(options: ServeOptions, opened: socket.socket) -> str:
    """Address of the page for a browser on this machine, with the token."""
    port = opened.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(options.host, options.host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    token = f"?token={options.token}" if options.token else ""
    return f"{options.scheme}://{host}:{port}/{token}"


def check_tls(options: ServeOptions) -> None:
    """Check that the certificate and its key can be used.

    Raises:
        MferError: they can't.
    """
    if options.tls_cert is None:
        return
    import ssl

    for path in (options.tls_cert, options.tls_key):
        if path is not None and not Path(path).is_file():
            raise MferError(f"{path}: no such file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key)
    except (ssl.SSLError, OSError) as error:
        raise MferError(f"{options.tls_cert}: no certificate with its key: {error}") from error


def make_server(state: ServerState, on_start: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """A server, ready to run on a socket: `make_server(state).run(sockets=[listen(options)])`.

    Args:
        on_start: called once it answers.
    """
    logging.getLogger("uvicorn.error").addFilter(_told_plainly)
    options, limits = state.options, state.options.limits
    connections = Connections(_most_connections(limits.connections), limits.pause_s)
    http, web_socket = connections.protocols()
    config = uvicorn.Config(
        build_app(state, connections),
        http=http,
        ws=web_socket,
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,  # images don't shrink, and a message can't blow up
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        h11_max_incomplete_event_size=MAX_REQUEST_HEAD,
        timeout_graceful_shutdown=round(GRACE_S),
        log_config=None,
        log_level="error",  # of ours: what clients do wrong is a warning
        access_log=False,  # addresses may hold the token
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )
    return _Server(config, on_start)


def _told_plainly(record: logging.LogRecord) -> bool:
    """Say in words, and once, that requests were cut off as the server ends.

    Uvicorn logs that, and the traceback of each of them. It also takes a WebSocket that was refused
    with an answer for a fault.
    """
    if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
        return False
    if record.msg == "ASGI callable returned without completing handshake.":
        return False
    if str(record.msg).startswith("Cancel %s running task(s)"):
        record.msg = "requests that were cut off: %s"
    return True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()


def _most_connections(wanted: int) -> int:
    """Connections that this process may have open, after asking the system for more."""
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return max(16, min(wanted, most - OTHER_FILES))
    return wanted
