"""Sessions: the same readings however a stream comes, at the right times, in bounded memory."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.arms import AudioArm, Fusion, VisualArm
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.model import Model, load_engines
from mfer_edge.options import SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading
from mfer_edge.session import MAX_LAG_S, Session
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.vad import SAMPLE_RATE

FRAME_S = 0.2  # from one picture to the next
DEFAULT = SessionOptions(4.0, 1.0)
NOBODY = np.zeros((10, 10, 3), np.uint8)  # too small for a face, so it costs no time


class OnceDetector:
    """The face detector, which looks at every picture only once: most of the tests' time."""

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._known: dict[tuple[bytes, str], list[FaceBox]] = {}

    def __call__(self, image: np.ndarray, near: Sequence[FaceBox] | None = None) -> list[FaceBox]:
        key = image.tobytes(), repr(near)
        if key not in self._known:
            self._known[key] = self._detector(image, near)
        return self._known[key]


@pytest.fixture(scope="module")
def chain(pipeline: Pipeline) -> Model:
    networks = load_engines(pipeline.bundle)
    detector = FaceDetector(networks["pnet"], networks["rnet"], networks["onet"])
    return Model(
        manifest=pipeline.bundle.manifest,
        vad=networks["vad"],
        detector=OnceDetector(detector),  # type: ignore[arg-type]
        visual=VisualArm(networks["face"], networks["visual"]),
        audio=AudioArm(networks["audio"]),
        fusion=Fusion(networks["fusion"]),
    )


@dataclass(frozen=True)
class Stream:
    """What a camera and a microphone would give."""

    pictures: list[Frame]
    sound: np.ndarray
    end_s: float

    def again(self, times: int) -> Stream:
        """The same several times in a row."""
        pictures = [
            replace(picture, time_s=picture.time_s + self.end_s * index)
            for index in range(times)
            for picture in self.pictures
        ]
        once = np.zeros(round(self.end_s * SAMPLE_RATE), np.float32)
        sound = self.sound[: len(once)]
        once[: len(sound)] = sound
        return Stream(pictures, np.tile(once, times), self.end_s * times)


def read_stream(path: Path) -> Stream:
    with Clip(path) as clip:
        items = list(clip)
    pictures = [item for item in items if isinstance(item, Frame)]
    sound = np.concatenate([item.samples for item in items if not isinstance(item, Frame)])
    return Stream(pictures, sound, clip.duration_s)


@pytest.fixture(scope="module")
def stream(anger: Path) -> Stream:
    return read_stream(anger)


@pytest.fixture(scope="module")
def other_stream(fear: Path) -> Stream:
    return read_stream(fear)


Piece = Frame | np.ndarray


def in_turn(stream: Stream, rng: random.Random, late_s: float) -> list[Piece]:
    """A stream in pieces of any size, each coming up to this late; pictures and sound in order."""
    pieces: list[tuple[float, Piece]] = []
    key_s = 0.0
    for picture in stream.pictures:
        key_s = max(key_s, picture.time_s + rng.uniform(0, late_s))
        pieces.append((key_s, picture))
    key_s, start = 0.0, 0
    while start < len(stream.sound):
        end = start + rng.choice([0, 1, 160, 512, 4000, 16_000, 40_000])
        key_s = max(key_s, end / SAMPLE_RATE + rng.uniform(0, late_s))
        pieces.append((key_s, stream.sound[start:end]))
        start = end
    return [piece for _, piece in sorted(pieces, key=lambda pair: pair[0])]


def read(
    chain: Model, pieces: list[Piece], end_s: float | None, windows: SessionOptions = DEFAULT
) -> list[Reading]:
    """Push pieces, take readings as they come, and close."""
    session, readings = Session(chain, windows), []
    for piece in pieces:
        push(session, piece)
        readings += session.readings()
    session.close(end_s)
    assert session.late_s == {"sound": 0.0, "video": 0.0}
    return readings + session.readings()


