"""Clips in: pictures by presentation time, 16 kHz mono sound on the clip's clock."""

from __future__ import annotations

import itertools
import math
import os
import random
import subprocess
import sys
import tracemalloc
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.errors import MediaError
from mfer_edge.sources import clip as clip_module
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip, read_sound
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import CODECS, numbered_picture, picture_number, sine, write_clip
from tests.support.paths import ROOT, shared_data

WITH_VIDEO = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts"]
TIMED = [".mp4", ".mov", ".mkv", ".webm", ".ts"]  # AVI keeps no time stamps
SOUND_ONLY = [".wav", ".flac", ".mp3", ".ogg", ".m4a"]
AV_CLIPS = [
    "01-01-01-01-01-02-01",
    "01-01-01-01-01-02-04",
    "01-01-05-02-02-01-01",
    "01-01-06-02-01-02-04",
]


def pictures_of(path: Path, frame_rate: float = 5.0) -> list[Frame]:
    with Clip(path, frame_rate) as clip:
        return [item for item in clip if isinstance(item, Frame)]


def numbers_of(path: Path, frame_rate: float = 5.0) -> list[int]:
    return [picture_number(picture.image) for picture in pictures_of(path, frame_rate)]


def first_at_or_after_each_tick(times: list[Fraction], rate: int = 5) -> list[int]:
    """The frames wanted: for each tick that the video covers, the first one shown from then on."""
    ticks = range(math.floor(times[-1] * rate) + 1)
    wanted = [next(i for i, t in enumerate(times) if t >= Fraction(tick, rate)) for tick in ticks]
    return sorted(set(wanted))


def tone_start_s(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(samples) > 0.2)) / SAMPLE_RATE


def delayed_sine(start_s: float, seconds: float, rate: int = 48_000) -> np.ndarray:
    """Silence, then a tone from start_s on."""
    sound = sine(seconds, rate)
    sound[:, : round(start_s * rate)] = 0
    return sound


