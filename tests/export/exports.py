"""Models that the tests of the export share, and their engines: a trace takes seconds."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
import torch

from export import graphs
from export.build import export_engines
from export.graphs import Graph, trace
from tests.train.synthetic import small_presets
from train.models.emotion_model import EmotionModel
from train.presets import PRESETS


@dataclass(frozen=True)
class Exported:
    """Engine files in fp32."""

    files: Mapping[str, Path]  # by name
    traced: Mapping[tuple[str, ...], onnx.ModelProto]
    """Graphs as the exporter gave them, with its metadata, by the names of their inputs."""
    output: str  # output to the terminal

    def graph(self, name: str) -> onnx.ModelProto:
        """A copy of an engine's graph."""
        return onnx.load(self.files[name])


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


def export_once(model: EmotionModel, folder: Path) -> Exported:
    """Export all engines of a model, and keep what the exporter gave."""
    output, traced = CapturedOutput(), dict[tuple[str, ...], onnx.ModelProto]()

    def kept(graph: Graph) -> onnx.ModelProto:
        made = trace(graph)
        traced[tuple(graph.inputs)] = copy = onnx.ModelProto()
        copy.CopyFrom(made)
        return made

    with pytest.MonkeyPatch.context() as patch, output.capture():
        patch.setattr(graphs, "trace", kept)
        files = export_engines(model, folder)
    return Exported(files, traced, output.getvalue())


def copied(files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Copy engine files into a folder."""
    return {name: Path(shutil.copyfile(path, folder / path.name)) for name, path in files.items()}


@functools.cache
def small_paper() -> EmotionModel:
    """The paper's model with small backbones of its own classes; every weight is random.

    Those too that start as zeros or ones, so that a weight that is lost is missed.
    """
    with small_presets():
        torch.manual_seed(0)
        model = EmotionModel(PRESETS["paper"]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    for arm in (model.audio, model.visual):
        arm.standardise.set(*torch.rand(2, arm.observed) + 0.3)
    return model
