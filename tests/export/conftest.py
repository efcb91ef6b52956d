"""The package's checkpoint, exported once for all tests of the export."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from export import build
from export.build import build_from_engines, export_engines
from export.checkpoint import Source, open_source
from export.graphs import model_graphs, to_onnx
from export.options import PRECISIONS, ExportOptions
from export.parity import Parity
from mfer_edge.bundle import Bundle
from mfer_edge.samples import CLIPS
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import SAMPLE_RATE, Clip, read_audio
from tests.support.clips import write_clip
from tests.train.synthetic import small_presets
from train.models.arms import GruArm
from train.models.emotion_model import EmotionModel
from train.models.fer_resnet import FACE_EMBEDDING

START_S, LENGTH_S = 1.2, 1.0  # of the short clip within a sample
FRAME_RATE = 5.0


@dataclass(frozen=True)
class Exported:
    """Engine files in fp32."""

    files: Mapping[str, Path]  # by name
    output: str  # output to the terminal


@dataclass(frozen=True)
class Built:
    """A bundle, its parity with PyTorch on the samples, and output to the terminal."""

    bundle: Bundle
    parity: Parity
    output: str


class CapturedOutput(io.StringIO):
    """Captures output, logging and warnings."""

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        handler = logging.StreamHandler(self)
        logging.getLogger().addHandler(handler)
        try:
            with (
                contextlib.redirect_stdout(self),
                contextlib.redirect_stderr(self),
                warnings.catch_warnings(record=True) as warned,
            ):
                warnings.simplefilter("default")
                yield
            self.write("".join(f"{w.category.__name__}: {w.message}\n" for w in warned))
        finally:
            logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="session")
def samples() -> list[Path]:
    return list(CLIPS)


@pytest.fixture(scope="session")
def clip(samples: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of a sample: enough to run every engine."""
    with Clip(samples[0], FRAME_RATE) as source:
        images = [item.image for item in source if isinstance(item, Frame)]
    first = round(START_S * FRAME_RATE)
    height, width = images[0].shape[:2]
    audio = read_audio(samples[0])[round(START_S * SAMPLE_RATE) :]
    return write_clip(
        tmp_path_factory.mktemp("clip") / "short.mp4",
        LENGTH_S,
        FRAME_RATE,
        (width, height),
        video=lambda index: images[first + index],
        audio=audio[None, : round(LENGTH_S * SAMPLE_RATE)],
        rate=SAMPLE_RATE,
    )


@pytest.fixture(scope="session")
def source() -> Source:
    """The compact model, with a GRU for its image arm: the operator that is hardest to export.

    The arm that ships is exported in test_compact_arms.py.
    """
    source = replace(open_source(), card="# A card\n")
    torch.manual_seed(0)
    labels = len(source.model.preset.labels)
    source.model.visual = GruArm(FACE_EMBEDDING, source.model.preset.visual_width, labels).eval()
    return source


@pytest.fixture(scope="session")
def model(source: Source) -> EmotionModel:
    return source.model


@pytest.fixture(scope="session")
def paper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, dict[str, Path]]:
    """The paper's model with small backbones, untrained, and its exported engines."""
    with small_presets():
        source = open_source("paper", random_init=True)
    return source, export_engines(source.model, tmp_path_factory.mktemp("paper"))


@pytest.fixture(scope="session")
def exported(model: EmotionModel, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    output = CapturedOutput()
    with output.capture():
        files = export_engines(model, tmp_path_factory.mktemp("networks"))
    return Exported(files, output.getvalue())


def built(
    source: Source, exported: Exported, precision: str, samples: list[Path], folder: Path
) -> Built:
    output = CapturedOutput()
    with output.capture():
        options = ExportOptions(folder / "bundle", precision, samples)
        bundle, parity = build_from_engines(source, exported.files, options)
    return Built(bundle, parity, output.getvalue())


def built_in(precision: str) -> Callable[..., Built]:
    """Create the fixture of a bundle, named after its precision."""

    @pytest.fixture(scope="session", name=precision.replace("-", "_"))
    def fixture(
        source: Source,
        exported: Exported,
        samples: list[Path],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Built:
        return built(source, exported, precision, samples, tmp_path_factory.mktemp(precision))

    return fixture


fp32, fp16, int8, int8_gpu = map(built_in, PRECISIONS)


@pytest.fixture
def quick(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the export by a copy of the engines exported once; another visual arm is exported."""

    def copy(model: EmotionModel, folder: Path) -> dict[str, Path]:
        files = {
            name: Path(shutil.copyfile(path, folder / path.name))
            for name, path in exported.files.items()
        }
        if not isinstance(model.visual, GruArm):
            for name in ("visual", "fusion"):
                to_onnx(model_graphs(model)[name], files[name])
        return files

    monkeypatch.setattr(build, "export_engines", copy)
