"""Backends, as far as a machine without a GPU can run them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.gpu.backends import attempt
from benchmarks.gpu.onnx_backends import onnx_backends, onnx_runner
from benchmarks.gpu.torch_backends import TorchRunner, to_fp16, torch_backends
from mfer_edge.bundle import Bundle
from mfer_edge.manifest import MODEL_ENGINES
from train.models.emotion_model import EmotionModel

NO_GPU = not torch.cuda.is_available()


@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_arrays_on_the_device_give_the_same_results(
    name: str, bundle: Bundle, recorded: dict[str, list[dict[str, np.ndarray]]]
) -> None:
    runner = onnx_runner(bundle.engine_path(name), "cpu")
    call = recorded[name][0]
    bound = runner.bind(call)()
    assert isinstance(bound, dict)
    for output, array in runner(**call).items():
        np.testing.assert_array_equal(bound[output].numpy(), array)


def test_fp16_in_pytorch_is_close_to_fp32(model: EmotionModel) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (1, 1, 48, 48), np.uint8)
    fp16 = TorchRunner(to_fp16(model, "cpu").networks()["face"], ("embedding",), "cpu", True)
    fp32 = TorchRunner(model.networks()["face"], ("embedding",), "cpu", False)
    given, expected = (runner(faces=faces)["embedding"] for runner in (fp16, fp32))
    assert given.dtype == np.float32
    assert 0 < np.abs(given - expected).max() < 0.02 * np.abs(expected).max()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}  # it was a copy


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_missing_backends_are_listed_with_the_reason(model: EmotionModel, bundle: Bundle) -> None:
    not_run: dict[str, str] = {}
    backends = torch_backends(model, "cuda", True, not_run)
    backends += onnx_backends({"int8": bundle}, "cuda", True, not_run)
    assert [str(backend) for backend in backends] == ["ONNX Runtime CPU int8"]
    assert set(not_run) == {"PyTorch CUDA", "ONNX Runtime CUDA", "ONNX Runtime TensorRT-RTX"}
    assert all(not_run.values())


def test_an_error_without_a_message_is_named_by_its_type() -> None:
    not_run: dict[str, str] = {}
    with attempt("part", not_run):
        raise SilentError
    assert not_run == {"part": "SilentError"}


class SilentError(Exception):
    pass
