"""Clips of the tests of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import write_clip
from tests.support.commands import scores_of


@pytest.fixture(scope="module")
def voice(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The voice of `moment` as a WAV file."""
    sound = read_audio(anger)[None, 22_400:48_000]
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    return write_clip(path, audio=sound, rate=SAMPLE_RATE, video=None)


@pytest.fixture(scope="module")
def expected(pipeline: Pipeline, moment: Path) -> dict:
    """Scores of `moment`, as in its JSON."""
    return scores_of(pipeline.analyze(moment).to_dict())


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A file that is no clip."""
    path = tmp_path / "bad.mp4"
    path.write_text("no clip at all\n" * 50)
    return path