class TestPictures:
    @pytest.mark.parametrize(
        "fps", [Fraction(24), Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(60)]
    )
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_five_a_second_at_any_frame_rate(
        self, tmp_path: Path, suffix: str, fps: Fraction
    ) -> None:
        path = write_clip(tmp_path / f"clip{suffix}", 3.0, fps)
        times = [index / fps for index in range(round(3 * fps))]
        found = pictures_of(path)
        wanted = first_at_or_after_each_tick(times)
        assert [picture_number(picture.image) for picture in found] == wanted
        assert [p.time_s for p in found] == pytest.approx(
            [float(times[i]) for i in wanted], abs=1e-3
        )
        assert len(found) == 15

    @given(gaps_ms=st.lists(st.integers(5, 700), min_size=1, max_size=40))
    @settings(max_examples=25, deadline=None)
    def test_five_a_second_at_a_frame_rate_that_varies(
        self, tmp_path_factory: pytest.TempPathFactory, gaps_ms: list[int]
    ) -> None:
        times = [Fraction(sum(gaps_ms[:count]), 1000) for count in range(len(gaps_ms) + 1)]
        path = tmp_path_factory.mktemp("vfr") / "clip.mkv"
        write_clip(path, frame_times_s=[float(time) for time in times], video_codec="libvpx")
        assert numbers_of(path) == first_at_or_after_each_tick(times)

    @pytest.mark.parametrize("suffix", WITH_VIDEO)
    def test_containers(self, tmp_path: Path, suffix: str) -> None:
        path = write_clip(tmp_path / f"clip{suffix}", 2.0, 30, sound=sine(2.0, channels=2))
        with Clip(path) as clip:
            assert clip.has_video and clip.has_audio
            assert clip.duration_s == pytest.approx(2.0, abs=0.05)
            found = [item for item in clip if isinstance(item, Frame)]
        assert [picture_number(picture.image) for picture in found] == list(range(0, 60, 6))
        assert all(picture.image.shape == (48, 64, 3) for picture in found)
        assert all(picture.image.dtype == np.uint8 for picture in found)
        assert clip.duration_s == pytest.approx(2.0, abs=0.05)
        assert clip.damaged == 0

    def test_slow_video_gives_each_frame_once(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 4.0, 2)
        assert [picture.time_s for picture in pictures_of(path)] == [0.5 * n for n in range(8)]

    @pytest.mark.parametrize(("frame_rate", "wanted"), [(1, 2), (2.5, 5), (10, 20), (100, 50)])
    def test_other_picture_rates(self, tmp_path: Path, frame_rate: float, wanted: int) -> None:
        path = write_clip(tmp_path / "clip.mp4", 2.0, 25)
        assert len(pictures_of(path, frame_rate)) == wanted

    def test_time_stamps_rounded_to_the_containers_unit(self, tmp_path: Path) -> None:
        # In Matroska the frame at 1/3 s has the time stamp 0.333, before the tick.
        path = write_clip(tmp_path / "clip.mkv", 3.0, 30)
        assert numbers_of(path, frame_rate=3) == list(range(0, 90, 10))

    def test_video_without_time_stamps(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.h264", 2.0, 25)
        found = pictures_of(path)
        assert [picture_number(picture.image) for picture in found] == list(range(0, 50, 5))
        assert found[-1].time_s == pytest.approx(1.8)

    def test_clip_starts_at_zero_whatever_its_time_stamps(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.ts", 2.0, 25, video_start_s=100.0)
        with av.open(str(path)) as container:
            assert container.start_time >= 100 * av.time_base
        with Clip(path) as clip:
            found = [item for item in clip if isinstance(item, Frame)]
        assert [picture.time_s for picture in found] == pytest.approx([n / 5 for n in range(10)])
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
        (shown, _) = pictures_of(path)
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
        found = pictures_of(path)
        assert [p.time_s for p in found] == pytest.approx([float(times[i]) for i in wanted])
        for picture, index in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(picture.image, frames[index])


class TestSound:
    @pytest.mark.parametrize("suffix", [*SOUND_ONLY, ".mkv", ".mp4", ".webm", ".avi", ".ts"])
    def test_containers(self, tmp_path: Path, suffix: str) -> None:
        path = write_clip(tmp_path / f"clip{suffix}", 2.0, 25, sound=sine(2.0))
        samples = read_sound(path)
        assert samples.dtype == np.float32
        # Lossy codecs end on a whole frame, of up to 24 ms.
        assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.03)
        assert_is_sine(samples[SAMPLE_RATE // 2 : 3 * SAMPLE_RATE // 2])

    @pytest.mark.parametrize(
        ("rate", "channels", "layout"),
        [
            (8_000, 1, "mono"),
            (11_025, 1, "mono"),
            (16_000, 1, "mono"),
            (16_000, 2, "stereo"),
            (44_100, 1, "mono"),
            (44_100, 2, "stereo"),
            (48_000, 1, "mono"),
            (48_000, 2, "stereo"),
            (48_000, 4, "quad"),
            (48_000, 6, "5.1"),
            (48_000, 8, "7.1"),
            (96_000, 2, "stereo"),
        ],
    )
    @pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le"])
    def test_rates_and_channels(
        self, tmp_path: Path, rate: int, channels: int, layout: str, codec: str
    ) -> None:
        sound = sine(1.5, rate, channels=channels)
        path = tmp_path / "clip.wav"
        write_clip(path, sound=sound, rate=rate, layout=layout, sound_codec=codec)
        samples = read_sound(path)
        assert len(samples) / SAMPLE_RATE == pytest.approx(1.5, abs=0.002)
        assert_is_sine(samples[100:-100])
        # In phase with the original: nothing shifts in time.
        time_s = np.arange(len(samples)) / SAMPLE_RATE
        expected = 0.5 * np.sin(2 * np.pi * 1000 * time_s)
        assert np.abs(samples - expected)[100:-100].max() < 0.02

    def test_a_voice_in_the_centre_channel_is_heard(self, tmp_path: Path) -> None:
        sound = np.zeros((6, 48_000), np.float32)
        sound[2] = sine(1.0)[0]  # left, right, centre, low frequencies, left back, right back
        path = write_clip(tmp_path / "clip.wav", sound=sound, layout="5.1")
        assert np.abs(read_sound(path)).max() > 0.125  # a quarter: a plain mean gives a sixth

    def test_channels_in_opposite_phase_cancel(self, tmp_path: Path) -> None:
        sound = np.concatenate([sine(1.0), -sine(1.0)])
        path = write_clip(tmp_path / "clip.wav", sound=sound)
        assert np.abs(read_sound(path)).max() < 1e-3

    def test_more_channels_than_have_a_place_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "array.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(11)
            file.setsampwidth(2)
            file.setframerate(48_000)
            file.writeframes(np.ones((4800, 11), np.int16).tobytes())
        with pytest.raises(MediaError, match="nothing in this file could be decoded"):
            read_sound(path)

    def test_impossible_sample_rate_is_refused_at_once(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.wav", sound=sine(1.0))
        content = path.read_bytes()
        rate = (48_000).to_bytes(4, "little")
        path.write_bytes(content.replace(rate, (990_000_000).to_bytes(4, "little"), 1))
        with pytest.raises(MediaError, match="nothing in this file could be decoded"):
            read_sound(path)

    def test_lossless_16_khz_is_left_as_it_is(self) -> None:
        path = shared_data("RAVDESS", "Actor_05", "03-01-05-01-01-01-05.flac")
        with av.open(str(path)) as container:
            stored = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        assert all(block.dtype == np.int16 for block in stored)
        expected = np.concatenate(stored) / np.float32(32_768)
        np.testing.assert_array_equal(read_sound(path), expected)

    def test_float_16_khz_is_left_as_it_is(self, tmp_path: Path) -> None:
        # No conversion is needed here at all, a path of its own through the resampler.
        sound = sine(1.0, SAMPLE_RATE)
        path = tmp_path / "clip.wav"
        write_clip(path, sound=sound, rate=SAMPLE_RATE, sound_codec="pcm_f32le")
        np.testing.assert_array_equal(read_sound(path), sound[0])

    @pytest.mark.parametrize("name", AV_CLIPS)
    def test_real_clip_against_its_audio_only_take(self, name: str) -> None:
        """RAVDESS publishes the same take as 48 kHz stereo AAC with video, and as sound alone."""
        clip = read_sound(shared_data("RAVDESS_AV", f"{name}.mp4"))
        path = shared_data("RAVDESS", f"Actor_{name[-2:]}", f"03{name[2:]}.flac")
        take = read_sound(path)
        size = 1 << 18
        product = np.fft.irfft(np.fft.rfft(clip, size) * np.conj(np.fft.rfft(take, size)))
        lag = int(np.argmax(product))
        energy = np.linalg.norm(clip) * np.linalg.norm(take)
        assert product[lag] / energy > 0.97
        assert lag / SAMPLE_RATE == pytest.approx(1001 / 30_000, abs=1e-3)  # cut one frame later
        assert np.linalg.norm(clip) / np.linalg.norm(take) == pytest.approx(1.0, abs=0.01)

    @pytest.mark.parametrize("sample", [math.nan, math.inf])
    @pytest.mark.parametrize("rate", [SAMPLE_RATE, 48_000])
    def test_sound_that_is_not_finite_is_an_error(
        self, tmp_path: Path, sample: float, rate: int
    ) -> None:
        sound = sine(1.0, rate)
        sound[0, 9_000] = sample
        write_clip(tmp_path / "clip.wav", sound=sound, rate=rate, sound_codec="pcm_f32le")
        with pytest.raises(MediaError, match=r"clip\.wav: the sound holds NaN or infinite samples"):
            read_sound(tmp_path / "clip.wav")

    def test_no_sound_track(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 1.0)
        assert read_sound(path).shape == (0,)
        with Clip(path) as clip:
            assert clip.has_video and not clip.has_audio
            assert not any(isinstance(item, AudioChunk) for item in clip)

    def test_no_video_track(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.wav", sound=sine(1.0))
        with Clip(path) as clip:
            assert clip.has_audio and not clip.has_video
            assert not any(isinstance(item, Frame) for item in clip)

    @pytest.mark.parametrize("suffix", [".mp3", ".flac"])
    def test_cover_picture_is_no_video(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"song{suffix}"
        plain = write_clip(tmp_path / f"plain{suffix}", sound=sine(1.0))
        with av.open(str(plain)) as source, av.open(str(path), "w") as song:
            voice = song.add_stream_from_template(source.streams.audio[0])
            cover = song.add_stream("mjpeg")
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(numbered_picture(5), format="bgr24")
            for packet in [*cover.encode(frame), *cover.encode(None)]:
                song.mux(packet)
            for packet in source.demux(source.streams.audio[0]):
                if packet.size:
                    packet.stream = voice
                    song.mux(packet)
        with av.open(str(path)) as container:
            assert container.streams.video  # FFmpeg does show it as a track
        with Clip(path) as clip:
            assert not clip.has_video
            assert all(isinstance(item, AudioChunk) for item in clip)
        assert clip.duration_s == pytest.approx(1.0, abs=0.03)


class TestClock:
    """Sound and pictures share one clock, which starts with the clip."""

    @pytest.mark.parametrize(
        ("suffix", "video_start_s"),
        [*((suffix, 0.0) for suffix in WITH_VIDEO), *((suffix, 0.3) for suffix in TIMED)],
    )
    def test_flash_and_beep_come_together(
        self, tmp_path: Path, suffix: str, video_start_s: float
    ) -> None:
        path = write_clip(
            tmp_path / f"clip{suffix}",
            2.0,
            25,
            video=lambda index: np.full((48, 64, 3), 255 * (index >= 25), np.uint8),
            video_start_s=video_start_s,
            sound=delayed_sine(1.0 + video_start_s, 2.4),
        )
        with Clip(path, frame_rate=25) as clip:
            items = list(clip)
        pictures = [item for item in items if isinstance(item, Frame)]
        flash_s = next(p.time_s for p in pictures if p.image.mean() > 127)
        beep_s = tone_start_s(
            np.concatenate([i.samples for i in items if isinstance(i, AudioChunk)])
        )
        assert beep_s == pytest.approx(flash_s, abs=0.005)
        if suffix != ".ts":  # there, the encoder's run-up counts as sound
            assert flash_s == pytest.approx(1.0 + video_start_s, abs=0.005)

    @pytest.mark.parametrize("suffix", TIMED)
    @pytest.mark.parametrize("late_s", [0.03, 0.7])
    def test_sound_that_starts_late(self, tmp_path: Path, suffix: str, late_s: float) -> None:
        path = write_clip(
            tmp_path / f"clip{suffix}",
            2.0,
            25,
            sound=delayed_sine(0.5, 1.0),
            sound_time_s=lambda time_s: time_s + late_s,
        )
        samples = read_sound(path)
        assert tone_start_s(samples) == pytest.approx(0.5 + late_s, abs=0.005)
        assert len(samples) / SAMPLE_RATE == pytest.approx(1.0 + late_s, abs=0.03)

    @pytest.mark.parametrize(
        ("suffix", "codec"), [(".mkv", "pcm_s16le"), (".mkv", "flac"), (".webm", "libopus")]
    )
    def test_hole_in_the_sound_is_silence(self, tmp_path: Path, suffix: str, codec: str) -> None:
        path = write_clip(
            tmp_path / f"clip{suffix}",
            3.0,
            25,
            sound=sine(2.0),
            sound_codec=codec,
            sound_time_s=lambda time_s: time_s if time_s < 0.9 else time_s + 0.5,
        )
        samples = read_sound(path)
        assert len(samples) / SAMPLE_RATE == pytest.approx(2.5, abs=0.03)
        quiet = np.abs(samples[:32_000]).reshape(-1, 80).max(axis=1) < 0.01  # 5 ms at a time
        start, end = np.flatnonzero(quiet)[[0, -1]] * 0.005
        assert start == pytest.approx(0.9, abs=0.1)  # packets are up to 96 ms long
        assert end - start == pytest.approx(0.5, abs=0.02)
        assert_is_sine(samples[2 * SAMPLE_RATE : 2 * SAMPLE_RATE + 4000])

    def test_sound_before_a_hole_is_whole(self, tmp_path: Path) -> None:
        """What the resampler still holds comes before the silence, not after it or never."""
        path = write_clip(
            tmp_path / "clip.mkv",
            2.0,
            25,
            sound=sine(1.5, 8_000),
            rate=8_000,
            sound_time_s=lambda time_s: time_s if time_s < 0.5 else time_s + 0.5,
        )
        samples = read_sound(path)
        hole = 4 * 1024 * 2  # after four packets
        time_s = np.arange(hole) / SAMPLE_RATE
        expected = 0.5 * np.sin(2 * np.pi * 1000 * time_s)
        assert np.abs(samples[:hole] - expected)[100:-4].max() < 0.05
        assert np.abs(samples[hole + 4 : hole + 7900]).max() == 0

    def test_small_jitter_of_time_stamps_leaves_the_sound_whole(self, tmp_path: Path) -> None:
        jitter = random.Random(0)
        path = write_clip(
            tmp_path / "clip.mkv",
            2.0,
            25,
            sound=sine(2.0),
            sound_time_s=lambda time_s: time_s + jitter.uniform(0, 0.009),
        )
        samples = read_sound(path)
        assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.012)
        assert_is_sine(samples[SAMPLE_RATE // 2 : 3 * SAMPLE_RATE // 2])

    @pytest.mark.parametrize("jump_s", [100_000.0, 2.0])
    def test_time_stamps_that_jump(self, tmp_path: Path, jump_s: float) -> None:
        """Far past the end they are damaged and the sound goes on; near, it is a hole."""
        path = write_clip(
            tmp_path / "clip.mkv",
            4.0,
            25,
            sound=sine(2.0),
            sound_time_s=lambda time_s: time_s if time_s < 1 else time_s + jump_s,
        )
        # The header is written last and tells of the damaged end: take it out.
        path.write_bytes(path.read_bytes().replace(b"\x44\x89\x88", b"\xec\x89\x88"))
        with Clip(path) as clip:
            sounds = [item.samples for item in clip if isinstance(item, AudioChunk)]
        seconds = sum(map(len, sounds)) / SAMPLE_RATE
        if jump_s == 2.0:
            assert (seconds, clip.damaged) == (pytest.approx(4.0, abs=0.03), 0)
        else:
            assert (seconds, clip.damaged) == (pytest.approx(2.0, abs=0.03), 1)
        assert clip.duration_s == pytest.approx(4.0, abs=0.05)

    def test_joined_recordings_go_on(self, tmp_path: Path) -> None:
        """`cat a.ts b.ts`: the time stamps start again in the middle."""
        part = write_clip(tmp_path / "part.ts", 2.0, 25, sound=delayed_sine(1.0, 2.0))
        path = tmp_path / "joined.ts"
        path.write_bytes(part.read_bytes() * 2)
        with Clip(path) as clip:
            items = list(clip)
        pictures = [item for item in items if isinstance(item, Frame)]
        assert [picture_number(p.image) for p in pictures] == [*range(0, 50, 5)] * 2
        samples = np.concatenate([i.samples for i in items if isinstance(i, AudioChunk)])
        assert len(samples) / SAMPLE_RATE == pytest.approx(4.05, abs=0.03)
        assert tone_start_s(samples[2 * SAMPLE_RATE + 1000 :]) == pytest.approx(1.0, abs=0.05)
        assert clip.damaged == 2  # each track's time stamps, once

    def test_overlapping_recordings_are_heard_once(self, tmp_path: Path) -> None:
        """Dash cameras write files that share their last and first moments."""
        first = write_clip(tmp_path / "a.ts", 2.0, 25, sound=sine(2.0))
        second = write_clip(
            tmp_path / "b.ts",
            2.0,
            25,
            video_start_s=1.6,
            sound=delayed_sine(1.0, 2.0),
            sound_time_s=lambda time_s: time_s + 1.6,
        )
        path = tmp_path / "joined.ts"
        path.write_bytes(first.read_bytes() + second.read_bytes())
        with Clip(path) as clip:
            items = list(clip)
        samples = np.concatenate([i.samples for i in items if isinstance(i, AudioChunk)])
        # The muxer moves the first by a few frames, for its B-frames.
        assert len(samples) / SAMPLE_RATE == pytest.approx(3.6, abs=0.08)
        assert tone_start_s(samples[33_000:]) + 33 / 16 == pytest.approx(2.6, abs=0.08)
        times = [item.time_s for item in items if isinstance(item, Frame)]
        assert times == pytest.approx([n / 5 + 0.02 for n in range(18)], abs=0.025)
        assert clip.damaged == 0

    def test_sound_that_changes_its_form(self, tmp_path: Path) -> None:
        """Broadcast streams go from stereo to mono and to another rate within a track."""
        path = tmp_path / "joined.mp3"
        first = write_clip(tmp_path / "a.mp3", sound=sine(1.0, 44_100, channels=2), rate=44_100)
        second = write_clip(tmp_path / "b.mp3", sound=sine(1.0))
        path.write_bytes(first.read_bytes() + second.read_bytes())
        samples = read_sound(path)
        assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.1)
        assert_is_sine(samples[4000:12_000])
        assert_is_sine(samples[20_000:28_000])


class TestBadInput:
    def error(self, path: Path) -> str:
        with pytest.raises(MediaError) as error, Clip(path) as clip:
            list(clip)
        text = str(error.value)
        assert text.startswith(f"{path}: ")
        assert "\n" not in text
        return text.removeprefix(f"{path}: ")

    def test_missing(self, tmp_path: Path) -> None:
        assert self.error(tmp_path / "clip.mp4") == "No such file or directory"

    def test_folder(self, tmp_path: Path) -> None:
        assert self.error(tmp_path) == "a folder, not a clip"

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.mp4"
        path.touch()
        assert self.error(path) == "the file is empty"

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_clip(tmp_path / "clip.wav", sound=sine(0.1))
        path.chmod(0)
        if os.access(path, os.R_OK):  # root reads everything
            monkeypatch.setattr(clip_module.os, "access", lambda *_: False)
        assert self.error(path) == "no permission to read it"

    @pytest.mark.parametrize("name", ["notes.txt", "clip.mp4", "list.csv", "readme.nfo", "a.srt"])
    def test_text(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_text("What was said, and when.\n" * 50)
        assert self.error(path).startswith("not a video or sound file")

    def test_subtitles_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.srt"
        path.write_text("1\n00:00:01,000 --> 00:00:02,000\nKids are talking by the door\n\n")
        assert self.error(path) == "no video and no sound that can be decoded"

    def test_random_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.mp4"
        path.write_bytes(random.Random(0).randbytes(100_000))
        self.error(path)

    def test_mp4_without_its_index(self, tmp_path: Path) -> None:
        whole = write_clip(tmp_path / "whole.mp4", sound=sine(2.0)).read_bytes()
        path = tmp_path / "clip.mp4"
        path.write_bytes(whole[: len(whole) // 2])  # the index is at the end
        assert "cut off" in self.error(path)

    def test_unknown_codec(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4")
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
        assert self.error(path) == "no video and no sound that can be decoded"

    def test_unknown_codec_beside_good_sound(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", sound=sine(2.0))
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
        with Clip(path) as clip:
            assert not clip.has_video
            assert (
                sum(len(i.samples) for i in clip if isinstance(i, AudioChunk)) > 1.9 * SAMPLE_RATE
            )

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_cut_off_download_gives_what_is_there(self, tmp_path: Path, share: float) -> None:
        options = {"movflags": "faststart"}
        path = write_clip(tmp_path / "clip.mp4", 4.0, sound=sine(4.0), options=options)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with Clip(path) as clip:
            assert clip.duration_s == pytest.approx(4.0, abs=0.05)
            found = [picture_number(item.image) for item in clip if isinstance(item, Frame)]
        assert clip.damaged > 0
        # In the last moments, a frame may lack while one after it is there.
        assert found[:-2] == list(range(0, 100, 5))[: len(found[:-2])]
        assert clip.duration_s == pytest.approx(4.0 * share, abs=0.8)
        assert clip.duration_s + clip.missing_s == pytest.approx(4.0, abs=0.05)
        assert len(found) >= clip.duration_s * 5 - 1.5  # nothing is left in the decoder

    @pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp3"])
    def test_cut_off_without_a_damaged_packet_shows_as_missing(
        self, tmp_path: Path, suffix: str
    ) -> None:
        path = write_clip(tmp_path / f"clip{suffix}", 4.0, sound=sine(4.0))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with Clip(path) as clip:
            list(clip)
        assert 1.0 < clip.missing_s < 3.0

    def test_whole_clip_misses_nothing(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", sound=sine(2.0))
        with Clip(path) as clip:
            list(clip)
        assert clip.missing_s < 0.01

    def test_damage_in_the_middle_is_counted_and_passed_over(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 4.0, sound=sine(4.0))
        content = bytearray(path.read_bytes())
        middle = content.index(b"mdat") + (content.index(b"moov") - content.index(b"mdat")) // 2
        content[middle : middle + 600] = random.Random(0).randbytes(600)
        path.write_bytes(content)
        with Clip(path) as clip:
            items = list(clip)
        assert clip.damaged > 0
        assert clip.duration_s == pytest.approx(4.0, abs=0.1)
        pictures = [item for item in items if isinstance(item, Frame)]
        assert [picture_number(p.image) for p in pictures[:3]] == [0, 5, 10]
        assert sum(isinstance(item, AudioChunk) for item in items) > 100

    def test_disk_that_fails_midway(self, tmp_path: Path) -> None:
        """Everything before the failure is given, also the frames that the decoder still holds."""
        path = write_clip(tmp_path / "clip.mp4", 4.0, 25, sound=sine(4.0))
        with Clip(path, frame_rate=25) as clip:
            clip._container = FailingContainer(clip._container, packets=150)
            items = list(clip)
        shown = [picture_number(i.image) for i in items if isinstance(i, Frame)]
        packets = clip._container.video_packets
        assert 10 < packets < 90
        assert shown == sorted(shown)
        assert len(shown) == packets
        assert clip.damaged == 1

    def test_impossible_frame_length(self, tmp_path: Path) -> None:
        """A damaged length of the last frame does not make hours of a clip."""
        whole = write_clip(tmp_path / "whole.mkv", 2.0, 25)
        path = tmp_path / "clip.mkv"
        with av.open(str(whole)) as source, av.open(str(path), "w") as damaged:
            track = damaged.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    if packet.pts * packet.time_base == Fraction(49, 25):
                        packet.duration = round(50_000 / packet.time_base)
                    packet.stream = track
                    damaged.mux(packet)
        with Clip(path) as clip:
            assert clip.duration_s > 40_000
            list(clip)
        assert clip.duration_s < 3.0

    @given(
        suffix=st.sampled_from(sorted(CODECS)),
        seed=st.integers(0, 2**32 - 1),
        kind=st.sampled_from(["cut", "bytes", "block", "left out", "header"]),
    )
    @settings(max_examples=150, deadline=None)
    def test_no_damage_ends_in_anything_but_a_media_error(
        self,
        whole_files: Callable[[str], bytes],
        tmp_path_factory: pytest.TempPathFactory,
        suffix: str,
        seed: int,
        kind: str,
    ) -> None:
        chance = random.Random(seed)
        content = bytearray(whole_files(suffix))
        at, size = chance.randrange(len(content)), chance.randrange(1, 2000)
        if kind == "cut":
            del content[at:]
        elif kind == "bytes":
            for _ in range(chance.choice([1, 10, 100])):
                content[chance.randrange(len(content))] = chance.randrange(256)
        elif kind == "block":
            content[at : at + size] = chance.randbytes(len(content[at : at + size]))
        elif kind == "left out":
            del content[at : at + size]
        else:
            for _ in range(chance.choice([1, 3, 10])):
                content[chance.randrange(200)] = chance.randrange(256)
        path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
        path.write_bytes(content)
        shown_s = -1.0
        try:
            with Clip(path) as clip:
                for item in clip:
                    if isinstance(item, Frame):
                        assert item.time_s > shown_s
                        shown_s = item.time_s
                    else:
                        assert np.isfinite(item.samples).all()
        except MediaError as error:
            assert str(path) in str(error)

    def test_ffmpeg_says_nothing_of_its_own(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 4.0, sound=sine(4.0))
        content = bytearray(path.read_bytes())
        content[3000:5000] = random.Random(0).randbytes(2000)
        path.write_bytes(content)
        program = (
            "import sys; from mfer_edge.sources.clip import Clip\n"
            "with Clip(sys.argv[1]) as clip: list(clip)\n"
            "print(clip.damaged > 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.fixture(scope="session")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("whole")
    sound = sine(1.0, channels=2)
    content = {
        suffix: write_clip(folder / f"whole{suffix}", 1.0, 25, sound=sound).read_bytes()
        for suffix in CODECS
    }
    return content.__getitem__


class TestClip:
    def test_can_be_read_once(self, tmp_path: Path) -> None:
        with Clip(write_clip(tmp_path / "clip.mp4", 0.4)) as clip:
            assert len(list(clip)) == 2
            with pytest.raises(MediaError, match="was read already; open it again"):
                list(clip)

    @pytest.mark.parametrize("begun", [False, True])
    def test_reading_on_after_it_was_closed(self, tmp_path: Path, begun: bool) -> None:
        path = write_clip(tmp_path / "clip.mp4", 2.0, sound=sine(2.0))
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
        path = write_clip(tmp_path / "clip.mkv", 2.0, 25, sound=sine(1.2))
        with Clip(path) as clip:
            assert clip.duration_s == pytest.approx(2.0, abs=0.01)
            list(clip)
        assert clip.duration_s == pytest.approx(2.0, abs=1e-6)
        path = write_clip(tmp_path / "clip.mkv", 1.2, 25, sound=sine(2.0))
        with Clip(path) as clip:
            list(clip)
        assert clip.duration_s == pytest.approx(2.0, abs=1e-6)

    def test_sound_alone_leaves_the_video_undecoded(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 2.0, sound=sine(2.0))
        with Clip(path) as clip:
            both = [item.samples for item in clip if isinstance(item, AudioChunk)]
        with Clip(path, frame_rate=None) as clip:
            assert clip.has_video
            items = list(clip)
        assert all(isinstance(item, AudioChunk) for item in items)
        np.testing.assert_array_equal(read_sound(path), np.concatenate(both))

    @pytest.mark.parametrize("name", ["a:b.mp4", "100%.mp4", "it's %03d [1].mp4", "lächeln.mp4"])
    def test_names_that_ffmpeg_would_read_something_into(self, tmp_path: Path, name: str) -> None:
        written = write_clip(tmp_path / "plain.mp4", 0.4)
        path = tmp_path / name
        path.write_bytes(written.read_bytes())
        assert len(pictures_of(path)) == 2

    def test_title_that_is_no_utf_8(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.wav", sound=sine(0.5))
        title = "Grüße".encode("latin-1") + b"\0"
        info = b"INFOINAM" + len(title).to_bytes(4, "little") + title
        path.write_bytes(path.read_bytes() + b"LIST" + len(info).to_bytes(4, "little") + info)
        assert len(read_sound(path)) == SAMPLE_RATE // 2

    def test_relative_path_with_a_colon(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_clip(tmp_path / "plain.mp4", 0.4).rename(tmp_path / "12:30.mp4")
        monkeypatch.chdir(tmp_path)
        assert len(pictures_of(Path("12:30.mp4"))) == 2

    def test_memory_does_not_grow_with_the_length(self, tmp_path: Path) -> None:
        def peak(seconds: float) -> int:
            path = tmp_path / f"{seconds}.mkv"
            sound = sine(seconds, SAMPLE_RATE)
            write_clip(path, seconds, 1, sound=sound, rate=SAMPLE_RATE, video_codec="mpeg4")
            tracemalloc.start()
            with Clip(path) as clip:
                for _ in clip:
                    pass
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert clip.duration_s == pytest.approx(seconds, abs=0.01)
            return most

        assert peak(240) < 1.5 * peak(20) + 100_000  # four minutes of sound alone are 15 MB


class FailingContainer:
    """A container on a disk that can't be read from some packet on."""

    def __init__(self, container: av.container.InputContainer, packets: int) -> None:
        self._container = container
        self._packets = packets
        self.video_packets = 0

    def demux(self, *tracks: av.stream.Stream) -> Iterator[av.Packet]:
        for packet in itertools.islice(self._container.demux(*tracks), self._packets):
            self.video_packets += packet.stream.type == "video"
            yield packet
        raise av.error.OSError(5, "Input/output error")

    def close(self) -> None:
        self._container.close()


def assert_is_sine(samples: np.ndarray) -> None:
    """1 kHz, amplitude 0.5, and nothing else."""
    time_s = np.arange(len(samples)) / SAMPLE_RATE
    waves = np.stack([np.sin(2 * np.pi * 1000 * time_s), np.cos(2 * np.pi * 1000 * time_s)])
    weights, *_ = np.linalg.lstsq(waves.T, samples.astype(float), rcond=None)
    assert np.hypot(*weights) == pytest.approx(0.5, abs=0.03)  # MP3 takes 5 % off
    rest = samples - weights @ waves
    assert np.sqrt(np.mean(rest**2)) < 0.02
