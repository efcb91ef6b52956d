"""The package's checkpoint, exported once for all tests of the export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from export import build
from export.build import build_from_engines
from export.checkpoint import Source, open_source
from export.graphs import model_graphs, to_onnx
from export.options import PRECISIONS, ExportOptions
from export.parity import Parity
from mfer_edge.bundle import Bundle
from mfer_edge.samples import CLIPS
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import SAMPLE_RATE, Clip, read_audio
from tests.export.exports import CapturedOutput, Exported, copied, export_once, small_paper
from tests.support.clips import write_clip
from tests.support.exporter import operators_kept
from tests.train.synthetic import small_presets
from train.models.arms import GruArm
from train.models.emotion_model import EmotionModel
from train.models.fer_resnet import FACE_EMBEDDING

START_S, LENGTH_S = 1.2, 1.0  # of the short clip within a sample
FRAME_RATE = 5.0


@dataclass(frozen=True)
class Shipped:
    """A model, and its engines in fp32."""

    source: Source
    files: Mapping[str, Path]  # by name


@dataclass(frozen=True)
class Built:
    """A bundle, its parity with PyTorch on the samples, and output to the terminal."""

    bundle: Bundle
    parity: Parity
    output: str
    clips: list[Path]  # on which parity was measured


@pytest.fixture(scope="session", autouse=True)
def operators_once() -> Iterator[None]:
    with operators_kept():
        yield


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
def exported(model: EmotionModel, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_once(model, tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="session")
def shipped(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """The compact model with its own image arm."""
    source, files = open_source(), dict(exported.files)
    graphs, folder = model_graphs(source.model), tmp_path_factory.mktemp("shipped")
    for name in ("visual", "fusion"):
        files[name] = folder / f"{name}.onnx"
        to_onnx(graphs[name], files[name])
    return Shipped(source, files)


@pytest.fixture(scope="session")
def paper_source() -> Source:
    """The paper's model with small backbones, untrained."""
    with small_presets():
        return replace(open_source("paper", random_init=True), model=small_paper())


@pytest.fixture(scope="session")
def paper(
    paper_source: Source, exported: Exported, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    def copy(folder: Path) -> dict[str, Path]:
        """The detector's networks are those of every model."""
        return copied({name: exported.files[name] for name in ("pnet", "rnet", "onet")}, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "export_mtcnn", copy)
        return export_once(paper_source.model, tmp_path_factory.mktemp("paper"))


def built(
    source: Source, exported: Exported, precision: str, clips: list[Path], folder: Path
) -> Built:
    output = CapturedOutput()
    with output.capture():
        options = ExportOptions(folder / "bundle", precision, clips)
        bundle, parity = build_from_engines(source, exported.files, options)
    return Built(bundle, parity, output.getvalue(), clips)


def built_in(precision: str) -> Callable[..., Built]:
    """Create the fixture of a bundle, named after its precision.

    The precisions that ship are measured on the samples, the others on a second of one.
    """

    @pytest.fixture(scope="session", name=precision.replace("-", "_"))
    def fixture(
        source: Source,
        exported: Exported,
        samples: list[Path],
        clip: Path,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Built:
        clips = samples if precision in ("fp32", "int8") else [clip]
        return built(source, exported, precision, clips, tmp_path_factory.mktemp(precision))

    return fixture


fp32, fp16, int8, int8_gpu = map(built_in, PRECISIONS)


@pytest.fixture
def quick(exported: Exported, shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the export by a copy of the engines exported once."""

    def copy(model: EmotionModel, folder: Path) -> dict[str, Path]:
        files = exported.files if isinstance(model.visual, GruArm) else shipped.files
        return copied(files, folder)

    monkeypatch.setattr(build, "export_engines", copy)
