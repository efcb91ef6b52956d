"""`WS /v1/watch`: what the server reads itself."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.live.sources import LiveChoice
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.options import Limits, ServeOptions
from tests.support.footage import repeat
from tests.support.serving import Served, serving, web_server

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def address(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server with a clip, as a camera on the network would be one."""
    long = repeat(anger, tmp_path_factory.mktemp("web") / "long.mkv", 2)
    with web_server(long.parent) as server:
        yield f"{server}/{long.name}"


@pytest.fixture(scope="module")
def watching(once: Pipeline, isolated: IsolatedPool, address: str) -> Iterator[Served]:
    """A server with that stream, and with one that is not there."""
    sources = (LiveChoice(url=address), LiveChoice(url=f"{address}.none"))
    options = ServeOptions(port=0, limits=Limits(sessions=1))
    with serving(once, isolated, options, sources) as server:
        yield server


def watch(server: Served, source: object) -> ClientConnection:
    where = f"ws://127.0.0.1:{server.port}/v1/watch?source={source}"
    return connect(where, compression=None, max_size=None, open_timeout=PATIENCE_S)


def messages(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    """What is told; a picture as a message of the type `picture`."""
    while True:
        try:
            message = socket.recv(PATIENCE_S)
        except ConnectionClosedOK:
            return
        if isinstance(message, str):
            yield json.loads(message)
            continue
        kind, time_s = struct.unpack_from("<B7xd", message)
        image = cv2.imdecode(np.frombuffer(message[16:], np.uint8), cv2.IMREAD_COLOR)
        yield {"type": "picture", "kind": kind, "time_s": time_s, "image": image}


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for what happens in the server's threads."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_all_who_watch_see_one_source(watching: Served) -> None:
    with watch(watching, 0) as one, watch(watching, 0) as other:
        assert watching.state.sessions.taken == 1
        assert watching.ask("/v1/info").json["sources"][0].endswith("/long.mkv")
        other.send('{"type": "record", "on": true}')
        seen = []
        for message in messages(one):
            seen.append(message)
            if message["type"] == "reading":
                break
        assert seen[0]["type"] == "ready"
        assert seen[-1]["type"] == "reading", seen[-1]
        assert seen[-1]["label"] == "angry" and seen[-1]["modalities"] == ["visual", "audio"]
        pictures = [message for message in seen if message["type"] == "picture"]
        assert len(pictures) > 10 and max(pictures[0]["image"].shape) <= 640
        [face] = next(m["faces"] for m in seen if m["type"] == "faces" and m["faces"])
        height, width = pictures[0]["image"].shape[:2]
        assert 0 <= face["left"] < face["right"] <= width
        assert 0 <= face["top"] < face["bottom"] <= height
        told = next(message for message in messages(other) if message["type"] == "reading")
        assert told["scores"] == seen[-1]["scores"]
        other.send('{"type": "record", "on": false}')
        recording = next(message for message in messages(other) if message["type"] == "recording")
        assert recording["analysis"]["windows"][0]["scores"] == told["scores"]
    eventually(lambda: watching.state.sessions.taken == 0)


def test_a_source_that_is_not_there_is_told(watching: Served) -> None:
    with watch(watching, 1) as socket:
        *_, last = messages(socket)
    assert last["type"] == "error" and "long.mkv.none" in last["error"]
    eventually(lambda: watching.state.sessions.taken == 0)


@pytest.mark.parametrize("source", ["2", "-1", "", "x", "http://127.0.0.1/", "9" * 5000])
def test_only_what_the_server_offers(watching: Served, source: str) -> None:
    with pytest.raises(InvalidStatus) as refused, watch(watching, source):
        pass
    assert refused.value.response.status_code == 404


def test_it_takes_a_place(watching: Served) -> None:
    with watching.stream({}):
        with pytest.raises(InvalidStatus) as refused, watch(watching, 0):
            pass
        assert refused.value.response.status_code == 503
