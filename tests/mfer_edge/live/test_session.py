"""Live sessions: the readings of a file, gaps, dropped frames, many threads."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.live.events import Event, Gap, LiveReading, Notice
from mfer_edge.live.session import LiveSession
from mfer_edge.model import Model
from mfer_edge.options import SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.sessions import FRAME_S, NOBODY, Stream

SHORT = SessionOptions(1.0, 0.5)


@pytest.fixture(scope="module")
def once(model: Model) -> Pipeline:
    return Pipeline(model)


def readings(events: list[Event]) -> list[Reading]:
    return [event.reading for event in events if isinstance(event, LiveReading)]


def put_seconds(live: LiveSession, seconds: float, sound: bool = True) -> None:
    for index in range(round(seconds / FRAME_S)):
        live.put(Frame(index * FRAME_S, NOBODY), wait=True)
        if sound:
            live.put(AudioChunk(np.zeros(round(FRAME_S * SAMPLE_RATE), np.float32)), wait=True)


def in_thread(live: LiveSession, *steps: object) -> list[Event]:
    """Run the steps of a source in a thread, and the work in this one."""

    def run() -> None:
        for step in steps:
            step()  # type: ignore[operator]
        live.end()

    thread = threading.Thread(target=run)
    thread.start()
    events = list(live.events())
    thread.join()
    return events


class TestReadings:
    def test_are_those_of_the_file(self, once: Pipeline, anger: Path, stream: Stream) -> None:
        """Frames from one thread and sound from another, in chunks of another size."""
        live = LiveSession(once, SHORT)

        def film() -> None:
            for frame in stream.frames:
                live.put(frame, wait=True)

        def listen() -> None:
            for start in range(0, len(stream.audio), 700):
                live.put(AudioChunk(stream.audio[start : start + 700]), wait=True)

        threads = [threading.Thread(target=target) for target in (film, listen)]

        def end() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            live.end(stream.end_s)

        events = in_thread(live, end)
        assert tuple(readings(events)) == once.analyze(anger, SHORT).windows
        assert live.tracks() == once.analyze(anger, SHORT).tracks
        stats = live.stats()
        assert (stats.frames, stats.dropped) == (len(stream.frames), 0)
        assert stats.audio_s == pytest.approx(len(stream.audio) / SAMPLE_RATE)
        assert stats.duration_s == pytest.approx(stream.end_s, abs=0.25)
        assert stats.readings == len(readings(events))

    def test_latency_and_lag_are_told(self, once: Pipeline) -> None:
        live = LiveSession(once, SHORT)
        events = in_thread(live, lambda: put_seconds(live, 4))
        timed = [event for event in events if isinstance(event, LiveReading)]
        assert timed and all(event.compute_s >= 0 and event.lag_s >= 0 for event in timed)
        stats = live.stats()
        assert stats.compute.max_s == max(event.compute_s for event in timed)

    def test_of_sound_alone(self, once: Pipeline) -> None:
        live = LiveSession(once, SHORT, has_video=False)
        chunk = np.zeros(SAMPLE_RATE, np.float32)
        events = in_thread(live, *[lambda: live.put_audio(chunk)] * 3)
        assert [r.end_s for r in readings(events)] == [1, 1.5, 2, 2.5, 3]


class TestLateMachine:
    def test_drops_frames_counts_them_and_says_so_once(self, once: Pipeline) -> None:
        live = LiveSession(once, SHORT)
        for index in range(40):  # nobody works meanwhile
            live.put(Frame(index * FRAME_S, NOBODY))
            live.put(AudioChunk(np.zeros(round(FRAME_S * SAMPLE_RATE), np.float32)))
        live.end()
        events = list(live.events())
        stats = live.stats()
        assert (stats.frames, stats.dropped) == (5, 35)
        assert stats.audio_s == pytest.approx(8)
        told = [event.text for event in events if isinstance(event, Notice)]
        assert sum("frames are dropped" in text for text in told) == 1
        assert [r.end_s for r in readings(events)][-1] == 8

    def test_gives_up_when_sound_piles_up(
        self, once: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mfer_edge.errors import MferError

        monkeypatch.setattr("mfer_edge.live.session.MAX_BACKLOG_S", 5.0)
        live = LiveSession(once, SHORT)
        for _ in range(8):
            live.put_audio(np.zeros(SAMPLE_RATE, np.float32))
        with pytest.raises(MferError, match="behind the sound"):
            list(live.events())
        assert live.ended and not live.put_audio(np.zeros(10, np.float32))


class TestGap:
    def test_times_and_faces_go_on_after_it(self, once: Pipeline, stream: Stream) -> None:
        live = LiveSession(once, SHORT)

        def whole() -> None:
            for frame in stream.frames:
                live.put(frame, wait=True)
            live.put(stream.chunk)

        def again() -> None:
            live.lost("unplugged")
            live.lost("unplugged still")
            live.connected()

        events = in_thread(live, whole, again, whole)
        lost, found = (event for event in events if isinstance(event, Gap))
        assert (lost.end_s, lost.reason) == (None, "unplugged")
        assert (found.start_s, found.reason) == (lost.start_s, "unplugged")
        assert found.end_s is not None and found.end_s >= found.start_s >= stream.end_s - 0.25
        before, after = events[: events.index(found)], events[events.index(found) :]
        first, second = readings(before), readings(after)
        assert len(first) == len(second)
        assert {r.track for r in first} == {0} and {r.track for r in second} == {1}
        for one, other in zip(first, second, strict=True):
            assert other.start_s == pytest.approx(one.start_s + found.end_s)
            assert other.scores == one.scores
        assert [track.track for track in live.tracks()] == [0, 1]
        assert live.stats().gaps == 1

    def test_that_never_ended(self, once: Pipeline) -> None:
        live = LiveSession(once, SHORT)
        events = in_thread(live, lambda: put_seconds(live, 2), lambda: live.lost("gone"))
        lost, until = (event for event in events if isinstance(event, Gap))
        assert lost.end_s is None and until.end_s is not None
        assert readings(events)[-1].end_s == pytest.approx(2.0)

    def test_without_a_word_from_the_source_there_is_nothing(self, once: Pipeline) -> None:
        live = LiveSession(once, has_video=None, has_audio=None)
        live.end()
        assert list(live.events()) == []
        assert live.stats().duration_s == 0


class TestPrograms:
    def test_frames_without_a_time_are_of_the_sound_that_comes_with_them(
        self, once: Pipeline
    ) -> None:
        live = LiveSession(once, SHORT)
        assert live.put_frame(NOBODY)  # before any sound: it has no time, and is left out
        for _ in range(20):
            live.put_audio(np.zeros(3200, np.float32))
        live.end()
        assert len(readings(list(live.events()))) == 7
        assert live.stats().frames == 0

    def test_step_by_step(self, once: Pipeline) -> None:
        live = LiveSession(once, SHORT, has_audio=False)
        events: list[Event] = []
        for index in range(11):
            live.put_frame(NOBODY, index * FRAME_S)
            while found := live.step():
                events += found
            live.step()
        assert [r.end_s for r in readings(events)] == [1.0, 1.5, 2.0]
        assert live.step(timeout_s=0.0) == []
