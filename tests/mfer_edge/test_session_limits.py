"""Sessions with tracks that are late or missing, over long times, and with wrong input."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from mfer_edge.model import Model
from mfer_edge.options import MAX_LAG_S
from mfer_edge.session import Session
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.sessions import (
    DEFAULT,
    FRAME_S,
    NOBODY,
    Stream,
    held,
    in_turn,
    read,
    spans,
)


class TestMissing:
    def test_audio_that_ends_early(self, model: Model, stream: Stream) -> None:
        """Its windows come when the frames are too far ahead, with the audio that there was."""
        session, at = Session(model, DEFAULT), []
        audio = stream.audio[: 3 * SAMPLE_RATE]
        session.push_audio(audio)
        for frame in stream.again(4).frames:
            session.push_frame(frame.image, frame.time_s)
            at += [(frame.time_s, reading) for reading in session.readings()]
        for time_s, reading in at:
            assert MAX_LAG_S <= time_s - reading.end_s < MAX_LAG_S + 0.5 + 2 * FRAME_S
        assert [reading.end_s for _, reading in at] == [4, 5, 6, 7, 8, 9, 10, 11]
        assert at[0][1].modalities == ("visual", "audio")
        assert {reading.modalities for _, reading in at[3:]} == {("visual",)}
        # What was heard is what a session finds that knows the audio's length.
        alone = Session(model, DEFAULT, has_video=False)
        alone.push_audio(np.append(audio, np.zeros(2 * SAMPLE_RATE, np.float32)))
        alone.close()
        assert at[0][1].speech_s == pytest.approx(alone.readings()[0].speech_s, abs=0.2)

    def test_frames_that_stop(self, model: Model, stream: Stream) -> None:
        session = Session(model, DEFAULT)
        for frame in stream.frames[:11]:  # 2 s
            session.push_frame(frame.image, frame.time_s)
        session.push_audio(stream.again(4).audio)
        readings = session.readings()
        assert spans(readings) == [(start, start + 4.0) for start in range(8)]
        assert [reading.frames for reading in readings] == [11, 6, 1, 0, 0, 0, 0, 0]
        assert readings[0].modalities == ("visual", "audio")
        assert {reading.modalities for reading in readings[3:]} == {("audio",)}
        assert all(reading.track is None for reading in readings[3:])

    def test_what_comes_too_late_is_counted(self, model: Model) -> None:
        session = Session(model, DEFAULT)
        session.push_audio(np.zeros(10 * SAMPLE_RATE, np.float32))  # so 0 to 5 s are read
        assert len(session.readings()) == 2
        for index in range(40):
            session.push_frame(NOBODY, index * FRAME_S)
        assert session.late_s == {"audio": 0.0, "video": pytest.approx(5.0)}

    def test_a_longer_lag_can_be_waited_for(self, model: Model, stream: Stream) -> None:
        long = stream.again(3)
        waits = Session(model, DEFAULT, max_lag_s=60.0)
        for item in [*long.frames, long.chunk]:
            waits.push(item)
        waits.close(long.end_s)
        items = in_turn(long, random.Random(1), 0.5)
        assert waits.readings() == read(model, items, long.end_s)

    def test_frames_that_never_come(self, model: Model, stream: Stream) -> None:
        session = Session(model, DEFAULT)
        session.push_audio(stream.again(3).audio)
        readings = session.readings()
        assert len(readings) == 4
        assert {reading.modalities for reading in readings} == {("audio",)}

    def test_nothing_to_see_or_hear_is_said(self, model: Model) -> None:
        session = Session(model, DEFAULT)
        session.push_audio(np.zeros(4 * SAMPLE_RATE, np.float32))
        for index in range(20):
            session.push_frame(np.zeros((90, 160, 3), np.uint8), index * FRAME_S)
        session.close()
        [reading] = session.readings()
        assert (reading.scores, reading.visual, reading.audio) == (None, None, None)
        assert (reading.label, reading.modalities, reading.track) == (None, (), None)
        assert (reading.frames, reading.faces, reading.speech_s) == (20, 0, 0.0)

    def test_a_moment_of_speech_is_too_little(self, model: Model, stream: Stream) -> None:
        """The bundle tells how much the voice needs; with less, the face alone counts."""
        needed_s = model.manifest.min_speech_s
        manifest = replace(model.manifest, min_speech_s=100.0)
        greedy = replace(model, bundle=replace(model.bundle, manifest=manifest))
        [heard] = read(model, [stream.chunk, *stream.frames], stream.end_s)
        [unheard] = read(greedy, [stream.chunk, *stream.frames], stream.end_s)
        assert heard.speech_s == unheard.speech_s > needed_s
        assert heard.modalities == ("visual", "audio") and unheard.modalities == ("visual",)
        assert unheard.scores == unheard.visual == heard.visual


class TestMemory:
    def test_holds_a_window_however_long_it_goes_on(self, model: Model, stream: Stream) -> None:
        session, sizes = Session(model, DEFAULT), []
        minute = stream.again(15)
        audio = np.array_split(minute.audio, len(minute.frames))
        for frame, samples in zip(minute.frames, audio, strict=True):
            session.push_frame(frame.image, frame.time_s)
            session.push_audio(samples)
            session.readings()
            sizes.append(held(session))
        assert minute.end_s > 60
        frames_s, audio_s = (max(size) for size in zip(*sizes, strict=True))
        longest_s = DEFAULT.window_s + DEFAULT.hop_s + FRAME_S
        assert frames_s <= longest_s / FRAME_S + 1
        assert audio_s <= longest_s

    def test_audio_that_is_always_too_late_does_not_pile_up(self, model: Model) -> None:
        """A microphone that was opened long after the camera."""
        session = Session(model, DEFAULT)
        for index in range(round(60 / FRAME_S)):
            session.push_frame(NOBODY, index * FRAME_S)
            if index * FRAME_S >= 20:
                session.push_audio(np.zeros(3200, np.float32))
        assert held(session)[1] <= DEFAULT.hop_s + 1
        assert session.late_s == {"audio": pytest.approx(40.0), "video": 0.0}

    def test_frames_without_audio_do_not_pile_up(self, model: Model) -> None:
        session = Session(model, DEFAULT)
        for index in range(round(60 / FRAME_S)):
            session.push_frame(NOBODY, index * FRAME_S)
        assert held(session)[0] * FRAME_S <= DEFAULT.window_s + DEFAULT.hop_s + MAX_LAG_S


class TestWrongInput:
    @pytest.fixture
    def session(self, model: Model) -> Session:
        return Session(model, DEFAULT)

    @pytest.mark.parametrize(
        "image",
        [
            np.zeros((48, 64), np.uint8),
            np.zeros((48, 64, 4), np.uint8),
            np.zeros((3, 48, 64), np.uint8),
            np.zeros((48, 64, 3), np.float32),
        ],
        ids=["grey", "with alpha", "channels first", "float"],
    )
    def test_frame_of_another_form(self, session: Session, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"a frame is \(height, width, 3\) uint8, not") as e:
            session.push_frame(image, 0.0)
        assert f"{image.shape} {image.dtype}" in str(e.value)

    @pytest.mark.parametrize("time_s", [1.0, 0.5, float("nan"), float("inf"), -1.0, 1.7e9])
    def test_frame_at_an_impossible_time(self, session: Session, time_s: float) -> None:
        """The last is the time of day: taken as it is, it would be centuries of windows."""
        session.push_frame(NOBODY, 1.0)
        with pytest.raises(ValueError, match="the frame"):
            session.push_frame(NOBODY, time_s)
        session.push_frame(NOBODY, 1.2)  # the session goes on

    @pytest.mark.parametrize("time_s", [float("nan"), float("inf"), -0.1, 1.7e9])
    def test_first_frame_at_an_impossible_time(self, session: Session, time_s: float) -> None:
        with pytest.raises(ValueError, match="counts from the start of the session"):
            session.push_frame(NOBODY, time_s)

    @pytest.mark.parametrize(
        "samples",
        [
            np.zeros(160, np.float64),
            np.zeros(160, np.int16),
            np.zeros((160, 1), np.float32),
            np.zeros((2, 160), np.float32),
            np.array([0, np.nan], np.float32),
            np.array([np.inf], np.float32),
        ],
        ids=["double", "int16", "column", "stereo", "nan", "inf"],
    )
    def test_audio_of_another_form(self, session: Session, samples: np.ndarray) -> None:
        with pytest.raises(ValueError, match="audio"):
            session.push_audio(samples)
        session.close()
        assert session.readings() == []  # nothing of it was taken

    def test_after_the_end(self, session: Session) -> None:
        session.push_frame(NOBODY, 0.0)
        session.close()
        with pytest.raises(ValueError, match="closed"):
            session.push_frame(NOBODY, 0.2)
        with pytest.raises(ValueError, match="closed"):
            session.push_audio(np.zeros(160, np.float32))
        session.close()  # once more does no harm
        assert len(session.readings()) == 1

    def test_frame_mirrored_or_with_colours_turned_by_a_view(
        self, model: Model, stream: Stream
    ) -> None:
        """As OpenCV and PyAV users write them; such arrays run backwards in memory."""
        image = stream.frames[0].image
        for view in (image[:, ::-1], image[..., ::-1]):
            one, other = Session(model, DEFAULT), Session(model, DEFAULT)
            one.push_frame(view, 0.0)
            other.push_frame(np.ascontiguousarray(view), 0.0)
            one.close()
            other.close()
            assert one.readings() == other.readings()
            assert one.tracks() == other.tracks() != ()
