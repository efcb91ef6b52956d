"""A bundle with TensorRT engines: measured against its own networks before it is saved."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click.testing
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.calibration import record_calls
from mfer_edge.bundle import Bundle, file_sha256, save_bundle
from mfer_edge.cli.main import main
from mfer_edge.manifest import CARD
from tests.support.tensorrt_stand_in import World, gpu_bundle

OFF = 1e-5  # by which the engines' numbers are off: far less than is allowed


class Rounding:
    """A session whose sums come out a little otherwise, as on another device."""

    def __init__(self, exact: onnxruntime.InferenceSession) -> None:
        self._exact = exact

    def run(self, names: Sequence[str] | None, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [result + np.float32(OFF) for result in self._exact.run(names, given)]


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with TensorRT, which rounds."""
    modules = World().modules()
    trt = modules["tensorrt"]

    class Runtime(trt.Runtime):  # type: ignore[name-defined]
        def deserialize_cuda_engine(self, data: bytes) -> object:
            engine = super().deserialize_cuda_engine(data)
            engine.session = Rounding(engine.session)
            return engine

    monkeypatch.setattr(trt, "Runtime", Runtime)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def undecided(folder: Path, clip: Path, trained: bool) -> Bundle:
    """Save a bundle that finds the labels all but equally likely in this clip.

    Where the voice's embedding is a little larger in every number, the second is the likeliest.
    """
    bundle = gpu_bundle(folder)
    manifest = bundle.manifest
    (call,) = record_calls(bundle, [clip], ["fusion"])["fusion"]
    width, labels = call["audio"].shape[1], len(manifest.labels)
    weight, bias = np.zeros((width, labels), np.float32), np.zeros(labels, np.float32)
    weight[:, 1] = 1
    bias[1] = -call["audio"].astype(np.float64).sum() - width * OFF / 2
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["audio", "weight", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"]),
        ],
        "fusion",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
            for name, array in call.items()
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, labels])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    path = folder.with_name("fusion.onnx")
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    fusion = replace(
        manifest.engines["fusion"], sha256=file_sha256(path), bytes=path.stat().st_size
    )
    files = {file.file: folder / file.file for file in manifest.files} | {fusion.file: path}
    manifest = replace(
        manifest,
        engines={**manifest.engines, "fusion": fusion},
        trained=trained,
        notes=() if trained else ("Untrained: random weights.",),
    )
    return save_bundle(folder, manifest, files, "# Müller's card\n")


def export(bundle: Bundle, clip: Path, out: Path) -> click.testing.Result:
    arguments = ["--tensorrt", "--bundle", bundle.folder, "--verify", clip, "--out", out]
    return click.testing.CliRunner().invoke(main, ["export", *map(str, arguments)])


def test_another_label_is_no_failure_where_labels_mean_nothing(clip: Path, tmp_path: Path) -> None:
    bundle = undecided(tmp_path / "bundle", clip, trained=False)
    result = export(bundle, clip, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stderr == "warning: Untrained: random weights. The scores mean nothing.\n"
    assert "labels: 0 of 1 readings agree" in result.stdout
    assert "FAILED" not in result.stdout
    made = Bundle.open(tmp_path / "out")
    assert set(made.manifest.plans) == {"face", "audio"}
    assert not made.manifest.trained


def test_the_rest_of_the_bundle_stays_as_it_was(clip: Path, tmp_path: Path) -> None:
    """Its figures too: they are from PyTorch, and the engines are measured by the networks."""
    bundle = undecided(tmp_path / "bundle", clip, trained=False)
    assert bundle.manifest.parity
    assert export(bundle, clip, bundle.folder).exit_code == 0
    made = Bundle.open(bundle.folder)
    assert replace(made.manifest, plans={}) == bundle.manifest
    assert (made.folder / CARD).read_text(encoding="utf-8") == "# Müller's card\n"


def test_a_card_that_is_no_text_is_one_line(clip: Path, tmp_path: Path) -> None:
    bundle = gpu_bundle(tmp_path / "bundle")
    (bundle.folder / CARD).write_bytes("# Müller".encode("latin-1"))
    result = export(bundle, clip, tmp_path / "out")
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {bundle.folder / CARD}: the model card is no text in UTF-8")


def test_another_label_is_a_failure_of_a_trained_bundle(clip: Path, tmp_path: Path) -> None:
    bundle = undecided(tmp_path / "bundle", clip, trained=True)
    result = export(bundle, clip, tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert result.stderr == "error: the TensorRT engines failed: labels: 0 of 1 readings agree\n"
    assert "FAILED labels" in result.stdout
    assert not (tmp_path / "out").exists()
