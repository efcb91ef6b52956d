"""The ASGI application: the page, the API, metrics."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from mfer_edge import __version__
from mfer_edge.serve.analyze import AnalyzeEndpoint
from mfer_edge.serve.connections import Connections, SendDeadline
from mfer_edge.serve.security import AccessPolicy, Gate
from mfer_edge.serve.state import ServerState
from mfer_edge.serve.stream import StreamEndpoint
from mfer_edge.serve.watch import WatchEndpoint

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
REVALIDATED = {"Cache-Control": "no-cache"}  # files of the page change with an update


def build_app(state: ServerState, connections: Connections) -> Starlette:
    """The application of a server.

    Args:
        connections: register that the server's protocols use.
    """
    # Some systems map .js to text/plain, which browsers then refuse to run.
    mimetypes.add_type("text/javascript", ".js")
    state.metrics.count_connections(lambda: len(connections))
    endpoints = Endpoints(state)
    routes: list[BaseRoute] = [
        Route("/", endpoints.page),
        Route("/metrics", endpoints.metrics),
        Route("/v1/healthz", endpoints.health),
        Route("/v1/info", endpoints.info),
        Route("/v1/openapi.json", endpoints.openapi),
        Route("/v1/analyze", AnalyzeEndpoint(state), methods=["POST"]),
        WebSocketRoute("/v1/stream", StreamEndpoint(state).__call__),
        WebSocketRoute("/v1/watch", WatchEndpoint(state).__call__),
        Mount("/static", _Static(directory=STATIC)),
    ]
    limits = state.options.limits
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(SendDeadline, register=connections, send_s=limits.send_s),
            Middleware(Gate, policy=AccessPolicy.of(state.options)),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class Endpoints:
    """Answers to GET requests."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def page(self, request: Request) -> Response:
        """The page."""
        return FileResponse(STATIC / "index.html", headers=REVALIDATED)

    async def metrics(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        metrics = self._state.metrics
        return Response(metrics.text(), headers={"Content-Type": metrics.content_type})

    async def health(self, request: Request) -> Response:
        """That the server answers."""
        return JSONResponse({"status": "ok"})

    async def openapi(self, request: Request) -> Response:
        """Description of the API."""
        return FileResponse(FOLDER / "openapi.json", media_type="application/json")

    async def info(self, request: Request) -> Response:
        """The model, and what the server takes."""
        return JSONResponse(self._info())

    def _info(self) -> dict[str, Any]:
        state, pipeline = self._state, self._state.pipeline
        bundle, manifest, limits = pipeline.bundle, pipeline.bundle.manifest, state.options.limits
        return {
            "version": __version__,
            "bundle": {
                "name": manifest.name,
                "precision": manifest.precision,
                "trained": manifest.trained,
                "sha256": bundle.sha256,
            },
            "device": pipeline.device,
            "labels": list(manifest.labels),
            "window_s": manifest.window_s,
            "hop_s": manifest.hop_s,
            "frame_rate": manifest.frame_rate,
            "warnings": [*pipeline.notes, *manifest.warnings],
            "sources": [source.name for source in state.sources],
            "sessions": {"active": state.sessions.taken, "limit": state.sessions.most},
            "uploads": {
                "active": state.uploads.taken,
                "limit": state.uploads.most,
                "max_bytes": limits.upload_bytes,
                "max_clip_s": limits.clip_s,
            },
        }


class _Static(StaticFiles):
    """Files of the page, which a browser asks for again after an update."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(REVALIDATED)
        return response


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
