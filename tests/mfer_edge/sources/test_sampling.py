"""Frames that nobody takes are not decoded, and the others are the same as if they were."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.errors import MediaError
from mfer_edge.samples import ANGER
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.sampling import FrameSkipper, Sampler
from tests.support.clips import write_clip
from tests.support.paths import shared_data

RATE = 5.0  # frames a second
X264 = {
    "no B-frames": {"bf": "0"},
    "three B-frames": {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=none"},
    "pyramid": {"bf": "8", "x264-params": "b-adapt=0:b-pyramid=normal"},
    "strict pyramid": {"bf": "7", "x264-params": "b-adapt=0:b-pyramid=strict"},
    "sixteen B-frames": {"bf": "16", "x264-params": "b-adapt=0:b-pyramid=normal"},
    "open groups": {"bf": "4", "x264-params": "b-adapt=0:open-gop=1:keyint=13:min-keyint=13"},
    "interlaced": {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=none:tff=1"},
    "three slices": {"bf": "3", "x264-params": "b-adapt=0:slices=3"},
}


def moving(index: int) -> np.ndarray:
    """A texture that moves and changes, so that each frame is predicted from others."""
    noise = np.random.default_rng(7).integers(0, 256, (48, 64, 3))
    fresh = np.random.default_rng(index).integers(-20, 21, (48, 64, 3))
    return (np.roll(noise, index, axis=1) + fresh).clip(0, 255).astype(np.uint8)


def every_frame(path: Path) -> list[tuple[float, np.ndarray]]:
    """Decode everything, in order of time, counted from the clip's start."""
    with av.open(str(path)) as container:
        start_s = container.start_time / av.time_base
        frames = list(container.decode(video=0))
        return [(frame.time - start_s, frame.to_ndarray(format="bgr24")) for frame in frames]


def first_of_each_tick(
    frames: list[tuple[float, np.ndarray]], slack_s: float
) -> list[tuple[float, np.ndarray]]:
    """Take the first frame at or after each tick, slower and by another rule than `Sampler`."""
    taken = []
    due = 0
    for time_s, image in frames:
        if time_s + slack_s >= due / RATE:
            taken.append((time_s, image))
            due = next(n for n in range(due + 1, due + 10**6) if n / RATE > time_s + slack_s)
    return taken


def assert_same_frames(path: Path, threads: int = 0) -> None:
    with av.open(str(path)) as container:
        slack_s = 1e-6 + float(container.streams.video[0].time_base) / 2
    expected = first_of_each_tick(every_frame(path), slack_s)
    with Clip(path, RATE, threads) as clip:
        frames = [item for item in clip if isinstance(item, Frame)]
        assert not clip.damaged
    assert len(expected) > 3
    assert [p.time_s for p in frames] == pytest.approx([time_s for time_s, _ in expected], abs=1e-6)
    for frame, (_, image) in zip(frames, expected, strict=True):
        assert np.array_equal(frame.image, image)


def frames_of(path: Path, rate: float) -> list[Frame]:
    with Clip(path, rate) as clip:
        return [item for item in clip if isinstance(item, Frame)]


