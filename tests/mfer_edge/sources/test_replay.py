"""Replays: the clip's own frames and audio, at the times at which a live source would have them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.sources.replay import Replay
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import write_clip
from tests.support.footage import filmed, images_of

RATE = 5.0


@pytest.fixture(scope="module")
def voice(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    audio = read_audio(anger)[None, 22_400:48_000]
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    return write_clip(path, audio=audio, rate=SAMPLE_RATE, video=None)


@pytest.fixture(scope="module")
def face(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    return filmed(path, images_of(anger)[7:15], None)


class TestOnce:
    def test_holds_what_the_clip_holds(self, anger: Path) -> None:
        replay = Replay.read(anger, RATE)
        with Clip(anger, RATE) as clip:
            items = list(clip)
        frames = [item for item in items if isinstance(item, Frame)]
        assert [frame.time_s for frame in replay.frames] == [frame.time_s for frame in frames]
        for held, frame in zip(replay.frames, frames, strict=True):
            np.testing.assert_array_equal(held.image, frame.image)
        np.testing.assert_array_equal(replay.audio, read_audio(anger))
        assert (replay.name, replay.duration_s) == (str(anger), clip.duration_s)

    def test_can_be_read_again_and_by_several_at_once(self, moment: Path) -> None:
        replay = Replay.read(moment, RATE)

        def times() -> list[float]:
            with replay:
                return [item.time_s for item in replay if isinstance(item, Frame)]

        once = times()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _: times(), range(8))) == [once] * 8
        assert len(once) == 8

    def test_gives_nothing_before_it_was_heard(self, moment: Path) -> None:
        heard_s = shown_s = 0.0
        for due_s, item in islice(Replay.read(moment, RATE).endless().timed(), 60):
            assert due_s >= max(heard_s, shown_s) - 1e-9
            if isinstance(item, AudioChunk):
                heard_s += len(item.samples) / SAMPLE_RATE
                assert due_s == pytest.approx(heard_s)
            else:
                shown_s = item.time_s
                assert due_s == shown_s

    def test_holds_no_more_than_asked(self, anger: Path) -> None:
        replay = Replay.read(anger, RATE, length_s=1.0)
        assert len(replay.frames) == 5
        assert (replay.duration_s, len(replay.audio)) == (1.0, SAMPLE_RATE)
        assert len(replay.endless().audio) == SAMPLE_RATE

    def test_of_one_track(self, voice: Path, face: Path) -> None:
        heard, seen = Replay.read(voice, RATE), Replay.read(face, RATE)
        assert (heard.has_video, heard.has_audio) == (False, True)
        assert (seen.has_video, seen.has_audio) == (True, False)
        for replay, path in ((heard, voice), (seen, face)):
            with Clip(path) as clip:
                assert replay.warnings() == clip.warnings() != ()
            assert (replay.endless().has_video, replay.endless().has_audio) == (
                replay.has_video,
                replay.has_audio,
            )

    def test_of_nothing_is_an_error(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.wav", audio=np.zeros((1, 0), np.float32), video=None)
        with pytest.raises(MediaError, match=r"clip\.wav"):
            Replay.read(path, RATE)


class TestEndless:
    def test_is_the_clip_in_order_of_time_again_and_again(self, moment: Path) -> None:
        replay = Replay.read(moment, RATE).endless()
        assert replay.length_s == pytest.approx(1.6)
        assert replay.duration_s is None
        assert len(replay.audio) == round(1.6 * SAMPLE_RATE)
        once = 8 + 16  # frames, and chunks of 0.1 s
        items = list(islice(replay.timed(), 3 * once))
        due = [due_s for due_s, _ in items]
        assert due == sorted(due)
        times = [item.time_s for _, item in items if isinstance(item, Frame)]
        assert np.allclose(np.diff(times), 0.2)
        audio = np.concatenate([i.samples for _, i in items if not isinstance(i, Frame)])
        assert np.array_equal(audio, np.tile(replay.audio, 3))
        expected = read_audio(moment)
        assert np.array_equal(replay.audio[: len(expected)], expected[: len(replay.audio)])
