"""Connections: many, slow, silent, or greedy."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.options import Limits, ServeOptions
from tests.support.serving import Served, serving

PATIENCE_S = 30.0
REQUEST = b"GET /static/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def files() -> Iterator[None]:
    """Room for the open sockets of both sides, which are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip(f"this process may have {hard} files open only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def patient(once: Pipeline, isolated: IsolatedPool) -> Iterator[Served]:
    """A server that lets connections be for long."""
    limits = Limits(sessions=1, connections=100, pause_s=600)
    with serving(once, isolated, ServeOptions(port=0, limits=limits)) as server:
        yield server


@pytest.fixture
def hurried(once: Pipeline, isolated: IsolatedPool) -> Iterator[Served]:
    """One that does not."""
    limits = Limits(sessions=1, pause_s=0.2, send_s=0.5)
    with serving(once, isolated, ServeOptions(port=0, limits=limits)) as server:
        yield server


def connected(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def ends(raw: socket.socket) -> bool:
    """Wait until the other side closes."""
    try:
        while raw.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for what happens in the server's thread."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def connections(server: Served) -> float:
    """Open connections by the metrics."""
    lines = server.ask("/metrics").body.decode().splitlines()
    return next(
        float(line.split()[1]) for line in lines if line.startswith("mfer_edge_connections")
    )


class TestMany:
    def test_a_thousand_silent_ones_leave_room_for_a_request(self, patient: Served) -> None:
        with ExitStack() as stack, patient.stream({}) as viewer:
            for _ in range(1000):
                stack.enter_context(closing(connected(patient)))
            assert patient.ask("/v1/healthz").status == 200
            assert connections(patient) <= 100
            viewer.tell({"type": "end"})  # a viewer is not idle
            assert viewer.next()["type"] == "end"
        eventually(lambda: connections(patient) == 1)

    def test_a_thousand_requests_that_never_come_whole(self, patient: Served) -> None:
        with ExitStack() as stack:
            for _ in range(1000):
                raw = stack.enter_context(closing(connected(patient)))
                try:
                    raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
                except ConnectionError:
                    continue  # cut already, to make room
            assert patient.ask("/v1/healthz").status == 200


class TestSlow:
    def test_a_silent_one_is_closed(self, hurried: Served) -> None:
        with closing(connected(hurried)) as raw:
            assert ends(raw)

    def test_one_whose_request_drips_is_closed(self, hurried: Served) -> None:
        with closing(connected(hurried)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n")
            deadline = time.monotonic() + PATIENCE_S
            with pytest.raises(ConnectionError):
                while time.monotonic() < deadline:
                    raw.sendall(b"X: y\r\n")
                    time.sleep(0.05)

    def test_one_that_drips_after_an_answer_is_closed(self, hurried: Served) -> None:
        with closing(connected(hurried)) as raw:
            raw.sendall(REQUEST)
            assert raw.recv(100).startswith(b"HTTP/1.1 200")
            deadline = time.monotonic() + PATIENCE_S
            with pytest.raises(ConnectionError):
                while time.monotonic() < deadline:
                    raw.sendall(b"G")
                    time.sleep(0.05)

    def test_one_that_does_not_read_is_cut(self, hurried: Served) -> None:
        with closing(connected(hurried)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(2000 * REQUEST)  # 16 MB of answers
            eventually(lambda: connections(hurried) == 1)

    def test_one_that_sends_on_while_it_is_answered_is_cut(self, patient: Served) -> None:
        """Nothing holds the requests that wait but memory."""
        with closing(connected(patient)) as raw, pytest.raises(ConnectionError):
            for _ in range(1000):
                raw.sendall(1000 * REQUEST)

    def test_a_large_request_head_is_refused(self, hurried: Served) -> None:
        with closing(connected(hurried)) as raw, suppress(ConnectionError):
            raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * 1_000_000)
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
            return
        assert hurried.ask("/v1/healthz").status == 200  # cut off before the answer was read
