"""Fixtures that several test files share, as they take a while to load or to compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfer_edge import samples
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import write_clip
from tests.support.footage import filmed, images_of
from tests.support.gpu_bundle import gpu_bundle
from tests.support.sessions import OnceDetector, Stream, read_stream


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    """The bundle in the package, on one thread."""
    return Pipeline.open(device="cpu", threads=1)


@pytest.fixture(scope="session")
def adaptable(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A bundle with a small audio engine of random weights, which can be adapted."""
    bundle = gpu_bundle(tmp_path_factory.mktemp("adaptable") / "bundle")
    return Pipeline.open(bundle.folder, "cpu", 1)


@pytest.fixture(scope="session")
def rigid(pipeline: Pipeline) -> Pipeline:
    """The bundle in the package as if its model had no identity, as those of schema 2."""
    bundle = pipeline.bundle
    bundle = replace(bundle, manifest=replace(bundle.manifest, model=""))
    return Pipeline(replace(pipeline.model, bundle=bundle))


@pytest.fixture(scope="session")
def model(pipeline: Pipeline) -> Model:
    """The same with a detector that searches every frame only once."""
    once = OnceDetector(pipeline.model.detector)
    return replace(pipeline.model, detector=once)


@pytest.fixture(scope="session")
def stream(anger: Path) -> Stream:
    return read_stream(anger)


@pytest.fixture(scope="session")
def other_stream(fear: Path) -> Stream:
    return read_stream(fear)


@pytest.fixture(scope="session")
def anger() -> Path:
    """A real clip: an actor in full view who speaks, 4.1 s."""
    return samples.ANGER


@pytest.fixture(scope="session")
def fear() -> Path:
    """Another actor, 3.4 s."""
    return samples.FEAR


@pytest.fixture(scope="session")
def anger_analysis(pipeline: Pipeline, anger: Path) -> Analysis:
    return pipeline.analyze(anger, keep_detections=True)


@pytest.fixture(scope="session")
def fear_analysis(pipeline: Pipeline, fear: Path) -> Analysis:
    return pipeline.analyze(fear)


@pytest.fixture(scope="session")
def moment(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of the clip, quick to read, with face and speech; moov at its end."""
    path = tmp_path_factory.mktemp("moment") / "moment.mp4"
    return filmed(path, images_of(anger)[7:15], read_audio(anger)[22_400:48_000])


@pytest.fixture(scope="session")
def pair(anger: Path, fear: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both actors side by side for a second and a half; the left one, a little larger, is heard."""
    images = [
        np.hstack([left, np.pad(right[30:330, 50:590], ((30, 30), (50, 50), (0, 0)))])
        for left, right in zip(images_of(anger)[7:15], images_of(fear)[7:15], strict=True)
    ]
    path = tmp_path_factory.mktemp("pair") / "pair.mp4"
    return filmed(path, images, read_audio(anger)[22_400:48_000])


@pytest.fixture(scope="session")
def voice(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The voice of `moment` as a WAV file."""
    sound = read_audio(anger)[None, 22_400:48_000]
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    return write_clip(path, audio=sound, rate=SAMPLE_RATE, video=None)