def push(session: Session, piece: Piece) -> None:
    if isinstance(piece, Frame):
        session.push_frame(piece.image, piece.time_s)
    else:
        session.push_audio(piece)


def spans(readings: list[Reading]) -> list[tuple[float, float]]:
    return [(reading.start_s, reading.end_s) for reading in readings]


class TestAnyCutting:
    """How a stream is cut into pushes does not show: readings are equal to the last bit."""

    @pytest.mark.parametrize("seed", range(5))
    def test_a_long_stream(self, chain: Model, stream: Stream, seed: int) -> None:
        long, windows = stream.again(3), SessionOptions(3.0, 1.0)
        expected = read(chain, in_turn(long, random.Random(99), 0.0), long.end_s, windows)
        pieces = in_turn(long, random.Random(seed), late_s=2.0)
        assert read(chain, pieces, long.end_s, windows) == expected
        assert len(expected) == 10
        assert {reading.modalities for reading in expected} == {("visual", "audio")}

    def test_one_kind_after_the_other(self, chain: Model, stream: Stream) -> None:
        windows = SessionOptions(2.0, 0.5)
        sound_first = read(chain, [stream.sound, *stream.pictures], stream.end_s, windows)
        pictures_first = read(chain, [*stream.pictures, stream.sound], stream.end_s, windows)
        assert sound_first == pictures_first
        assert len(sound_first) == 5

    def test_the_file_and_the_stream_agree(
        self, chain: Model, stream: Stream, pipeline: Pipeline, anger: Path
    ) -> None:
        for windows in (DEFAULT, SessionOptions(1.5, 0.7)):
            pieces = in_turn(stream, random.Random(7), late_s=1.0)
            streamed = read(chain, pieces, stream.end_s, windows)
            assert tuple(streamed) == pipeline.analyze(anger, windows).windows

    def test_when_readings_are_taken_does_not_matter(self, chain: Model, stream: Stream) -> None:
        windows = SessionOptions(1.0, 0.5)
        session = Session(chain, windows)
        for piece in in_turn(stream, random.Random(3), late_s=1.0):
            push(session, piece)
        session.close(stream.end_s)
        at_the_end = session.readings()
        pieces = in_turn(stream, random.Random(4), late_s=1.0)
        assert at_the_end == read(chain, pieces, stream.end_s, windows)
        assert session.readings() == []  # each is given once

    def test_other_readings_would_differ(self, chain: Model, stream: Stream) -> None:
        """The equalities above would prove little if all readings were alike."""
        readings = read(
            chain, [stream.sound, *stream.pictures], stream.end_s, SessionOptions(1.0, 0.5)
        )
        assert len({str(reading.scores) for reading in readings}) == len(readings)


def silent(chain: Model, end_s: float, windows: SessionOptions = DEFAULT) -> list[Reading]:
    """The readings of silence."""
    session = Session(chain, windows, has_video=False)
    session.push_audio(np.zeros(round(end_s * SAMPLE_RATE), np.float32))
    session.close()
    return session.readings()


