"""TensorRT plans built on a real GPU: parity with ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import click.testing
import numpy as np
import pytest

from mfer_edge.arms import Place
from mfer_edge.bundle import Bundle
from mfer_edge.cli.main import main
from mfer_edge.doctor import checkup
from mfer_edge.engines.load import ACCELERATED
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.engines.tensorrt import CAPTURE_AFTER, TensorRtEngine
from mfer_edge.engines.tensorrt_target import check_plans, this_target
from mfer_edge.errors import EngineError
from mfer_edge.pipeline import Pipeline
from mfer_edge.samples import CLIPS

SCORE_TOLERANCE = {"fp32": 0.001, "fp16": 0.01, "int8-gpu": 0.15}  # as the parity check of exports
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999, "int8-gpu": 0.98}


@pytest.fixture(scope="module", params=SCORE_TOLERANCE)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def bundle(precision: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The compact model with plans for this machine, built by the command."""
    try:
        this_target()
    except EngineError as error:
        pytest.skip(f"no TensorRT: {error}")
    out = tmp_path_factory.mktemp(precision) / "bundle"
    arguments = ["export", f"--{precision}", "--tensorrt", "--out", str(out)]
    result = click.testing.CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return Bundle.open(out)


def arrays(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random array for the input of this name."""
    random = np.random.default_rng(shape[-1])
    if name == "faces":
        return random.integers(0, 256, shape, np.uint8)
    if name == "scale":
        return random.uniform(0.5, 2, shape).astype(np.float32)
    return random.normal(0, 0.1, shape).astype(np.float32)


def cosine(actual: np.ndarray, expected: np.ndarray) -> float:
    a, b = actual.ravel().astype(np.float64), expected.ravel().astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def engine(bundle: Bundle, name: str) -> TensorRtEngine:
    plan = bundle.manifest.plans[name]
    return TensorRtEngine(bundle.folder / plan.file, plan)


def test_plans_are_for_this_machine(bundle: Bundle) -> None:
    check_plans(bundle, ACCELERATED, this_target())
    checks = {check.what: check for check in checkup(bundle.folder)}
    assert checks["device tensorrt"].ok, checks["device tensorrt"].detail


@pytest.mark.parametrize("name", ACCELERATED)
def test_every_profile(bundle: Bundle, precision: str, name: str) -> None:
    """At its smallest, optimal and largest shapes; each until it is a CUDA graph, and once more."""
    gpu = engine(bundle, name)
    cpu = OnnxEngine(bundle.engine_path(name), providers_for("cpu"), threads=1)
    for profile in bundle.manifest.plans[name].profiles:
        for size in ("min", "opt", "max"):
            given = {
                tensor: arrays(tensor, getattr(shapes, size)) for tensor, shapes in profile.items()
            }
            expected = cpu(**given)
            for _ in range(CAPTURE_AFTER + 2):
                actual = gpu(**given)
                for output, array in expected.items():
                    assert actual[output].shape == array.shape
                    assert cosine(actual[output], array) > MIN_COSINE[precision], output
    gpu.close()


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.stem)
def test_scores(bundle: Bundle, precision: str, clip: Path) -> None:
    expected = Pipeline.open(bundle.folder, "cpu", 1).analyze(clip)
    actual = Pipeline.open(bundle.folder, "tensorrt", 1).analyze(clip)
    assert actual.device == "tensorrt" and actual.providers[0].startswith("TensorRT ")
    assert actual.overall is not None and expected.overall is not None
    assert actual.overall.label == expected.overall.label
    assert actual.overall.scores == pytest.approx(
        expected.overall.scores, abs=SCORE_TOLERANCE[precision]
    )


def test_auto_uses_the_plans(bundle: Bundle) -> None:
    pipeline = Pipeline.open(bundle.folder)
    assert (pipeline.device, pipeline.notes) == ("tensorrt", ())


def test_memory_is_freed(bundle: Bundle) -> None:
    """Many engines one after the other do not fill the GPU."""
    from mfer_edge.engines.tensorrt_target import checked, import_cuda

    cuda = import_cuda()
    free: list[int] = []
    for _ in range(6):
        audio = engine(bundle, "audio")
        place = Place.training_set(bundle.manifest.observed("audio"))
        audio(wave=arrays("wave", (1, 64_000)), shift=place.shift, scale=place.scale)
        audio.close()
        free.append(checked(cuda.cudaMemGetInfo()))
    assert free[-1] > free[1] - (16 << 20)
