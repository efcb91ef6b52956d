"""Sound whose channels FFmpeg can't mix: their plain average is read, and that is said."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.sources.resample import average
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import sine, write_clip
from tests.support.commands import infer, passed
from tests.support.paths import shared_cases

FORMATS = {"u8": 1, "s16": 2, "s32": 4, "flt": 4, "dbl": 8}
EXTENSIBLE = 0xFFFE
SUBTYPE = bytes.fromhex("0100000000001000800000aa00389b71")  # PCM, as in WAVEFORMATEXTENSIBLE


def wav(path: Path, channels: np.ndarray, mask: int, rate: int = 48_000) -> Path:
    """A 16-bit WAV of (channels, n) samples whose header says where they are to be heard."""
    count = len(channels)
    data = np.round(channels.T * 32767).astype("<i2").tobytes()
    head = struct.pack(
        "<HHIIHHHHI", EXTENSIBLE, count, rate, rate * 2 * count, 2 * count, 16, 22, 16, mask
    )
    chunks = b"WAVEfmt " + struct.pack("<I", 40) + head + SUBTYPE
    chunks += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    return path


def warnings_of(path: Path) -> list[str]:
    with Clip(path, frame_rate=None) as clip:
        list(clip)
        return [warning for warning in clip.warnings() if "no video" not in warning]


@pytest.mark.parametrize("mask", [0b101, 0b11000, 0b1000_0000_0001], ids=["FL+FC", "LFE+BL", "odd"])
def test_two_channels_in_unusual_places(tmp_path: Path, mask: int) -> None:
    """One channel speaks, the other is silent: half of it is heard, wherever they are."""
    tone = sine(1.0, SAMPLE_RATE)
    path = wav(tmp_path / "a.wav", np.concatenate([tone, 0 * tone]), mask, SAMPLE_RATE)
    expected = read_audio(
        write_clip(tmp_path / "b.wav", audio=tone / 2, rate=SAMPLE_RATE, video=None)
    )
    heard = read_audio(path)
    assert np.abs(heard).max() > 0.1
    if warnings_of(path):  # FFmpeg knows some places in some versions
        np.testing.assert_allclose(heard, expected, atol=1e-3)


def test_more_channels_than_have_a_place(tmp_path: Path) -> None:
    tone = sine(1.0, SAMPLE_RATE)
    path = wav(tmp_path / "a.wav", np.tile(tone, (11, 1)), 0, SAMPLE_RATE)
    np.testing.assert_allclose(read_audio(path), tone[0], atol=1e-3)
    [warning] = warnings_of(path)
    assert "their average was read" in warning


def test_stereo_is_mixed_without_a_word(tmp_path: Path) -> None:
    assert warnings_of(write_clip(tmp_path / "a.wav", audio=sine(1.0, channels=2))) == []


@pytest.mark.parametrize("planar", [False, True], ids=["packed", "planar"])
@pytest.mark.parametrize("name", FORMATS)
def test_average_of_every_format(name: str, planar: bool) -> None:
    wave = np.array([[0.5, -0.5, 0.25, 0.0], [0.5, 0.0, -0.25, -1.0]])
    if name == "u8":
        samples = np.round(wave * 128 + 128).astype(np.uint8)
    elif name[0] == "s":
        samples = (wave * 2.0 ** (8 * FORMATS[name] - 1)).astype(f"i{FORMATS[name]}")
    else:
        samples = wave.astype(f"f{FORMATS[name]}")
    if not planar:
        samples = samples.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples), format=name + "p" * planar, layout="stereo"
    )
    frame.sample_rate, frame.pts = 48_000, 7
    mono = average(frame)
    assert (mono.layout.name, mono.sample_rate, mono.pts) == ("mono", 48_000, 7)
    np.testing.assert_allclose(mono.to_ndarray()[0], [0.5, -0.25, 0.0, -0.5], atol=1e-6)


@pytest.mark.parametrize("name", ["amb_f2.webm", "k_sFLFC.wav"])
def test_recordings_as_people_have_them(name: str, anger: Path) -> None:
    """The sample's voice, as first-order ambisonics and in two places: read as in the sample."""
    made = json.loads(passed(infer(shared_cases(name), "--json", "-")))
    assert made["overall"]["label"] == "angry"
    expected = json.loads(passed(infer(anger, "--json", "-")))["windows"][0]["audio"]
    for label, score in made["windows"][0]["audio"].items():
        assert score == pytest.approx(expected[label], abs=0.02)