class TestWindows:
    @pytest.mark.parametrize("end_s", [0.01, 0.5, 3.9, 4.0, 4.14, 4.49])
    def test_up_to_half_a_hop_over_a_window_is_one_window(self, chain: Model, end_s: float) -> None:
        assert spans(silent(chain, end_s)) == [(0.0, pytest.approx(end_s, abs=1e-4))]

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
    def test_longer_streams_slide(self, chain: Model, end_s: float, expected: list) -> None:
        assert spans(silent(chain, end_s)) == expected

    def test_a_minute_is_57_windows(self, chain: Model) -> None:
        assert spans(silent(chain, 60.0)) == [(start, start + 4.0) for start in range(57)]

    @given(window=st.integers(10, 50), hop=st.integers(1, 50), end=st.integers(1, 150))
    @settings(max_examples=60, deadline=None)
    def test_windows_cover_the_stream(self, chain: Model, window: int, hop: int, end: int) -> None:
        window_s, end_s = window / 10, end / 10
        hop_s = min(hop / 10, window_s)
        found = spans(silent(chain, end_s, SessionOptions(window_s, hop_s)))
        starts, ends = [span[0] for span in found], [span[1] for span in found]
        assert starts[0] == 0
        assert end_s - hop_s / 2 - 1e-6 <= ends[-1] <= end_s + 1e-6
        if len(found) > 1:
            assert [e - s for s, e in found] == pytest.approx([window_s] * len(found))
        steps = [after - before for before, after in itertools.pairwise(starts)]
        assert steps[:-1] == pytest.approx([hop_s] * len(steps[:-1]))
        assert all(hop_s / 2 - 1e-6 <= step <= hop_s + 1e-6 for step in steps)

    def test_an_empty_stream_gives_nothing(self, chain: Model) -> None:
        session = Session(chain, DEFAULT)
        session.close()
        assert session.readings() == [] and session.tracks() == ()

    def test_pictures_alone_count_their_own_time(self, chain: Model) -> None:
        """The last picture is shown for as long as the others."""
        session = Session(chain, DEFAULT, has_audio=False)
        for index in range(30):
            session.push_frame(NOBODY, index * FRAME_S)
        session.close()
        readings = session.readings()
        assert spans(readings) == [(0, 4), (1, 5), (2, 6)]
        assert [reading.frames for reading in readings] == [20, 20, 20]

    def test_readings_come_with_the_stream(self, chain: Model) -> None:
        """Not only in the end: a window's once pictures and sound have come to its end."""
        session, first = Session(chain, DEFAULT), []
        for index in range(31):
            session.push_frame(NOBODY, index * FRAME_S)
            session.push_audio(np.zeros(3200, np.float32))
            first += [(index, *span) for span in spans(session.readings())]
        # The first window waits half a hop, as it might be the only one.
        assert first == [(23, 0, 4), (25, 1, 5), (30, 2, 6)]

    def test_bundle_takes_no_longer_windows(self, chain: Model) -> None:
        longest_s = chain.manifest.max_window_s
        Session(chain, SessionOptions(longest_s - 1.0, 1.0))
        with pytest.raises(ValueError, match="it must be at most the 10 s that the bundle compact"):
            Session(chain, SessionOptions(longest_s, 1.0))

    @pytest.mark.parametrize(
        ("windows", "told"),
        [
            (SessionOptions(0.0, 0.0), "the window is 0 s"),
            (SessionOptions(-4.0, 1.0), "the window is -4 s"),
            (SessionOptions(float("nan"), 1.0), "the window is nan s"),
            (SessionOptions(4.0, 0.0), "the hop is 0 s"),
            (SessionOptions(4.0, -1.0), "the hop is -1 s"),
            (SessionOptions(4.0, 4.5), "the hop is 4.5 s"),
            (SessionOptions(4.0, float("nan")), "the hop is nan s"),
            (SessionOptions(4.0, 1e-9), "the hop is 1e-09 s"),
            (SessionOptions(float("inf"), 1.0), "the window is inf s"),
            (SessionOptions(4.0, 1.0, "both"), "faces is 'both'"),
        ],
    )
    def test_impossible_windows(self, chain: Model, windows: SessionOptions, told: str) -> None:
        with pytest.raises(ValueError, match=told):
            Session(chain, windows)


