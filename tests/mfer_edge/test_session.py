"""Sessions: the same readings however a stream comes, at the right times."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.model import Model
from mfer_edge.options import SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.session import Session
from tests.support.face_engines import CountingEngine
from tests.support.sessions import (
    DEFAULT,
    FRAME_S,
    NOBODY,
    Stream,
    in_turn,
    read,
    silent,
    spans,
)


class TestAnyCutting:
    """How a stream is cut into pushes does not show: readings are equal to the last bit."""

    @pytest.mark.parametrize("seed", range(5))
    def test_a_long_stream(self, model: Model, stream: Stream, seed: int) -> None:
        long, options = stream.again(3), SessionOptions(3.0, 1.0)
        expected = read(model, in_turn(long, random.Random(99), 0.0), long.end_s, options)
        items = in_turn(long, random.Random(seed), late_s=2.0)
        assert read(model, items, long.end_s, options) == expected
        assert len(expected) == 10
        assert {reading.modalities for reading in expected} == {("visual", "audio")}

    def test_one_kind_after_the_other(self, model: Model, stream: Stream) -> None:
        options = SessionOptions(2.0, 0.5)
        audio_first = read(model, [stream.chunk, *stream.frames], stream.end_s, options)
        frames_first = read(model, [*stream.frames, stream.chunk], stream.end_s, options)
        assert audio_first == frames_first
        assert len(audio_first) == 5

    def test_the_file_and_the_stream_agree(
        self, model: Model, stream: Stream, pipeline: Pipeline, anger: Path
    ) -> None:
        for options in (DEFAULT, SessionOptions(1.5, 0.7)):
            items = in_turn(stream, random.Random(7), late_s=1.0)
            streamed = read(model, items, stream.end_s, options)
            assert tuple(streamed) == pipeline.analyze(anger, options).windows

    @pytest.mark.parametrize("faces", ["main", "all"])
    def test_what_is_prepared_does_not_matter(
        self, model: Model, stream: Stream, faces: str
    ) -> None:
        options = SessionOptions(2.0, 0.5, faces=faces)
        items = [stream.chunk, *stream.frames]
        face = CountingEngine(model.visual.face)
        session = Session(replace(model, visual=replace(model.visual, face=face)), options)
        for item in items:
            prepared = face.crops
            session.push(item)
            assert face.crops == prepared  # a reading finds all its faces embedded
            session.prepare()
        assert face.crops == len(stream.frames)
        session.close(stream.end_s)
        assert session.readings() == read(model, items, stream.end_s, options)

    def test_when_readings_are_taken_does_not_matter(self, model: Model, stream: Stream) -> None:
        options = SessionOptions(1.0, 0.5)
        session = Session(model, options)
        for item in in_turn(stream, random.Random(3), late_s=1.0):
            session.push(item)
        session.close(stream.end_s)
        at_the_end = session.readings()
        items = in_turn(stream, random.Random(4), late_s=1.0)
        assert at_the_end == read(model, items, stream.end_s, options)
        assert session.readings() == []  # each is given once

    def test_other_readings_would_differ(self, model: Model, stream: Stream) -> None:
        """The equalities above would prove little if all readings were alike."""
        readings = read(
            model, [stream.chunk, *stream.frames], stream.end_s, SessionOptions(1.0, 0.5)
        )
        assert len({str(reading.scores) for reading in readings}) == len(readings)


class TestWindows:
    @pytest.mark.parametrize("end_s", [0.01, 0.5, 3.9, 4.0, 4.14, 4.49])
    def test_up_to_half_a_hop_over_a_window_is_one_window(self, model: Model, end_s: float) -> None:
        assert spans(silent(model, end_s)) == [(0.0, pytest.approx(end_s, abs=1e-4))]

    @pytest.mark.parametrize(
        ("end_s", "expected"),
        [
            (4.5, [(0, 4), (0.5, 4.5)]),
            (5.0, [(0, 4), (1, 5)]),
            (5.25, [(0, 4), (1, 5)]),  # less than half a hop would be new
            (5.5, [(0, 4), (1, 5), (1.5, 5.5)]),
            (6.75, [(0, 4), (1, 5), (2, 6), (2.75, 6.75)]),
        ],
    )
    def test_longer_streams_slide(self, model: Model, end_s: float, expected: list) -> None:
        assert spans(silent(model, end_s)) == expected

    def test_a_minute_is_57_windows(self, model: Model) -> None:
        assert spans(silent(model, 60.0)) == [(start, start + 4.0) for start in range(57)]

    @given(window=st.integers(10, 50), hop=st.integers(1, 50), end=st.integers(1, 150))
    @settings(max_examples=60)
    def test_windows_cover_the_stream(self, model: Model, window: int, hop: int, end: int) -> None:
        window_s, end_s = window / 10, end / 10
        hop_s = min(hop / 10, window_s)
        found = spans(silent(model, end_s, SessionOptions(window_s, hop_s)))
        starts, ends = [span[0] for span in found], [span[1] for span in found]
        assert starts[0] == 0
        assert end_s - hop_s / 2 - 1e-6 <= ends[-1] <= end_s + 1e-6
        if len(found) > 1:
            assert [e - s for s, e in found] == pytest.approx([window_s] * len(found))
        steps = [after - before for before, after in itertools.pairwise(starts)]
        assert steps[:-1] == pytest.approx([hop_s] * len(steps[:-1]))
        assert all(hop_s / 2 - 1e-6 <= step <= hop_s + 1e-6 for step in steps)

    def test_an_empty_stream_gives_nothing(self, model: Model) -> None:
        session = Session(model, DEFAULT)
        session.close()
        assert session.readings() == [] and session.tracks() == ()

    def test_frames_alone_count_their_own_time(self, model: Model) -> None:
        """The last frame is shown for as long as the others."""
        session = Session(model, DEFAULT, has_audio=False)
        for index in range(30):
            session.push_frame(NOBODY, index * FRAME_S)
        session.close()
        readings = session.readings()
        assert spans(readings) == [(0, 4), (1, 5), (2, 6)]
        assert [reading.frames for reading in readings] == [20, 20, 20]

    def test_readings_come_with_the_stream(self, model: Model) -> None:
        """Not only in the end: a window's once frames and audio have come to its end."""
        session, first = Session(model, DEFAULT), []
        for index in range(31):
            session.push_frame(NOBODY, index * FRAME_S)
            session.push_audio(np.zeros(3200, np.float32))
            first += [(index, *span) for span in spans(session.readings())]
        # The first window waits half a hop, as it might be the only one.
        assert first == [(23, 0, 4), (25, 1, 5), (30, 2, 6)]
