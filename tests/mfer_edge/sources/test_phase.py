"""Stereo whose sides cancel each other keeps its voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfer_edge.sources.base import AudioChunk
from mfer_edge.sources.clip import Clip
from tests.support.clips import sine, write_clip

FORMATS = ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "flac"]


def heard(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    with Clip(path) as clip:
        wave = np.concatenate([item.samples for item in clip if isinstance(item, AudioChunk)])
    return wave, tuple(w for w in clip.warnings() if "no video" not in w)


@pytest.mark.parametrize("codec", FORMATS)
def test_opposite_sides_are_heard_and_told(codec: str, tmp_path: Path) -> None:
    one = sine(1.0)
    path = tmp_path / ("clip.flac" if codec == "flac" else "clip.wav")
    write_clip(path, audio=np.concatenate([one, -one]), audio_codec=codec)
    wave, [warning] = heard(path)
    assert "left and right of the sound cancel each other for 1.0 s" in warning
    alone = write_clip(tmp_path / "mono.wav", audio=one, audio_codec="pcm_f32le")
    expected, none = heard(alone)
    assert none == ()
    assert np.abs(wave - expected).max() < 0.02  # a level of 8 bits


@pytest.mark.parametrize(
    "weights", [(1, 1), (1, 0), (0, 1), (1, -0.3), (1, 0.2), (0.5, -0.2), (0, 0)]
)
def test_other_stereo_is_mixed_as_ever(weights: tuple[float, float], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    path = write_clip(
        tmp_path / "clip.wav",
        audio=np.stack([weight * noise for weight in weights]).astype(np.float32),
        audio_codec="pcm_f32le",
    )
    mono = write_clip(
        tmp_path / "mono.wav", audio=sum(weights) / 2 * noise[None], audio_codec="pcm_f32le"
    )
    wave, warnings = heard(path)
    assert warnings == ()
    np.testing.assert_allclose(wave, heard(mono)[0], atol=1e-5)


def test_a_cable_that_is_turned_midway(tmp_path: Path) -> None:
    one = sine(3.0)
    right = one.copy()
    right[:, 48_000:96_000] *= -1
    path = write_clip(tmp_path / "clip.wav", audio=np.concatenate([one, right]))
    wave, [warning] = heard(path)
    assert "for 0.9 s" in warning
    loud = np.abs(wave).reshape(-1, 800).max(axis=1)
    assert (loud > 0.4).mean() > 0.95


def test_silence_in_opposite_phase_is_not_told(tmp_path: Path) -> None:
    hiss = np.random.default_rng(0).normal(0, 0.0005, 48_000).astype(np.float32)
    path = write_clip(tmp_path / "clip.wav", audio=np.stack([hiss, -hiss]), audio_codec="pcm_f32le")
    assert heard(path)[1] == ()