class TestMissing:
    def test_sound_that_ends_early(self, chain: Model, stream: Stream) -> None:
        """Its windows come when the pictures are too far ahead, with the sound that there was."""
        session, at = Session(chain, DEFAULT), []
        sound = stream.sound[: 3 * SAMPLE_RATE]
        session.push_audio(sound)
        for picture in stream.again(4).pictures:
            session.push_frame(picture.image, picture.time_s)
            at += [(picture.time_s, reading) for reading in session.readings()]
        for time_s, reading in at:
            assert MAX_LAG_S <= time_s - reading.end_s < MAX_LAG_S + 0.5 + 2 * FRAME_S
        assert [reading.end_s for _, reading in at] == [4, 5, 6, 7, 8, 9, 10, 11]
        assert at[0][1].modalities == ("visual", "audio")
        assert {reading.modalities for _, reading in at[3:]} == {("visual",)}
        # What was heard is what a session finds that knows the sound's length.
        alone = Session(chain, DEFAULT, has_video=False)
        alone.push_audio(np.append(sound, np.zeros(2 * SAMPLE_RATE, np.float32)))
        alone.close()
        assert at[0][1].speech_s == pytest.approx(alone.readings()[0].speech_s, abs=0.2)

    def test_pictures_that_stop(self, chain: Model, stream: Stream) -> None:
        session = Session(chain, DEFAULT)
        for picture in stream.pictures[:11]:  # 2 s
            session.push_frame(picture.image, picture.time_s)
        session.push_audio(stream.again(4).sound)
        readings = session.readings()
        assert spans(readings) == [(start, start + 4.0) for start in range(8)]
        assert [reading.frames for reading in readings] == [11, 6, 1, 0, 0, 0, 0, 0]
        assert readings[0].modalities == ("visual", "audio")
        assert {reading.modalities for reading in readings[3:]} == {("audio",)}
        assert all(reading.track is None for reading in readings[3:])

    def test_what_comes_too_late_is_counted(self, chain: Model) -> None:
        session = Session(chain, DEFAULT)
        session.push_audio(np.zeros(10 * SAMPLE_RATE, np.float32))  # so 0 to 5 s are read
        assert len(session.readings()) == 2
        for index in range(40):
            session.push_frame(NOBODY, index * FRAME_S)
        assert session.late_s == {"sound": 0.0, "video": pytest.approx(5.0)}

    def test_a_longer_lag_can_be_waited_for(self, chain: Model, stream: Stream) -> None:
        long = stream.again(3)
        waits = Session(chain, DEFAULT, max_lag_s=60.0)
        for piece in [*long.pictures, long.sound]:
            push(waits, piece)
        waits.close(long.end_s)
        pieces = in_turn(long, random.Random(1), 0.5)
        assert waits.readings() == read(chain, pieces, long.end_s)

    def test_pictures_that_never_come(self, chain: Model, stream: Stream) -> None:
        session = Session(chain, DEFAULT)
        session.push_audio(stream.again(3).sound)
        readings = session.readings()
        assert len(readings) == 4
        assert {reading.modalities for reading in readings} == {("audio",)}

    def test_nothing_to_see_or_hear_is_said(self, chain: Model) -> None:
        session = Session(chain, DEFAULT)
        session.push_audio(np.zeros(4 * SAMPLE_RATE, np.float32))
        for index in range(20):
            session.push_frame(np.zeros((90, 160, 3), np.uint8), index * FRAME_S)
        session.close()
        [reading] = session.readings()
        assert (reading.scores, reading.visual, reading.audio) == (None, None, None)
        assert (reading.label, reading.modalities, reading.track) == (None, (), None)
        assert (reading.frames, reading.faces, reading.speech_s) == (20, 0, 0.0)

    def test_a_moment_of_speech_is_too_little(self, chain: Model, stream: Stream) -> None:
        """The bundle tells how much the voice needs; with less, the face alone counts."""
        needed_s = chain.manifest.min_speech_s
        greedy = replace(chain, manifest=replace(chain.manifest, min_speech_s=100.0))
        [heard] = read(chain, [stream.sound, *stream.pictures], stream.end_s)
        [unheard] = read(greedy, [stream.sound, *stream.pictures], stream.end_s)
        assert heard.speech_s == unheard.speech_s > needed_s
        assert heard.modalities == ("visual", "audio") and unheard.modalities == ("visual",)
        assert unheard.scores == unheard.visual == heard.visual


