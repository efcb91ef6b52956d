"""Slow and still videos: a frame lasts until the next, in a file, a replay and a live session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from mfer_edge.model import Model
from mfer_edge.options import SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading
from mfer_edge.session import Session
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.sources.replay import Replay
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import write_clip
from tests.support.footage import images_of
from tests.support.paths import shared_cases
from tests.support.sessions import DEFAULT, FRAME_S, Stream, read


@pytest.fixture(scope="module")
def actor(anger: Path) -> np.ndarray:
    return images_of(anger)[10]


def still(
    path: Path, image: np.ndarray, times_s: Sequence[float], audio: np.ndarray | None
) -> Path:
    """Write one image, shown anew at some times."""
    return write_clip(
        path,
        fps=25,
        size=(image.shape[1], image.shape[0]),
        video=lambda index: image,
        frame_times_s=times_s,
        audio=None if audio is None else audio[None],
        rate=SAMPLE_RATE,
    )


def counts(readings: Sequence[Reading]) -> list[tuple[int, int]]:
    return [(reading.frames, reading.faces) for reading in readings]


class TestClips:
    @pytest.mark.parametrize(("ending", "with_sound"), [(".mp4", True), (".mkv", False)])
    def test_slides_are_read_like_a_fast_video_of_them(
        self,
        pipeline: Pipeline,
        actor: np.ndarray,
        anger: Path,
        tmp_path: Path,
        ending: str,
        with_sound: bool,
    ) -> None:
        audio = np.tile(read_audio(anger)[: 4 * SAMPLE_RATE], 4) if with_sound else None
        slow = still(tmp_path / f"slow{ending}", actor, [0, 7, 14], audio)
        analysis = pipeline.analyze(slow)
        windows = analysis.windows
        within = [window for window in windows if window.end_s <= 14]
        assert counts(within) == [(20, 20)] * 11
        assert {window.track for window in within} == {0}
        [track] = analysis.tracks
        assert (track.start_s, track.faces) == (0, 3)
        heard = None if audio is None else audio[: 4 * SAMPLE_RATE]
        fast = still(tmp_path / "fast.mp4", actor, [n / 5 for n in range(20)], heard)
        expected = pipeline.analyze(fast).windows[0]
        assert windows[0].scores is not None and expected.scores is not None
        for label, score in expected.scores.items():
            assert windows[0].scores[label] == pytest.approx(score, abs=0.05)

    @pytest.mark.parametrize("times_s", [[0, 7, 14], [0, 0.5, 1.5, 30], [3], [0, 1, 2, 2.4, 9]])
    def test_a_file_and_its_replay_agree(
        self, pipeline: Pipeline, actor: np.ndarray, tmp_path: Path, times_s: list[float]
    ) -> None:
        audio = np.zeros(round(35 * SAMPLE_RATE), np.float32)
        small = np.ascontiguousarray(actor[::2, ::2])
        path = still(tmp_path / "clip.mkv", small, times_s, audio)
        replay = Replay.read(path, frame_rate=5.0, length_s=60.0)
        from_file = list(pipeline.stream(path))
        assert list(pipeline.stream(replay)) == from_file
        assert sum(reading.faces > 0 for reading in from_file) > 3

    def test_a_picture_under_a_talk(
        self, pipeline: Pipeline, actor: np.ndarray, anger: Path, tmp_path: Path
    ) -> None:
        """One picture, held for all of the sound by its track's length."""
        path = still(tmp_path / "clip.mp4", actor, [0, 3.9], read_audio(anger)[: 4 * SAMPLE_RATE])
        [window] = pipeline.analyze(path).windows
        assert window.faces == window.frames >= 20
        assert window.modalities == ("visual", "audio")

    def test_a_video_that_ends_early_is_over(
        self, pipeline: Pipeline, actor: np.ndarray, tmp_path: Path
    ) -> None:
        audio = np.zeros(12 * SAMPLE_RATE, np.float32)
        for ending in (".mp4", ".mkv"):
            path = still(tmp_path / f"a{ending}", actor, [n / 25 for n in range(50)], audio)
            windows = pipeline.analyze(path).windows
            assert [w.frames for w in windows] == [10, 5, 0, 0, 0, 0, 0, 0, 0]

    def test_windows_shorter_than_a_frame(self, pipeline: Pipeline, anger: Path) -> None:
        windows = pipeline.analyze(anger, SessionOptions(0.1, 0.1)).windows
        assert len(windows) == 41
        assert {window.frames for window in windows} == {1}
        assert {window.faces for window in windows} == {1}

    def test_a_picture_held_for_over_an_hour(self, pipeline: Pipeline) -> None:
        analysis = pipeline.analyze(shared_cases("gap4000.mp4"))
        assert analysis.duration_s == 4002
        assert len(analysis.windows) == 3999
        assert all(window.frames == window.faces == 20 for window in analysis.windows)
        assert len(analysis.tracks) == 1


class TestLive:
    def test_slow_frames_count_until_the_next(self, model: Model, stream: Stream) -> None:
        """A screen share: a frame every 7 s, and sound all the time."""
        session, found = Session(model, DEFAULT), []
        for second in range(40):
            if second % 7 == 0:
                session.push_frame(stream.frames[0].image, float(second))
            session.push_audio(np.zeros(SAMPLE_RATE, np.float32))
            found += session.readings()
        assert counts(found) == [(20, 20)] * len(found) and len(found) > 30
        assert [track.track for track in session.tracks()] == [0]

    def test_the_end_is_that_of_the_last_frame(self, model: Model, stream: Stream) -> None:
        session = Session(model, DEFAULT, has_audio=False)
        for time_s in (0.0, 3.0):
            session.push_frame(stream.frames[0].image, time_s)
        session.close()
        assert counts(session.readings())[0] == (20, 20)

    def test_a_frame_of_known_end(self, model: Model, stream: Stream) -> None:
        image = stream.frames[0].image
        frames = [Frame(0.0, image), Frame(FRAME_S, image, until_s=1.4)]
        [reading] = read(model, [*frames, replace(stream.chunk)], 4.0)
        assert counts([reading]) == [(7, 7)]

    def test_one_frame_fills_window_after_window_at_no_cost(
        self, model: Model, stream: Stream
    ) -> None:
        session = Session(model, DEFAULT, has_audio=False)
        session.push_frame(stream.frames[0].image, 0.0)
        session.push_frame(stream.frames[0].image, 3600.0)
        readings = session.readings()
        assert len(readings) == 3597
        assert len({str(reading.scores) for reading in readings}) == 1
        assert len(session._shown) == 2


def test_end_of_a_slide_show_is_told_by_its_header(tmp_path: Path) -> None:
    """The last slide of an mp4 lasts as long as the file says."""
    image = np.zeros((48, 64, 3), np.uint8)
    plain = still(tmp_path / "plain.mp4", image, [0, 5, 10], None)
    path = tmp_path / "slides.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.duration = round(5 / packet.time_base)
                packet.stream = track
                target.mux(packet)
    with Clip(path) as clip:
        frames = [item for item in clip if isinstance(item, Frame)]
    assert [frame.until_s for frame in frames] == [15.0] * 3
    assert clip.duration_s == 15.0
