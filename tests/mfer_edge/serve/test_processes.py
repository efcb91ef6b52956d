"""Live sessions of the server that compute in other processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.live.pool import SessionPool
from mfer_edge.live.sources import LiveChoice
from mfer_edge.outputs.json import reading_dict
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.options import Limits, ServeOptions
from tests.mfer_edge.serve.test_stream import readings, refusal
from tests.support.serving import Served, items_of, serving


@pytest.fixture(scope="module")
def served(once: Pipeline, isolated: IsolatedPool, moment: Path) -> Iterator[Served]:
    options = ServeOptions(port=0, limits=Limits(sessions=4))
    with (
        SessionPool(WorkerSetup(device="cpu", threads=1), processes=2) as pool,
        serving(once, isolated, options, (LiveChoice(replay=moment),), pool=pool) as server,
    ):
        yield server


def test_readings_and_recordings_are_those_of_the_file(
    served: Served, pipeline: Pipeline, long: Path
) -> None:
    items, duration_s = items_of(long)
    with served.stream({"drop": False, "faces": "all"}) as client:
        client.tell({"type": "record", "on": True})
        client.feed(items)
        client.tell({"type": "end", "duration_s": duration_s})
        messages = client.until("end")
    expected = pipeline.analyze(long, pipeline.options(faces="all"))
    assert readings(messages) == [reading_dict(reading) for reading in expected.windows]
    [recording] = [message for message in messages if message["type"] == "recording"]
    assert len(recording["analysis"]["windows"]) == len(expected.windows)
    assert [track["faces"] for track in recording["analysis"]["tracks"]] == [
        track.faces for track in expected.tracks
    ]


def test_two_viewers_have_a_process_each(served: Served, moment: Path) -> None:
    items, _ = items_of(moment)
    pool = served.state.pool
    assert pool is not None
    with served.stream({}) as first, served.stream({}) as second:
        for client in (first, second):
            client.feed(items)
        for client in (first, second):
            client.until("faces")
        assert len(pool.pids) == 2
        for client in (first, second):
            client.tell({"type": "end"})
            assert readings(client.until("end"))


def test_a_lost_process_ends_its_session_with_a_line(served: Served, moment: Path) -> None:
    items, _ = items_of(moment)
    pool = served.state.pool
    assert pool is not None
    with served.stream({}) as client:
        client.feed(items)
        client.until("faces")
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        client.tell({"type": "end"})
        code, reason = refusal(client)
    assert code == 1011
    assert "live session was killed" in reason
    with served.stream({}) as client:
        client.feed(items)
        client.tell({"type": "end"})
        assert readings(client.until("end"))
