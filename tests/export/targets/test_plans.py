"""Plans added to a bundle: checked against its ONNX engines before they are saved."""

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
from tests.support.cuda_stand_in import GpuMachine
from tests.support.gpu_bundle import gpu_bundle
from tests.support.tensorrt_stand_in import modules

ERROR = 1e-5  # of the plans' outputs: far less than the tolerance


class InexactSession:
    """A session whose outputs differ slightly, as on another device."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def run(
        self, names: Sequence[str] | None, inputs: Mapping[str, np.ndarray]
    ) -> list[np.ndarray]:
        return [output + np.float32(ERROR) for output in self._session.run(names, inputs)]


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with TensorRT, whose outputs differ slightly."""
    stand_ins = modules(GpuMachine())
    trt = stand_ins["tensorrt"]

    class Runtime(trt.Runtime):  # type: ignore[name-defined]
        def deserialize_cuda_engine(self, data: bytes) -> object:
            engine = super().deserialize_cuda_engine(data)
            engine.session = InexactSession(engine.session)
            return engine

    monkeypatch.setattr(trt, "Runtime", Runtime)
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def ambiguous_bundle(folder: Path, clip: Path, trained: bool) -> Bundle:
    """Save a bundle whose scores on this clip are almost equal.

    If every element of the audio embedding is slightly larger, the second label is on top.
    """
    bundle = gpu_bundle(folder)
    manifest = bundle.manifest
    call, *_ = record_calls(bundle, [clip], ["fusion"])["fusion"]  # the others are adapted
    width, labels = call["audio"].shape[1], len(manifest.labels)
    weight, bias = np.zeros((width, labels), np.float32), np.zeros(labels, np.float32)
    weight[:, 1] = 1
    bias[1] = -call["audio"].astype(np.float64).sum() - width * ERROR / 2
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


def test_labels_of_untrained_bundles_may_differ(clip: Path, tmp_path: Path) -> None:
    bundle = ambiguous_bundle(tmp_path / "bundle", clip, trained=False)
    result = export(bundle, clip, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stderr == "warning: Untrained: random weights. The scores mean nothing.\n"
    assert "labels: 1 of 2 readings agree" in result.stdout
    assert "FAILED" not in result.stdout
    saved = Bundle.open(tmp_path / "out")
    assert set(saved.manifest.plans) == {"face", "audio"}
    assert not saved.manifest.trained


def test_the_rest_of_the_bundle_is_unchanged(clip: Path, tmp_path: Path) -> None:
    """Its parity figures too: they compare with PyTorch, the plans with the ONNX engines."""
    bundle = ambiguous_bundle(tmp_path / "bundle", clip, trained=False)
    assert bundle.manifest.parity
    assert export(bundle, clip, bundle.folder).exit_code == 0
    saved = Bundle.open(bundle.folder)
    assert replace(saved.manifest, plans={}) == bundle.manifest
    assert (saved.folder / CARD).read_text(encoding="utf-8") == "# Müller's card\n"


def test_a_card_that_is_not_text(clip: Path, tmp_path: Path) -> None:
    bundle = gpu_bundle(tmp_path / "bundle")
    (bundle.folder / CARD).write_bytes("# Müller".encode("latin-1"))
    result = export(bundle, clip, tmp_path / "out")
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {bundle.folder / CARD}: the model card is not UTF-8 text")


def test_labels_of_trained_bundles_may_not_differ(clip: Path, tmp_path: Path) -> None:
    bundle = ambiguous_bundle(tmp_path / "bundle", clip, trained=True)
    result = export(bundle, clip, tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert result.stderr == "error: the TensorRT engines failed: labels: 1 of 2 readings agree\n"
    assert "FAILED labels" in result.stdout
    assert not (tmp_path / "out").exists()
