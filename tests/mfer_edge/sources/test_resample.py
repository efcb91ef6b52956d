"""Audio of clips: 16 kHz mono on the clip's clock."""

from __future__ import annotations

import math
import random
from pathlib import Path

import av
import numpy as np
import pytest

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import frame_number, numbered_frame, sine, write_clip
from tests.support.paths import shared_data

WITH_VIDEO = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts"]
TIMED = [".mp4", ".mov", ".mkv", ".webm", ".ts"]  # AVI keeps no time stamps
SOUND_ONLY = [".wav", ".flac", ".mp3", ".ogg", ".m4a"]
AV_CLIPS = [
    "01-01-01-01-01-02-01",
    "01-01-01-01-01-02-04",
    "01-01-05-02-02-01-01",
    "01-01-06-02-01-02-04",
]


def tone_start_s(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(samples) > 0.2)) / SAMPLE_RATE


def delayed_sine(start_s: float, seconds: float, rate: int = 48_000) -> np.ndarray:
    """Silence, then a tone from start_s on."""
    audio = sine(seconds, rate)
    audio[:, : round(start_s * rate)] = 0
    return audio


class TestAudio:
    @pytest.mark.parametrize("suffix", [*SOUND_ONLY, ".mkv", ".mp4", ".webm", ".avi", ".ts"])
    def test_containers(self, tmp_path: Path, suffix: str) -> None:
        path = write_clip(tmp_path / f"clip{suffix}", 2.0, 25, audio=sine(2.0))
        samples = read_audio(path)
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
        audio = sine(1.5, rate, channels=channels)
        path = tmp_path / "clip.wav"
        write_clip(path, audio=audio, rate=rate, layout=layout, audio_codec=codec)
        samples = read_audio(path)
        assert len(samples) / SAMPLE_RATE == pytest.approx(1.5, abs=0.002)
        assert_is_sine(samples[100:-100])
        # In phase with the original: nothing shifts in time.
        time_s = np.arange(len(samples)) / SAMPLE_RATE
        expected = 0.5 * np.sin(2 * np.pi * 1000 * time_s)
        assert np.abs(samples - expected)[100:-100].max() < 0.02

    def test_a_voice_in_the_centre_channel_is_heard(self, tmp_path: Path) -> None:
        audio = np.zeros((6, 48_000), np.float32)
        audio[2] = sine(1.0)[0]  # left, right, centre, low frequencies, left back, right back
        path = write_clip(tmp_path / "clip.wav", audio=audio, layout="5.1")
        assert np.abs(read_audio(path)).max() > 0.125  # a quarter: a plain mean gives a sixth

    def test_impossible_sample_rate_is_refused_at_once(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.wav", audio=sine(1.0))
        content = path.read_bytes()
        rate = (48_000).to_bytes(4, "little")
        path.write_bytes(content.replace(rate, (990_000_000).to_bytes(4, "little"), 1))
        with pytest.raises(MediaError, match="nothing in this file could be decoded"):
            read_audio(path)

    def test_lossless_16_khz_is_left_as_it_is(self) -> None:
        path = shared_data("RAVDESS", "Actor_05", "03-01-05-01-01-01-05.flac")
        with av.open(str(path)) as container:
            stored = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        assert all(block.dtype == np.int16 for block in stored)
        expected = np.concatenate(stored) / np.float32(32_768)
        np.testing.assert_array_equal(read_audio(path), expected)

    def test_float_16_khz_is_left_as_it_is(self, tmp_path: Path) -> None:
        # No conversion is needed here at all, a path of its own through the resampler.
        audio = sine(1.0, SAMPLE_RATE)
        path = tmp_path / "clip.wav"
        write_clip(path, audio=audio, rate=SAMPLE_RATE, audio_codec="pcm_f32le")
        np.testing.assert_array_equal(read_audio(path), audio[0])

    @pytest.mark.parametrize("name", AV_CLIPS)
    def test_real_clip_against_its_audio_only_take(self, name: str) -> None:
        """RAVDESS publishes the same take as 48 kHz stereo AAC with video, and as audio alone."""
        clip = read_audio(shared_data("RAVDESS_AV", f"{name}.mp4"))
        path = shared_data("RAVDESS", f"Actor_{name[-2:]}", f"03{name[2:]}.flac")
        take = read_audio(path)
        size = 1 << 18
        product = np.fft.irfft(np.fft.rfft(clip, size) * np.conj(np.fft.rfft(take, size)))
        lag = int(np.argmax(product))
        energy = np.linalg.norm(clip) * np.linalg.norm(take)
        assert product[lag] / energy > 0.97
        assert lag / SAMPLE_RATE == pytest.approx(1001 / 30_000, abs=1e-3)  # cut one frame later
        assert np.linalg.norm(clip) / np.linalg.norm(take) == pytest.approx(1.0, abs=0.01)

    @pytest.mark.parametrize("sample", [math.nan, math.inf])
    @pytest.mark.parametrize("rate", [SAMPLE_RATE, 48_000])
    def test_audio_that_is_not_finite_is_an_error(
        self, tmp_path: Path, sample: float, rate: int
    ) -> None:
        audio = sine(1.0, rate)
        audio[0, 9_000] = sample
        write_clip(tmp_path / "clip.wav", audio=audio, rate=rate, audio_codec="pcm_f32le")
        with pytest.raises(MediaError, match=r"clip\.wav: the audio holds NaN or infinite samples"):
            read_audio(tmp_path / "clip.wav")

    def test_no_audio_track(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 1.0)
        assert read_audio(path).shape == (0,)
        with Clip(path) as clip:
            assert clip.has_video and not clip.has_audio
            assert not any(isinstance(item, AudioChunk) for item in clip)

    def test_no_video_track(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.wav", audio=sine(1.0))
        with Clip(path) as clip:
            assert clip.has_audio and not clip.has_video
            assert not any(isinstance(item, Frame) for item in clip)

    @pytest.mark.parametrize("suffix", [".mp3", ".flac"])
    def test_cover_picture_is_no_video(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"song{suffix}"
        plain = write_clip(tmp_path / f"plain{suffix}", audio=sine(1.0))
        with av.open(str(plain)) as source, av.open(str(path), "w") as song:
            voice = song.add_stream_from_template(source.streams.audio[0])
            cover = song.add_stream("mjpeg")
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(numbered_frame(5), format="bgr24")
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
    """Audio and frames share one clock, which starts with the clip."""

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
            audio=delayed_sine(1.0 + video_start_s, 2.4),
        )
        with Clip(path, frame_rate=25) as clip:
            items = list(clip)
        frames = [item for item in items if isinstance(item, Frame)]
        flash_s = next(p.time_s for p in frames if p.image.mean() > 127)
        beep_s = tone_start_s(
            np.concatenate([i.samples for i in items if isinstance(i, AudioChunk)])
        )
        assert beep_s == pytest.approx(flash_s, abs=0.005)
        if suffix != ".ts":  # there, the encoder's run-up counts as audio
            assert flash_s == pytest.approx(1.0 + video_start_s, abs=0.005)

    @pytest.mark.parametrize("suffix", TIMED)
    @pytest.mark.parametrize("late_s", [0.03, 0.7])
    def test_audio_that_starts_late(self, tmp_path: Path, suffix: str, late_s: float) -> None:
        path = write_clip(
            tmp_path / f"clip{suffix}",
            2.0,
            25,
            audio=delayed_sine(0.5, 1.0),
            audio_time_s=lambda time_s: time_s + late_s,
        )
        samples = read_audio(path)
        assert tone_start_s(samples) == pytest.approx(0.5 + late_s, abs=0.005)
        assert len(samples) / SAMPLE_RATE == pytest.approx(1.0 + late_s, abs=0.03)

    @pytest.mark.parametrize(
        ("suffix", "codec"), [(".mkv", "pcm_s16le"), (".mkv", "flac"), (".webm", "libopus")]
    )
    def test_hole_in_the_audio_is_silence(self, tmp_path: Path, suffix: str, codec: str) -> None:
        path = write_clip(
            tmp_path / f"clip{suffix}",
            3.0,
            25,
            audio=sine(2.0),
            audio_codec=codec,
            audio_time_s=lambda time_s: time_s if time_s < 0.9 else time_s + 0.5,
        )
        samples = read_audio(path)
        assert len(samples) / SAMPLE_RATE == pytest.approx(2.5, abs=0.03)
        quiet = np.abs(samples[:32_000]).reshape(-1, 80).max(axis=1) < 0.01  # 5 ms at a time
        start, end = np.flatnonzero(quiet)[[0, -1]] * 0.005
        assert start == pytest.approx(0.9, abs=0.1)  # packets are up to 96 ms long
        assert end - start == pytest.approx(0.5, abs=0.02)
        assert_is_sine(samples[2 * SAMPLE_RATE : 2 * SAMPLE_RATE + 4000])

    def test_audio_before_a_hole_is_whole(self, tmp_path: Path) -> None:
        """What the resampler still holds comes before the silence, not after it or never."""
        path = write_clip(
            tmp_path / "clip.mkv",
            2.0,
            25,
            audio=sine(1.5, 8_000),
            rate=8_000,
            audio_time_s=lambda time_s: time_s if time_s < 0.5 else time_s + 0.5,
        )
        samples = read_audio(path)
        hole = 4 * 1024 * 2  # after four packets
        time_s = np.arange(hole) / SAMPLE_RATE
        expected = 0.5 * np.sin(2 * np.pi * 1000 * time_s)
        assert np.abs(samples[:hole] - expected)[100:-4].max() < 0.05
        assert np.abs(samples[hole + 4 : hole + 7900]).max() == 0

    def test_small_jitter_of_time_stamps_leaves_the_audio_whole(self, tmp_path: Path) -> None:
        jitter = random.Random(0)
        path = write_clip(
            tmp_path / "clip.mkv",
            2.0,
            25,
            audio=sine(2.0),
            audio_time_s=lambda time_s: time_s + jitter.uniform(0, 0.009),
        )
        samples = read_audio(path)
        assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.012)
        assert_is_sine(samples[SAMPLE_RATE // 2 : 3 * SAMPLE_RATE // 2])

    @pytest.mark.parametrize("jump_s", [100_000.0, 2.0])
    def test_time_stamps_that_jump(self, tmp_path: Path, jump_s: float) -> None:
        """Far past the end, the audio goes on and the jump is told; near, it is a hole."""
        path = write_clip(
            tmp_path / "clip.mkv",
            4.0,
            25,
            audio=sine(2.0),
            audio_time_s=lambda time_s: time_s if time_s < 1 else time_s + jump_s,
            options={"write_crc32": "0"},
        )
        # The header is written last and tells of the damaged end: take it out.
        path.write_bytes(path.read_bytes().replace(b"\x44\x89\x88", b"\xec\x89\x88"))
        with Clip(path) as clip:
            chunks = [item.samples for item in clip if isinstance(item, AudioChunk)]
        seconds = sum(map(len, chunks)) / SAMPLE_RATE
        if jump_s == 2.0:
            assert seconds == pytest.approx(4.0, abs=0.03)
            [warning] = clip.warnings()
            assert "the sound pauses for 2.0 s" in warning
        else:
            assert seconds == pytest.approx(2.0, abs=0.03)
            assert list(clip.jumps.values()) == [0, 1] and clip.damaged == 0
            assert "jump once" in clip.warnings()[0]
        assert clip.duration_s == pytest.approx(4.0, abs=0.05)

    def test_joined_recordings_go_on(self, tmp_path: Path) -> None:
        """`cat a.ts b.ts`: the time stamps start again in the middle."""
        part = write_clip(tmp_path / "part.ts", 2.0, 25, audio=delayed_sine(1.0, 2.0))
        path = tmp_path / "joined.ts"
        path.write_bytes(part.read_bytes() * 2)
        with Clip(path) as clip:
            items = list(clip)
        frames = [item for item in items if isinstance(item, Frame)]
        assert [frame_number(p.image) for p in frames] == [*range(0, 50, 5)] * 2
        samples = np.concatenate([i.samples for i in items if isinstance(i, AudioChunk)])
        assert len(samples) / SAMPLE_RATE == pytest.approx(4.05, abs=0.03)
        assert tone_start_s(samples[2 * SAMPLE_RATE + 1000 :]) == pytest.approx(1.0, abs=0.05)
        assert clip.damaged == 0 and list(clip.jumps.values()) == [1, 1]
        [warning] = clip.warnings()
        assert "start anew or jump once, as where recordings were joined" in warning

    def test_overlapping_recordings_are_heard_once(self, tmp_path: Path) -> None:
        """Dash cameras write files that share their last and first moments."""
        first = write_clip(tmp_path / "a.ts", 2.0, 25, audio=sine(2.0))
        second = write_clip(
            tmp_path / "b.ts",
            2.0,
            25,
            video_start_s=1.6,
            audio=delayed_sine(1.0, 2.0),
            audio_time_s=lambda time_s: time_s + 1.6,
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

    def test_audio_that_changes_its_form(self, tmp_path: Path) -> None:
        """Broadcast streams go from stereo to mono and to another rate within a track."""
        path = tmp_path / "joined.mp3"
        first = write_clip(tmp_path / "a.mp3", audio=sine(1.0, 44_100, channels=2), rate=44_100)
        second = write_clip(tmp_path / "b.mp3", audio=sine(1.0))
        path.write_bytes(first.read_bytes() + second.read_bytes())
        samples = read_audio(path)
        assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.1)
        assert_is_sine(samples[4000:12_000])
        assert_is_sine(samples[20_000:28_000])


def assert_is_sine(samples: np.ndarray) -> None:
    """1 kHz, amplitude 0.5, and nothing else."""
    time_s = np.arange(len(samples)) / SAMPLE_RATE
    waves = np.stack([np.sin(2 * np.pi * 1000 * time_s), np.cos(2 * np.pi * 1000 * time_s)])
    weights, *_ = np.linalg.lstsq(waves.T, samples.astype(float), rcond=None)
    assert np.hypot(*weights) == pytest.approx(0.5, abs=0.03)  # MP3 takes 5 % off
    rest = samples - weights @ waves
    assert np.sqrt(np.mean(rest**2)) < 0.02