def decoded_frames(path: Path, rate: float = RATE) -> tuple[int, float]:
    """Count the frames that come out of a skipped decoder, and give the end that is told."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        video.thread_type = "AUTO"
        skipper = FrameSkipper(video, Sampler(rate, float(video.time_base)))
        count = 0
        for packet in container.demux(video):
            skipper.prepare(packet, container.start_time / av.time_base, damaged=False)
            for frame in packet.decode():
                skipper.observe(frame)
                count += 1
    return count, skipper.end_s


def skipped(
    container: InputContainer, skipper: FrameSkipper, damaged_from: float = math.inf
) -> int:
    """Decode a video, and count the packets for which the decoder may leave a frame out."""
    video = container.streams.video[0]
    count = 0
    for index, packet in enumerate(p for p in container.demux(video) if p.size):
        skipper.prepare(packet, 0.0, damaged=index >= damaged_from)
        count += video.codec_context.skip_frame == "NONREF"
        for frame in packet.decode():
            skipper.observe(frame)
    return count


class TestFramesAreTheSame:
    @pytest.mark.parametrize("threads", [0, 1, 3])
    @pytest.mark.parametrize("name", ["anger.mp4", "fear.mp4"])
    def test_of_the_samples(self, name: str, threads: int) -> None:
        assert_same_frames(ANGER.with_name(name), threads)

    @pytest.mark.parametrize(
        "name", ["01-01-05-02-02-01-01.mp4", "01-01-06-02-01-02-04.mp4"], ids=["skipped", "whole"]
    )
    def test_of_recordings(self, name: str) -> None:
        assert_same_frames(shared_data("RAVDESS_AV", name))

    @pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
    @pytest.mark.parametrize("encoding", X264.values(), ids=X264.keys())
    def test_of_every_kind_of_h264(
        self, tmp_path: Path, encoding: dict[str, str], ending: str
    ) -> None:
        path = write_clip(
            tmp_path / f"clip{ending}", seconds=2.5, fps=30, video=moving, encoding=encoding
        )
        assert_same_frames(path)

    def test_where_frames_come_at_odd_times(self, tmp_path: Path) -> None:
        gaps = np.random.default_rng(3).choice([0.01, 0.03, 0.07, 0.4], 60)
        path = write_clip(
            tmp_path / "clip.mp4",
            fps=100,
            frame_times_s=np.cumsum(gaps).tolist(),
            video=moving,
            encoding=X264["pyramid"],
        )
        assert_same_frames(path)

    @pytest.mark.parametrize("codec", ["libx265", "mpeg4"])
    def test_of_codecs_that_are_decoded_whole(self, tmp_path: Path, codec: str) -> None:
        path = write_clip(tmp_path / "clip.mkv", fps=25, seconds=2, video=moving, video_codec=codec)
        assert_same_frames(path)
        assert decoded_frames(path)[0] == 50


class TestDamage:
    def test_costs_no_more_frames_than_where_all_is_decoded(self, tmp_path: Path) -> None:
        path = write_clip(
            tmp_path / "clip.mp4", seconds=2, fps=30, video=moving, encoding=X264["three B-frames"]
        )
        whole, rng = path.read_bytes(), np.random.default_rng(0)
        read = 0
        for _ in range(40):
            damaged = bytearray(whole)
            for place in rng.integers(len(whole) // 20, len(whole), 3):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                every = frames_of(path, 30.0)  # takes each frame, so that none is left out
            except MediaError:
                continue
            read += 1
            expected = first_of_each_tick([(p.time_s, p.image) for p in every], 1e-3)
            assert abs(len(frames_of(path, RATE)) - len(expected)) <= 1
        assert read > 20


class TestSparing:
    @pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
    @pytest.mark.parametrize("kind", ["three B-frames", "strict pyramid"])
    def test_leaves_out_what_no_frame_needs(self, tmp_path: Path, kind: str, ending: str) -> None:
        path = write_clip(
            tmp_path / f"clip{ending}", seconds=4, fps=30, video=moving, encoding=X264[kind]
        )
        every, _ = decoded_frames(path, rate=30.0)
        one_a_second, _ = decoded_frames(path, rate=1.0)
        assert every == 120
        # Three quarters of them no other frame needs, but for a middle one in each of 15 pyramids;
        # one a second is taken, and some come before the first frame is there.
        needed = 30 if kind == "three B-frames" else 15 + 15
        assert needed <= one_a_second <= needed + 4 + 8

    def test_takes_all_where_every_frame_is_wanted(self, tmp_path: Path) -> None:
        path = write_clip(
            tmp_path / "clip.mp4", seconds=1, fps=30, video=moving, encoding=X264["pyramid"]
        )
        assert decoded_frames(path, rate=30.0)[0] == 30

    def test_takes_all_of_what_may_be_half_frames(self, tmp_path: Path) -> None:
        path = write_clip(
            tmp_path / "clip.ts", seconds=1, fps=30, video=moving, encoding=X264["interlaced"]
        )
        assert decoded_frames(path)[0] == 30

    def test_knows_the_end_that_was_left_out(self, tmp_path: Path) -> None:
        path = write_clip(
            tmp_path / "clip.mp4",
            seconds=4,
            fps=30,
            video=moving,
            encoding=X264["three B-frames"],
        )
        with Clip(path, RATE) as clip:
            for _ in clip:
                pass
            assert clip.duration_s == pytest.approx(4.0, abs=1e-3)
        _, end_s = decoded_frames(path)
        assert 3.8 < end_s <= 4.0 + 1e-3

    def test_decodes_all_after_damage(self, tmp_path: Path) -> None:
        path = write_clip(
            tmp_path / "clip.mp4", seconds=1, fps=30, video=moving, encoding=X264["pyramid"]
        )
        with av.open(str(path)) as container:
            skipper = FrameSkipper(container.streams.video[0], Sampler(RATE, 0.0))
            assert skipped(container, skipper) > 15
        with av.open(str(path)) as container:
            skipper = FrameSkipper(container.streams.video[0], Sampler(RATE, 0.0))
            assert skipped(container, skipper, damaged_from=2) <= 2

    def test_decodes_all_where_time_starts_anew(self, tmp_path: Path) -> None:
        path = write_clip(
            tmp_path / "clip.mp4", seconds=2, fps=30, video=moving, encoding=X264["pyramid"]
        )
        with av.open(str(path)) as container:
            skipper = FrameSkipper(container.streams.video[0], Sampler(RATE, 0.0))
            assert skipped(container, skipper) > 30
            container.seek(0)
            assert skipped(container, skipper) == 0


class TestSampler:
    @given(
        st.integers(1, 30),
        st.lists(st.integers(0, 10_000), min_size=1, max_size=50, unique=True),
    )
    def test_takes_the_first_frame_of_each_tick(self, rate: int, stamps: list[int]) -> None:
        """Against counting in whole milliseconds, of which no tick is half a unit off."""
        sampler = Sampler(rate, 0.001)
        taken = [stamp for stamp in sorted(stamps) if sampler.takes(stamp / 1000)]
        ticks: dict[int, int] = {}
        for stamp in sorted(stamps):
            ticks.setdefault(int((Fraction(2 * stamp + 1, 2000)) * rate), stamp)
        assert taken == list(ticks.values())