class TestFaces:
    @pytest.fixture(scope="class")
    @staticmethod
    def together(stream: Stream, other_stream: Stream) -> Stream:
        """Both actors, side by side; the one on the left is heard."""
        pictures = [
            Frame(left.time_s, np.hstack([left.image, right.image]))
            for left, right in zip(stream.pictures, other_stream.pictures, strict=False)
        ]
        end_s = pictures[-1].time_s + FRAME_S
        return Stream(pictures, stream.sound[: round(end_s * SAMPLE_RATE)], end_s)

    def test_all_faces_have_a_reading(self, chain: Model, together: Stream) -> None:
        pieces = [together.sound, *together.pictures]
        readings = read(chain, pieces, together.end_s, SessionOptions(2.0, 0.5, "all"))
        windows = [list(group) for _, group in itertools.groupby(readings, lambda r: r.start_s)]
        assert len(windows) == 4
        for main, other in windows:
            assert main.main and not other.main
            assert {main.track, other.track} == {0, 1}
            assert main.frames == other.frames
            assert min(main.faces, other.faces) >= main.frames - 1
            assert main.modalities == ("visual", "audio")
            # Which face speaks is not known: the voice goes with the main one.
            assert other.modalities == ("visual",)
            assert other.speech_s == 0.0
            assert other.scores == other.visual != main.visual

    def test_the_main_face_is_read_as_if_it_were_alone(
        self, chain: Model, together: Stream
    ) -> None:
        pieces = [together.sound, *together.pictures]
        every = read(chain, pieces, together.end_s, SessionOptions(2.0, 0.5, "all"))
        main = read(chain, pieces, together.end_s, SessionOptions(2.0, 0.5))
        assert main == [reading for reading in every if reading.main]

    def test_the_larger_face_is_the_main_one(
        self, chain: Model, stream: Stream, other_stream: Stream
    ) -> None:
        for left_is_larger in (True, False):
            session = Session(chain, DEFAULT, keep_sightings=True)
            for left, right in zip(stream.pictures[:10], other_stream.pictures[:10], strict=True):
                images = [left.image, right.image]
                small = cv2.resize(images[left_is_larger], None, fx=0.5, fy=0.5)
                images[left_is_larger] = cv2.copyMakeBorder(
                    small, 180, 0, 0, 0, cv2.BORDER_CONSTANT
                )
                session.push_frame(np.hstack(images), left.time_s)
            session.close()
            [reading] = session.readings()
            boxes = [s for s in session.sightings if s.track == reading.track]
            seen_left = [s.right < images[0].shape[1] for s in boxes]
            assert seen_left == [left_is_larger] * len(boxes) and len(boxes) == 10

    def test_a_larger_face_that_comes_later_is_the_main_one(
        self, chain: Model, stream: Stream, other_stream: Stream
    ) -> None:
        session = Session(chain, DEFAULT)
        for index, picture in enumerate(stream.pictures[:10]):
            small = cv2.resize(other_stream.pictures[index].image, None, fx=0.5, fy=0.5)
            small = cv2.copyMakeBorder(small, 0, 180, 0, 0, cv2.BORDER_CONSTANT)
            large = picture.image if index >= 4 else np.zeros_like(picture.image)
            session.push_frame(np.hstack([small, large]), picture.time_s)
        session.close()
        [reading] = session.readings()
        assert [track.faces for track in session.tracks()] == [10, 6]
        assert (reading.track, reading.faces, reading.frames) == (1, 6, 10)

    def test_tracks_tell_who_was_there(self, chain: Model, together: Stream) -> None:
        session = Session(chain, DEFAULT, keep_sightings=True)
        for piece in [together.sound, *together.pictures]:
            push(session, piece)
        tracks = session.tracks()
        assert [track.track for track in tracks] == [0, 1]
        assert all(track.faces >= len(together.pictures) - 1 for track in tracks)
        assert len(session.sightings) == sum(track.faces for track in tracks)

    def test_sightings_are_kept_only_where_asked_for(self, chain: Model, stream: Stream) -> None:
        session = Session(chain, DEFAULT)
        session.push_frame(stream.pictures[0].image, 0.0)
        assert session.sightings == [] and len(session.tracks()) == 1


