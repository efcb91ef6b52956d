"""Clips: frames by presentation time, one pass, bounded memory."""

from __future__ import annotations

import math
import os
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import frame_number, sine, write_clip
from tests.support.paths import shared_data

WITH_VIDEO = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts"]
AV_CLIPS = [
    "01-01-01-01-01-02-01",
    "01-01-01-01-01-02-04",
    "01-01-05-02-02-01-01",
    "01-01-06-02-01-02-04",
]


def frames_of(path: Path, frame_rate: float = 5.0) -> list[Frame]:
    with Clip(path, frame_rate) as clip:
        return [item for item in clip if isinstance(item, Frame)]


def numbers_of(path: Path, frame_rate: float = 5.0) -> list[int]:
    return [frame_number(frame.image) for frame in frames_of(path, frame_rate)]


def first_at_or_after_each_tick(times: list[Fraction], rate: int = 5) -> list[int]:
    """The frames wanted: for each tick that the video covers, the first one shown from then on."""
    ticks = range(math.floor(times[-1] * rate) + 1)
    wanted = [next(i for i, t in enumerate(times) if t >= Fraction(tick, rate)) for tick in ticks]
    return sorted(set(wanted))


class TestFrames:
    @pytest.mark.parametrize(
        "fps", [Fraction(24), Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(60)]
    )
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_five_a_second_at_any_frame_rate(
        self, tmp_path: Path, suffix: str, fps: Fraction
    ) -> None:
        path = write_clip(tmp_path / f"clip{suffix}", 3.0, fps)
        times = [index / fps for index in range(round(3 * fps))]
        found = frames_of(path)
        wanted = first_at_or_after_each_tick(times)
        assert [frame_number(frame.image) for frame in found] == wanted
        assert [p.time_s for p in found] == pytest.approx(
            [float(times[i]) for i in wanted], abs=1e-3
        )
        assert len(found) == 15

    @given(gaps_ms=st.lists(st.integers(5, 700), min_size=1, max_size=40))
    @settings(max_examples=25)
    def test_five_a_second_at_a_frame_rate_that_varies(
        self, tmp_path_factory: pytest.TempPathFactory, gaps_ms: list[int]
    ) -> None:
        times = [Fraction(sum(gaps_ms[:count]), 1000) for count in range(len(gaps_ms) + 1)]
        path = tmp_path_factory.mktemp("vfr") / "clip.mkv"
        write_clip(path, frame_times_s=[float(time) for time in times], video_codec="libvpx")
        assert numbers_of(path) == first_at_or_after_each_tick(times)

    @pytest.mark.parametrize("suffix", WITH_VIDEO)
    def test_containers(self, tmp_path: Path, suffix: str) -> None:
        path = write_clip(tmp_path / f"clip{suffix}", 2.0, 30, audio=sine(2.0, channels=2))
        with Clip(path) as clip:
            assert clip.has_video and clip.has_audio
            assert clip.duration_s == pytest.approx(2.0, abs=0.05)
            found = [item for item in clip if isinstance(item, Frame)]
        assert [frame_number(frame.image) for frame in found] == list(range(0, 60, 6))
        assert all(frame.image.shape == (48, 64, 3) for frame in found)
        assert all(frame.image.dtype == np.uint8 for frame in found)
        assert clip.duration_s == pytest.approx(2.0, abs=0.05)
        assert clip.damaged == 0

    def test_slow_video_gives_each_frame_once(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 4.0, 2)
        assert [frame.time_s for frame in frames_of(path)] == [0.5 * n for n in range(8)]

    @pytest.mark.parametrize(("frame_rate", "wanted"), [(1, 2), (2.5, 5), (10, 20), (100, 50)])
    def test_other_frame_rates(self, tmp_path: Path, frame_rate: float, wanted: int) -> None:
        path = write_clip(tmp_path / "clip.mp4", 2.0, 25)
        assert len(frames_of(path, frame_rate)) == wanted

    def test_time_stamps_rounded_to_the_containers_unit(self, tmp_path: Path) -> None:
        # In Matroska the frame at 1/3 s has the time stamp 0.333, before the tick.
        path = write_clip(tmp_path / "clip.mkv", 3.0, 30)
        assert numbers_of(path, frame_rate=3) == list(range(0, 90, 10))

    def test_video_without_time_stamps(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.h264", 2.0, 25)
        found = frames_of(path)
        assert [frame_number(frame.image) for frame in found] == list(range(0, 50, 5))
        assert found[-1].time_s == pytest.approx(1.8)

    def test_clip_starts_at_zero_whatever_its_time_stamps(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.ts", 2.0, 25, video_start_s=100.0)
        with av.open(str(path)) as container:
            assert container.start_time >= 100 * av.time_base
        with Clip(path) as clip:
            found = [item for item in clip if isinstance(item, Frame)]
        assert [frame.time_s for frame in found] == pytest.approx([n / 5 for n in range(10)])
        assert clip.duration_s == pytest.approx(2.0, abs=0.05)

    @pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
    @pytest.mark.parametrize("rotation", [0, 90, 180, 270])
    def test_phone_video_is_turned_upright(
        self, tmp_path: Path, suffix: str, rotation: int
    ) -> None:
        upright = np.zeros((64, 96, 3), np.uint8)  # white above left, grey above right
        upright[:32, :48], upright[:32, 48:] = 255, 128
        stored = np.rot90(upright, -rotation // 90)  # a player turns it counterclockwise
        path = tmp_path / f"clip{suffix}"
        size = (stored.shape[1], stored.shape[0])
        write_clip(path, 0.4, 10, size, video=lambda index: stored.copy(), rotation=rotation)
        (shown, _) = frames_of(path)
        assert shown.image.shape == upright.shape
        assert np.abs(shown.image.astype(int) - upright).mean() < 8
        ok, by_opencv = cv2.VideoCapture(str(path)).read()
        assert ok
        np.testing.assert_array_equal(shown.image, by_opencv)

    @pytest.mark.parametrize("name", AV_CLIPS)
    def test_real_clip_against_opencv(self, name: str) -> None:
        path = shared_data("RAVDESS_AV", f"{name}.mp4")
        capture = cv2.VideoCapture(str(path))
        frames = []
        while True:
            ok, image = capture.read()
            if not ok:
                break
            frames.append(image)
        times = [Fraction(1001, 30_000) * index for index in range(len(frames))]
        wanted = first_at_or_after_each_tick(times)
        found = frames_of(path)
        assert [p.time_s for p in found] == pytest.approx([float(times[i]) for i in wanted])
        for frame, index in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(frame.image, frames[index])


class TestClip:
    def test_can_be_read_once(self, tmp_path: Path) -> None:
        with Clip(write_clip(tmp_path / "clip.mp4", 0.4)) as clip:
            assert len(list(clip)) == 2
            with pytest.raises(MediaError, match="was read already; open it again"):
                list(clip)

    @pytest.mark.parametrize("begun", [False, True])
    def test_reading_on_after_it_was_closed(self, tmp_path: Path, begun: bool) -> None:
        path = write_clip(tmp_path / "clip.mp4", 2.0, audio=sine(2.0))
        with Clip(path) as clip:
            items = iter(clip)
            if begun:
                next(items)
        with pytest.raises(MediaError, match="was closed"):
            list(items)

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
    @pytest.mark.parametrize("whole", [True, False])
    def test_closes_its_file(self, tmp_path: Path, whole: bool) -> None:
        path = write_clip(tmp_path / "clip.mp4", 2.0)

        def is_open() -> bool:
            links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
            return str(path) in [os.readlink(link) for link in links if os.path.lexists(link)]

        with Clip(path) as clip:
            assert is_open()
            next(iter(clip))
            if not whole:
                assert is_open()
        assert not is_open()

    def test_duration_is_what_was_there(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mkv", 2.0, 25, audio=sine(1.2))
        with Clip(path) as clip:
            assert clip.duration_s == pytest.approx(2.0, abs=0.01)
            list(clip)
        assert clip.duration_s == pytest.approx(2.0, abs=1e-6)
        path = write_clip(tmp_path / "clip.mkv", 1.2, 25, audio=sine(2.0))
        with Clip(path) as clip:
            list(clip)
        assert clip.duration_s == pytest.approx(2.0, abs=1e-6)

    def test_audio_alone_leaves_the_video_undecoded(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 2.0, audio=sine(2.0))
        with Clip(path) as clip:
            both = [item.samples for item in clip if isinstance(item, AudioChunk)]
        with Clip(path, frame_rate=None) as clip:
            assert clip.has_video
            items = list(clip)
        assert all(isinstance(item, AudioChunk) for item in items)
        np.testing.assert_array_equal(read_audio(path), np.concatenate(both))

    @pytest.mark.parametrize("name", ["a:b.mp4", "100%.mp4", "it's %03d [1].mp4", "lächeln.mp4"])
    def test_names_that_ffmpeg_would_read_something_into(self, tmp_path: Path, name: str) -> None:
        written = write_clip(tmp_path / "plain.mp4", 0.4)
        path = tmp_path / name
        path.write_bytes(written.read_bytes())
        assert len(frames_of(path)) == 2

    def test_title_that_is_no_utf_8(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.wav", audio=sine(0.5))
        title = "Grüße".encode("latin-1") + b"\0"
        info = b"INFOINAM" + len(title).to_bytes(4, "little") + title
        path.write_bytes(path.read_bytes() + b"LIST" + len(info).to_bytes(4, "little") + info)
        assert len(read_audio(path)) == SAMPLE_RATE // 2

    def test_relative_path_with_a_colon(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_clip(tmp_path / "plain.mp4", 0.4).rename(tmp_path / "12:30.mp4")
        monkeypatch.chdir(tmp_path)
        assert len(frames_of(Path("12:30.mp4"))) == 2

    def test_memory_does_not_grow_with_the_length(self, tmp_path: Path) -> None:
        def peak(seconds: float) -> int:
            path = tmp_path / f"{seconds}.mkv"
            audio = sine(seconds, SAMPLE_RATE)
            write_clip(path, seconds, 1, audio=audio, rate=SAMPLE_RATE, video_codec="mpeg4")
            tracemalloc.start()
            with Clip(path) as clip:
                for _ in clip:
                    pass
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert clip.duration_s == pytest.approx(seconds, abs=0.01)
            return most

        assert peak(240) < 1.5 * peak(20) + 100_000  # four minutes of audio alone are 15 MB
