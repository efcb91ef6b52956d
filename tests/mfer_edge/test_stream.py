"""Streams: readings while a source runs, the same as of the whole clip, in bounded memory."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfer_edge.errors import MediaError
from mfer_edge.model import Model
from mfer_edge.options import MAX_LAG_S, SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.session import Session
from mfer_edge.sources.base import AudioChunk, Frame, Source
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.prefetch import PREFETCH_ITEMS
from mfer_edge.sources.replay import Replay
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import sine, write_clip
from tests.support.sessions import FRAME_S, NOBODY, Item, Stream, held, in_turn
from tests.support.threads import started

HOP = round(FRAME_S * SAMPLE_RATE)


class Fed:
    """A source of given items, which counts how many were taken, and knows if it was closed."""

    name, has_video, has_audio, max_lag_s = "fed", True, True, MAX_LAG_S

    def __init__(self, items: Iterator[Item], duration_s: float | None = None) -> None:
        self.duration_s = duration_s
        self.taken = 0
        self.closed = False
        self._items = items

    def __enter__(self) -> Fed:
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            assert not self.closed
            self.taken += 1
            yield item

    def warnings(self) -> tuple[str, ...]:
        return ("fed by hand",)


def forever() -> Iterator[Item]:
    """An empty room and silence, without an end."""
    for index in count():
        yield Frame(index * FRAME_S, NOBODY)
        yield AudioChunk(np.zeros(HOP, np.float32))


@pytest.fixture(scope="module")
def once(model: Model) -> Pipeline:
    """The pipeline on the detector that searches every frame only once."""
    return Pipeline(model)


@pytest.fixture(scope="module")
def replay(anger: Path) -> Replay:
    return Replay.read(anger, 5.0)


windows = st.tuples(st.integers(8, 50), st.integers(4, 30), st.sampled_from(["main", "all"])).map(
    lambda drawn: SessionOptions(drawn[0] / 10, min(drawn[0], drawn[1]) / 10, drawn[2])
)


class TestSameReadings:
    @given(options=windows, seed=st.integers(0, 2**32 - 1))
    @settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_of_a_clip_of_its_replay_and_of_any_chunks(
        self,
        once: Pipeline,
        anger: Path,
        stream: Stream,
        replay: Replay,
        options: SessionOptions,
        seed: int,
    ) -> None:
        """Bit for bit, whatever the windows, and however audio and frames are interleaved."""
        of_clip = list(once.stream(anger, options))
        assert list(once.stream(replay, options)) == of_clip
        chunks = in_turn(stream, random.Random(seed), late_s=1.0)
        assert list(once.stream(Fed(iter(chunks), stream.end_s), options)) == of_clip
        assert of_clip

    def test_analyze_collects_them(self, once: Pipeline, anger: Path, replay: Replay) -> None:
        options = SessionOptions(1.0, 0.5)
        of_clip, of_replay = once.analyze(anger, options), once.analyze(replay, options)
        assert of_clip.windows == of_replay.windows == tuple(once.stream(anger, options))
        assert of_clip.tracks == of_replay.tracks != ()
        assert of_clip.overall == of_replay.overall
        assert (of_clip.source, of_clip.duration_s) == (of_replay.source, of_replay.duration_s)
        assert of_clip.warnings == of_replay.warnings == ()

    def test_a_clip_that_is_opened_already(self, once: Pipeline, anger: Path) -> None:
        with Clip(anger, 5.0) as clip:
            readings = list(once.stream(clip))
        assert readings == list(once.stream(anger))

    def test_a_sources_own_warnings_are_shown(self, once: Pipeline, stream: Stream) -> None:
        items = in_turn(stream, random.Random(0), late_s=0.0)
        assert once.analyze(Fed(iter(items), stream.end_s)).warnings == ("fed by hand",)

    def test_a_source_without_a_known_end_goes_up_to_its_last_item(self, once: Pipeline) -> None:
        readings = list(once.stream(Fed(islice(forever(), 60))))  # 6 s
        assert [(r.start_s, r.end_s) for r in readings] == [(0, 4), (1, 5), (2, 6)]


class TestWhileItRuns:
    def test_a_reading_comes_as_soon_as_its_window_ends(self, once: Pipeline) -> None:
        source = Fed(forever())
        readings = once.stream(source)
        assert source.taken == 0  # nothing before it is asked for
        for index in range(10):
            reading = next(readings)
            assert reading.end_s == 4.0 + index
            needed_s = reading.end_s + (0.5 if index == 0 else 0.0)
            needed = 2 * (needed_s / FRAME_S + 1)
            assert source.taken <= needed + PREFETCH_ITEMS + 1
        readings.close()  # type: ignore[attr-defined]
        assert source.closed

    def test_an_endless_replay(self, once: Pipeline, replay: Replay) -> None:
        readings = list(islice(once.stream(replay.endless()), 12))
        assert [reading.end_s for reading in readings] == [4.0 + index for index in range(12)]
        assert {reading.modalities for reading in readings} == {("visual", "audio")}

    @pytest.mark.parametrize("taken", [0, 1])
    def test_left_early_it_closes_the_source_and_its_thread(
        self, once: Pipeline, taken: int
    ) -> None:
        running = started()
        source = Fed(forever())
        for _ in islice(once.stream(source), taken):
            pass
        assert source.closed == bool(taken)
        assert running() == []

    def test_a_clip_closed_by_its_user_while_it_is_streamed(
        self, once: Pipeline, tmp_path: Path
    ) -> None:
        path = write_clip(tmp_path / "long.mp4", 20.0, audio=sine(20.0))
        with Clip(path, 5.0) as clip:
            readings = once.stream(clip)
            next(readings)
        with pytest.raises(MediaError, match="was closed while it was read"):
            list(readings)

    def test_an_error_of_the_source_is_raised_after_the_readings_before_it(
        self, once: Pipeline
    ) -> None:
        def broken() -> Iterator[Item]:
            yield from islice(forever(), 60)
            raise MediaError("the camera was unplugged")

        readings, source = [], Fed(broken())
        with pytest.raises(MediaError, match="unplugged"):
            for reading in once.stream(source):
                readings.append(reading.end_s)
        assert readings == [4.0, 5.0]
        assert source.closed


class TestMemory:
    def test_does_not_grow_with_the_stream(self, once: Pipeline) -> None:
        def peak(readings: int) -> int:
            tracemalloc.start()
            for _ in islice(once.stream(Fed(forever())), readings):
                pass
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return most

        assert peak(300) < 1.2 * peak(30) + 20_000  # 5 min of audio alone are 19 MB

    def test_a_session_holds_one_window(self, model: Model) -> None:
        options = SessionOptions(4.0, 1.0)
        session, sizes = Session(model, options), []
        source: Source = Fed(forever())
        for _ in islice(session.run(source), 60):
            sizes.append(held(session))
        frames, audio_s = (max(size) for size in zip(*sizes, strict=True))
        assert frames * FRAME_S <= options.window_s + options.hop_s + FRAME_S
        assert audio_s <= options.window_s + options.hop_s + FRAME_S