class TestMemory:
    def test_holds_a_window_however_long_it_goes_on(self, chain: Model, stream: Stream) -> None:
        session, sizes = Session(chain, DEFAULT), []
        minute = stream.again(15)
        sound = np.array_split(minute.sound, len(minute.pictures))
        for picture, samples in zip(minute.pictures, sound, strict=True):
            session.push_frame(picture.image, picture.time_s)
            session.push_audio(samples)
            session.readings()
            sizes.append(held(session))
        assert minute.end_s > 60
        frames_s, sound_s = (max(size) for size in zip(*sizes, strict=True))
        longest_s = DEFAULT.window_s + DEFAULT.hop_s + FRAME_S
        assert frames_s <= longest_s / FRAME_S + 1
        assert sound_s <= longest_s

    def test_sound_that_is_always_too_late_does_not_pile_up(self, chain: Model) -> None:
        """A microphone that was opened long after the camera."""
        session = Session(chain, DEFAULT)
        for index in range(round(60 / FRAME_S)):
            session.push_frame(NOBODY, index * FRAME_S)
            if index * FRAME_S >= 20:
                session.push_audio(np.zeros(3200, np.float32))
        assert held(session)[1] <= DEFAULT.hop_s + 1
        assert session.late_s == {"sound": pytest.approx(40.0), "video": 0.0}

    def test_pictures_without_sound_do_not_pile_up(self, chain: Model) -> None:
        session = Session(chain, DEFAULT)
        for index in range(round(60 / FRAME_S)):
            session.push_frame(NOBODY, index * FRAME_S)
        assert held(session)[0] * FRAME_S <= DEFAULT.window_s + DEFAULT.hop_s + MAX_LAG_S


def held(session: Session) -> tuple[int, float]:
    """Pictures, and seconds of sound, that a session holds."""
    speech = session._speech
    samples = len(speech._samples) + sum(len(piece) for piece in speech._pieces)
    return len(session._frames), samples / SAMPLE_RATE


class TestWrongInput:
    @pytest.fixture
    def session(self, chain: Model) -> Session:
        return Session(chain, DEFAULT)

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
    def test_picture_of_another_form(self, session: Session, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"a picture is \(height, width, 3\) uint8, not") as e:
            session.push_frame(image, 0.0)
        assert f"{image.shape} {image.dtype}" in str(e.value)

    @pytest.mark.parametrize("time_s", [1.0, 0.5, float("nan"), float("inf"), -1.0, 1.7e9])
    def test_picture_at_an_impossible_time(self, session: Session, time_s: float) -> None:
        """The last is the time of day: taken as it is, it would be centuries of windows."""
        session.push_frame(NOBODY, 1.0)
        with pytest.raises(ValueError, match="the picture"):
            session.push_frame(NOBODY, time_s)
        session.push_frame(NOBODY, 1.2)  # the session goes on

    @pytest.mark.parametrize("time_s", [float("nan"), float("inf"), -0.1, 1.7e9])
    def test_first_picture_at_an_impossible_time(self, session: Session, time_s: float) -> None:
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
    def test_sound_of_another_form(self, session: Session, samples: np.ndarray) -> None:
        with pytest.raises(ValueError, match="sound"):
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

    def test_picture_mirrored_or_with_colours_turned_by_a_view(
        self, chain: Model, stream: Stream
    ) -> None:
        """As OpenCV and PyAV users write them; such arrays run backwards in memory."""
        image = stream.pictures[0].image
        for view in (image[:, ::-1], image[..., ::-1]):
            one, other = Session(chain, DEFAULT), Session(chain, DEFAULT)
            one.push_frame(view, 0.0)
            other.push_frame(np.ascontiguousarray(view), 0.0)
            one.close()
            other.close()
            assert one.readings() == other.readings()
            assert one.tracks() == other.tracks() != ()
