"""ONNX engines: named arrays, devices, and errors that say what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.assets import SILERO_VAD
from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.onnx import DEVICES, OnnxEngine, providers_for
from mfer_edge.errors import EngineError
from tests.support.paths import ROOT

STATE = np.zeros((1, 1, 128), np.float32)


@pytest.fixture(scope="module")
def vad() -> OnnxEngine:
    return OnnxEngine(SILERO_VAD, providers_for("cpu"), threads=1)


def test_tensors_are_described_as_in_the_graph(vad: OnnxEngine) -> None:
    assert vad.inputs == [
        TensorSpec("input", "float32", ("sequence_length", 576)),
        TensorSpec("h", "float32", (1, 1, 128)),
        TensorSpec("c", "float32", (1, 1, 128)),
    ]
    assert [tensor.name for tensor in vad.outputs] == ["speech_probs", "hn", "cn"]


def test_inputs_and_outputs_are_named(vad: OnnxEngine) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, (7, 576)).astype(np.float32)
    result = vad(c=STATE, input=audio, h=STATE)
    session = onnxruntime.InferenceSession(str(SILERO_VAD), providers=["CPUExecutionProvider"])
    expected = session.run(["hn", "speech_probs"], {"input": audio, "h": STATE, "c": STATE})
    assert set(result) == {"speech_probs", "hn", "cn"}
    np.testing.assert_allclose(result["hn"], expected[0], atol=1e-6)
    np.testing.assert_allclose(result["speech_probs"], expected[1], atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": np.zeros((1, 576), np.float32)},
        {"input": np.zeros((1, 576), np.float64), "h": STATE, "c": STATE},
        {"input": np.zeros((1, 500), np.float32), "h": STATE, "c": STATE},
        {"input": np.zeros((1, 576), np.float32), "h": STATE, "c": STATE, "other": STATE},
    ],
    ids=["input missing", "wrong type", "wrong shape", "unknown input"],
)
def test_wrong_arrays_are_an_engine_error(vad: OnnxEngine, wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(EngineError) as error:
        vad(**wrong)
    assert_one_clear_line(error.value, SILERO_VAD)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "face.onnx"
    with pytest.raises(EngineError, match="no such file") as error:
        OnnxEngine(path, providers_for("cpu"))
    assert_one_clear_line(error.value, path)


@pytest.mark.parametrize("damage", ["empty", "cut", "overwritten", "text"])
def test_damaged_file(tmp_path: Path, damage: str) -> None:
    good = SILERO_VAD.read_bytes()
    path = tmp_path / "face.onnx"
    path.write_bytes(
        {
            "empty": b"",
            "cut": good[: len(good) // 2],
            "overwritten": good[:3000] + bytes(200) + good[3200:],
            "text": b"version https://git-lfs.github.com/spec/v1\n" * 3,
        }[damage]
    )
    with pytest.raises(EngineError, match="can't load it") as error:
        OnnxEngine(path, providers_for("cpu"))
    assert_one_clear_line(error.value, path)


def test_auto_runs_where_nothing_but_onnxruntime_is_installed() -> None:
    assert OnnxEngine(SILERO_VAD, providers_for("auto"), threads=1).providers[-1] == (
        "CPUExecutionProvider"
    )


def test_auto_is_the_cpu_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr("mfer_edge.engines.onnx._has_gpu", lambda: False)
    assert providers_for("auto") == ["CPUExecutionProvider"]
    assert providers_for("cuda") == both  # named: no fallback
    monkeypatch.setattr("mfer_edge.engines.onnx._has_gpu", lambda: True)
    assert providers_for("auto") == both


def test_onnxruntime_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match="mfer-edge's extra gpu: pip install") as error:
        providers_for("cuda")
    assert "--device cuda" in str(error.value)


def test_tensorrt_is_not_a_provider_of_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans run without ONNX Runtime's provider; it is the library that is missing."""
    both = ["TensorrtExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"pip install tensorrt; on a Jetson .* JetPack"):
        providers_for("tensorrt")


def test_unknown_device() -> None:
    with pytest.raises(EngineError) as error:
        providers_for("tpu")
    assert all(device in str(error.value) for device in ("tpu", *DEVICES))


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("provider", ["CUDAExecutionProvider", "NoSuchExecutionProvider"])
def test_no_fallback_from_a_provider_that_does_not_start(
    provider: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"{provider} is built in here")
    with pytest.raises(EngineError, match=provider) as error:
        OnnxEngine(SILERO_VAD, [provider, "CPUExecutionProvider"])
    assert_one_clear_line(error.value, SILERO_VAD)
    assert capfd.readouterr().out == ""  # where `--json -` writes


def test_missing_onnxruntime_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from mfer_edge.engines.onnx import providers_for\n"
        "from mfer_edge.errors import EngineError\n"
        "try: providers_for('cpu')\n"
        "except EngineError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "ONNX Runtime is not installed" in done.stdout
    assert "install mfer-edge's extra cpu: pip install " in done.stdout


def assert_one_clear_line(error: EngineError, path: Path) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.count(str(path)) == 1
    assert "ONNXRuntimeError" not in text
