"""The sound of an overlay video: what browsers play, whole, and where it belongs."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mfer_edge.outputs.overlay import write_overlay
from mfer_edge.outputs.soundtrack import AacEncoder
from mfer_edge.sources.clip import Clip, read_audio
from tests.support.analyses import analysis
from tests.support.clips import sine, write_clip

RATE = 16_000  # of what `read_audio` gives


def overlaid(source: Path) -> Path:
    out = source.with_name("out.mp4")
    with Clip(source) as clip:
        for _ in clip:
            pass
    write_overlay(source, analysis([], clip.duration_s), out)
    return out


def codec_of(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.audio[0].codec_context.name


def pitch(wave: np.ndarray, start_s: float) -> float:
    """Frequency of a tone over half a second, in Hz."""
    part = wave[round(start_s * RATE) :][: RATE // 2]
    return float(np.argmax(np.abs(np.fft.rfft(part)))) * 2


def same(written: np.ndarray, original: np.ndarray) -> bool:
    """Whether two recordings are alike, and nowhere shifted by more than 10 ms."""
    assert len(written) == pytest.approx(len(original), abs=0.1 * RATE)
    for start in range(0, min(map(len, (written, original))) - RATE // 4, RATE // 2):
        a, b = (np.abs(wave[start : start + RATE // 4]).mean() for wave in (written, original))
        assert a == pytest.approx(b, abs=0.03), start / RATE
    return True


@pytest.mark.parametrize("audio_codec", ["aac", "mp2", "ac3"])
def test_a_joined_recording_keeps_all_its_sound(tmp_path: Path, audio_codec: str) -> None:
    """`cat a.ts b.ts c.ts`: the time stamps of each part start anew."""
    joined = b""
    for hertz in (300, 500, 900):
        part = tmp_path / "part.ts"
        write_clip(part, 2.0, 10, (64, 48), audio=sine(2.0, hertz=hertz), audio_codec=audio_codec)
        joined += part.read_bytes()
    source = tmp_path / "joined.ts"
    source.write_bytes(joined)
    out = overlaid(source)
    written = read_audio(out)
    assert [pitch(written, s) for s in (0.7, 2.7, 4.7)] == pytest.approx([300, 500, 900], abs=4)
    assert same(written, read_audio(source))
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 60


def test_parts_of_other_formats_are_joined_too(tmp_path: Path) -> None:
    joined = b""
    for rate, channels in ((48_000, 2), (22_050, 1)):
        part = tmp_path / "part.ts"
        tone = sine(2.0, rate, 400, channels)
        write_clip(part, 2.0, 10, (64, 48), audio=tone, audio_codec="aac", rate=rate)
        joined += part.read_bytes()
    source = tmp_path / "joined.ts"
    source.write_bytes(joined)
    written = read_audio(overlaid(source))
    assert [pitch(written, s) for s in (0.7, 2.7)] == pytest.approx([400, 400], abs=4)


@pytest.mark.parametrize(
    ("audio_codec", "ending", "expected"),
    [
        ("aac", ".mp4", "aac"),
        ("aac", ".mkv", "aac"),
        ("mp3", ".mp4", "mp3float"),
        ("ac3", ".mp4", "aac"),
        ("eac3", ".mkv", "aac"),
        ("alac", ".mp4", "aac"),
        ("flac", ".mkv", "aac"),
        ("libopus", ".webm", "aac"),
        ("pcm_s16le", ".avi", "aac"),
    ],
)
def test_browsers_play_the_sound(
    tmp_path: Path, audio_codec: str, ending: str, expected: str
) -> None:
    source = tmp_path / f"clip{ending}"
    tone = sine(1.5, hertz=440, channels=2)
    tone[:, : round(0.5 * 48_000)] = 0
    video_codec = "libvpx" if ending == ".webm" else "libx264"
    write_clip(
        source, 1.5, 25, (64, 48), audio=tone, audio_codec=audio_codec, video_codec=video_codec
    )
    out = overlaid(source)
    assert codec_of(out) == expected
    written, original = read_audio(out), read_audio(source)
    start = [int(np.argmax(np.abs(wave) > 0.2)) for wave in (written, original)]
    assert start[0] == pytest.approx(start[1], abs=160)  # 10 ms
    assert pitch(written, 0.8) == pytest.approx(440, abs=4)


def test_a_gap_stays_a_gap(tmp_path: Path) -> None:
    """What comes after it stays in time with the video."""
    source = tmp_path / "clip.mkv"
    write_clip(
        source, 4.0, 10, (64, 48), audio=sine(2.0), audio_codec="pcm_s16le",
        audio_time_s=lambda time_s: time_s + (2.0 if time_s >= 1.0 else 0.0),
    )  # fmt: skip
    written = np.abs(read_audio(overlaid(source)))
    assert written[RATE // 2 : RATE - 800].max() > 0.2 and written[3 * RATE : 4 * RATE].max() > 0.2
    assert written[round(1.1 * RATE) : round(2.9 * RATE)].max() < 0.01


def test_sound_that_begins_late_begins_late(tmp_path: Path) -> None:
    source = tmp_path / "clip.mkv"
    write_clip(
        source, 3.0, 10, (64, 48), audio=sine(1.0), audio_codec="flac",
        audio_time_s=lambda time_s: time_s + 1.5,
    )  # fmt: skip
    written = np.abs(read_audio(overlaid(source)))
    assert int(np.argmax(written > 0.2)) / RATE == pytest.approx(1.5, abs=0.05)


def test_channels_that_can_not_be_mixed_are_averaged(tmp_path: Path) -> None:
    """Ambisonics, whose channels have no place."""
    path, tone = tmp_path / "out.mp4", sine(1.0, hertz=500, channels=4)
    with av.open(str(path), "w") as target:
        track = target.add_stream("aac", 48_000)
        track.layout = "stereo"
        encoder = AacEncoder(track)
        for start in range(0, 48_000, 960):
            block = np.ascontiguousarray(tone[:, start : start + 960])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="ambisonic 1")
            frame.sample_rate = 48_000
            for packet in encoder.push(frame, None):
                target.mux(packet)
        for packet in encoder.finish():
            target.mux(packet)
    written = read_audio(path)
    assert pitch(written, 0.2) == pytest.approx(500, abs=4) and np.abs(written).max() > 0.3
