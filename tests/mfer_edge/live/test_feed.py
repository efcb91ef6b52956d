"""Feeding live sessions: a replay equals its file, lost sources come back, give up, stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.errors import MediaError
from mfer_edge.live import feed
from mfer_edge.live.events import Event, Gap, LiveReading
from mfer_edge.live.feed import Feeder, FeedOptions, in_order
from mfer_edge.live.session import LiveSession
from mfer_edge.model import Model
from mfer_edge.options import SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import AudioChunk, Frame, Source
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.footage import video_first
from tests.support.sessions import FRAME_S, NOBODY
from tests.support.threads import started

SHORT = SessionOptions(1.0, 0.5)


@pytest.fixture(scope="module")
def once(model: Model) -> Pipeline:
    return Pipeline(model)


class Camera:
    """A camera and a microphone that break off after some seconds."""

    name, has_video, has_audio, duration_s, max_lag_s = "test", True, True, None, 5.0

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def warnings(self) -> tuple[str, ...]:
        return ("it rattles",)

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        for index in range(round(self.seconds / FRAME_S)):
            yield Frame(index * FRAME_S, NOBODY)
            yield AudioChunk(np.zeros(round(FRAME_S * SAMPLE_RATE), np.float32))
            time.sleep(FRAME_S)
        raise MediaError("unplugged")


def run(live: LiveSession, feeder: Feeder) -> list[Event]:
    with feeder:
        return list(live.events())


def unconnected(once: Pipeline, options: SessionOptions = SHORT) -> LiveSession:
    return LiveSession(once, options, has_video=None, has_audio=None)


@pytest.mark.parametrize("faces", ["main", "all"])
def test_a_replay_equals_its_file(once: Pipeline, anger: Path, tmp_path: Path, faces: str) -> None:
    """Scores included, even where the file holds all video before the sound."""
    options = SessionOptions(1.0, 0.5, faces)
    for path in (anger, video_first(anger, tmp_path / "badly.mp4")):
        live = unconnected(once, options)
        feeder = Feeder(live, lambda path=path: Clip(path), FeedOptions(ends=True, speed=50))
        readings = [e.reading for e in run(live, feeder) if isinstance(e, LiveReading)]
        whole = once.analyze(path, options)
        assert tuple(readings) == whole.windows
        assert live.tracks() == whole.tracks
        assert live.stats().dropped == 0
        assert live.stats().duration_s == pytest.approx(whole.duration_s)


def test_a_replay_takes_as_long_as_the_clip(once: Pipeline, moment: Path) -> None:
    live, start_s = unconnected(once), time.monotonic()
    run(live, Feeder(live, lambda: Clip(moment), FeedOptions(ends=True)))
    assert time.monotonic() - start_s > 1.4  # of 1.6 s


def test_items_of_a_file_come_in_order_of_time(anger: Path) -> None:
    with Clip(anger) as clip:
        items = list(clip)
    frames = [item for item in items if isinstance(item, Frame)]
    audio = [item for item in items if isinstance(item, AudioChunk)][:120]  # 2.5 s

    class Muddled(Camera):
        def __iter__(self) -> Iterator[Frame | AudioChunk]:
            yield from (*frames[:6], *audio, *frames[6:12])

    given = list(in_order(Muddled(4.0)))
    assert [due_s for due_s, _ in given] == sorted(due_s for due_s, _ in given)
    assert [item for _, item in given if isinstance(item, Frame)] == frames[:12]
    assert [item for _, item in given if isinstance(item, AudioChunk)] == audio


class TestLost:
    def test_it_is_opened_again_with_the_gap_in_the_output(
        self, once: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(feed, "FIRST_DELAY_S", 0.05)
        tries: list[float] = []

        def open_source() -> Source:
            tries.append(time.monotonic())
            if len(tries) in (2, 3, 4):
                raise MediaError("not there yet")
            return Camera(0.6)

        live = unconnected(once)
        feeder = Feeder(live, open_source, FeedOptions(give_up_s=30))
        threading.Thread(target=lambda: (_until(tries, 5), feeder.stop()), daemon=True).start()
        events = run(live, feeder)
        gaps = [event for event in events if isinstance(event, Gap)]
        assert gaps[0].end_s is None and gaps[0].reason == gaps[1].reason == "unplugged"
        assert gaps[1].end_s is not None and gaps[1].end_s - gaps[1].start_s >= 0.05 * 7
        assert (np.diff(tries[1:5]) >= np.array([0.1, 0.2, 0.4])).all()
        assert feeder.warnings == ["it rattles"]

    def test_it_is_given_up(self, once: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed, "FIRST_DELAY_S", 0.02)
        cameras = iter([Camera(1.0)])

        def open_source() -> Source:
            if (found := next(cameras, None)) is None:
                raise MediaError("not there")
            return found

        live, events = unconnected(once), []
        with (
            pytest.raises(MediaError, match="not tried any more"),
            Feeder(live, open_source, FeedOptions(give_up_s=0.2)),
        ):
            for event in live.events():
                events.append(event)
        assert [e.reading.end_s for e in events if isinstance(e, LiveReading)] == [1.0]
        assert isinstance(events[-1], Gap) and events[-1].end_s is not None

    def test_one_that_was_never_there_is_an_error(self, once: Pipeline) -> None:
        def open_source() -> Source:
            raise MediaError("there is no camera")

        live = unconnected(once)
        with pytest.raises(MediaError, match="there is no camera"):
            run(live, Feeder(live, open_source, FeedOptions()))

    def test_an_error_that_nobody_foresaw_is_raised_too(self, once: Pipeline) -> None:
        def open_source() -> Source:
            raise ZeroDivisionError

        live = unconnected(once)
        with pytest.raises(ZeroDivisionError):
            run(live, Feeder(live, open_source, FeedOptions()))


def _until(tries: list[float], count: int) -> None:
    while len(tries) < count:
        time.sleep(0.01)
    time.sleep(0.1)


def test_it_ends_after_so_many_seconds(once: Pipeline, anger: Path) -> None:
    live = unconnected(once)
    run(live, Feeder(live, lambda: Clip(anger), FeedOptions(ends=True, speed=50, max_s=2.0)))
    assert live.stats().duration_s == pytest.approx(2.0, abs=0.2)


def test_left_early_its_thread_ends(once: Pipeline, anger: Path) -> None:
    running = started()
    live = unconnected(once)
    with Feeder(live, lambda: Clip(anger), FeedOptions(ends=True)):
        assert "feed" in running()
    assert running() == []
