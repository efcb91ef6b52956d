"""TensorRT engines: parity with ONNX Runtime, GPU memory, and errors."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.targets.tensorrt import add_plans
from mfer_edge.bundle import Bundle
from mfer_edge.doctor import checkup
from mfer_edge.engines.load import ACCELERATED
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.engines.tensorrt import CAPTURE_AFTER, MAX_GRAPHS, TensorRtEngine
from mfer_edge.engines.tensorrt_target import Gpu, Target, check_plans, this_target
from mfer_edge.errors import EngineError
from mfer_edge.pipeline import Pipeline
from tests.support.cuda_stand_in import GpuMachine
from tests.support.gpu_bundle import gpu_bundle
from tests.support.tensorrt_stand_in import install


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle without TensorRT plans."""
    return gpu_bundle(tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module", params=["10.3.0", "11.4.0.106"])
def bundle(
    plain: Bundle, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A bundle with plans, built by a version of TensorRT."""
    folder = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch, GpuMachine(version=request.param))
        return add_plans(plain, folder / "bundle", timing_cache=folder / "timings")


@pytest.fixture
def machine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> GpuMachine:
    """The machine that the plans were built on."""
    return install(monkeypatch, GpuMachine(version=bundle.manifest.plans["audio"].tensorrt))


def engine(bundle: Bundle, name: str) -> TensorRtEngine:
    plan = bundle.manifest.plans[name]
    return TensorRtEngine(bundle.folder / plan.file, plan)


def on_cpu(bundle: Bundle, name: str) -> OnnxEngine:
    return OnnxEngine(bundle.engine_path(name), providers_for("cpu"), threads=1)


def wave(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(0, 0.1, (1, samples)).astype(np.float32)


WIDTH = next(
    t.shape[1] for t in Bundle.open().manifest.engines["audio"].outputs if t.name == "embedding"
)


def audio_inputs(given: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of the audio engine: (1, samples), and a place."""
    shift, scale = np.linspace(-1, 1, WIDTH), np.linspace(0.5, 2, WIDTH)
    return {"wave": given, "shift": shift.astype("f"), "scale": scale.astype("f")}


def faces(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 1, 48, 48), np.uint8)


def assert_same(given: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(given) == set(expected)
    for name, array in expected.items():
        assert given[name].dtype == array.dtype
        np.testing.assert_allclose(given[name], array, atol=1e-6)


@pytest.mark.usefixtures("machine")
class TestCalls:
    def test_tensors_are_those_of_the_onnx_file(self, bundle: Bundle) -> None:
        for name in ACCELERATED:
            ours, theirs = engine(bundle, name), on_cpu(bundle, name)
            for given, expected in ((ours.inputs, theirs.inputs), (ours.outputs, theirs.outputs)):
                assert [(t.name, t.dtype) for t in given] == [(t.name, t.dtype) for t in expected]
            assert [len(t.shape) for t in ours.inputs] == [len(t.shape) for t in theirs.inputs]

    def test_every_profile_gives_what_onnx_runtime_gives(self, bundle: Bundle) -> None:
        """At the limits of the profiles, switching between them."""
        ours, theirs = engine(bundle, "audio"), on_cpu(bundle, "audio")
        for samples in (6400, 96000, 16000, 16001, 32000, 32001, 64000, 6401, 12345):
            assert_same(ours(**audio_inputs(wave(samples))), theirs(**audio_inputs(wave(samples))))
        ours, theirs = engine(bundle, "face"), on_cpu(bundle, "face")
        for count in (1, 31, 2, 1):
            assert_same(ours(faces=faces(count)), theirs(faces=faces(count)))

    def test_arrays_need_not_be_contiguous(self, bundle: Bundle) -> None:
        given = faces(8)[::2, :, ::-1]
        expected = on_cpu(bundle, "face")(faces=np.ascontiguousarray(given))
        assert_same(engine(bundle, "face")(faces=given), expected)

    def test_outputs_are_copies(self, bundle: Bundle) -> None:
        face = engine(bundle, "face")
        first = face(faces=faces(3))["embedding"]
        before = first.copy()
        face(faces=faces(4))
        np.testing.assert_array_equal(first, before)

    def test_calls_from_several_threads(self, bundle: Bundle) -> None:
        ours, theirs = engine(bundle, "audio"), on_cpu(bundle, "audio")
        lengths = [6400, 6401, 6402, 20000, 6403] * 6
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda samples: ours(**audio_inputs(wave(samples))), lengths))
        for samples, result in zip(lengths, results, strict=True):
            assert_same(result, theirs(**audio_inputs(wave(samples))))

    @pytest.mark.parametrize(
        ("arrays", "why"),
        [
            ({}, "the inputs are faces (uint8), not nothing"),
            (
                {"faces": faces(1).astype(np.float32)},
                "the inputs are faces (uint8), not faces (float32)",
            ),
            ({"wave": wave(6400)}, "the inputs are faces (uint8), not wave (float32)"),
            ({"faces": faces(32)}, "built for faces of (1, 1, 48, 48) to (31, 1, 48, 48), not "),
            ({"faces": faces(1)[:0]}, "not (0, 1, 48, 48)"),
            ({"faces": faces(1)[0]}, "not (1, 48, 48)"),
        ],
        ids=["nothing", "type", "name", "too many", "none", "shape"],
    )
    def test_wrong_arrays(self, bundle: Bundle, arrays: dict[str, np.ndarray], why: str) -> None:
        face = engine(bundle, "face")
        with pytest.raises(EngineError) as error:
            face(**arrays)
        text = str(error.value)
        assert text.startswith(str(face.path)) and why in text and "\n" not in text
        assert_same(face(faces=faces(2)), on_cpu(bundle, "face")(faces=faces(2)))


class TestGraphs:
    """Shapes that repeat are captured in CUDA graphs, with the same results."""

    def assert_parity(self, bundle: Bundle, lengths: list[int]) -> None:
        ours, theirs = engine(bundle, "audio"), on_cpu(bundle, "audio")
        for call, samples in enumerate(lengths):
            given = np.roll(wave(samples), call)
            assert_same(ours(**audio_inputs(given)), theirs(**audio_inputs(given)))

    def test_shapes_that_repeat(self, bundle: Bundle, machine: GpuMachine) -> None:
        """Other shapes in between do not affect the graph."""
        self.assert_parity(bundle, [6400] * (CAPTURE_AFTER + 4) + [7000, 40000, 6400])
        assert machine.launches == 5

    def test_of_every_profile(self, bundle: Bundle, machine: GpuMachine) -> None:
        self.assert_parity(bundle, [64000, 20000, 6400] * (CAPTURE_AFTER + 2))
        assert machine.launches == 3 * 2

    def test_shapes_that_do_not_repeat(self, bundle: Bundle, machine: GpuMachine) -> None:
        self.assert_parity(bundle, list(range(6400, 6420)))
        assert (machine.launches, machine.runs) == (0, 20)

    def test_the_number_of_graphs_is_limited(self, bundle: Bundle, machine: GpuMachine) -> None:
        """The least recently used graph is evicted, and may be captured again."""
        audio = engine(bundle, "audio")
        lengths = [6400 + shape for shape in range(MAX_GRAPHS + 2)]
        for samples in [*lengths, lengths[-1], lengths[0]]:
            for _ in range(CAPTURE_AFTER + 1):
                audio(**audio_inputs(wave(samples)))
            assert len(machine.graphs) <= MAX_GRAPHS
        assert machine.launches == len(lengths) + (CAPTURE_AFTER + 1) + 1

    def test_an_engine_that_can_not_be_captured(self, bundle: Bundle, machine: GpuMachine) -> None:
        machine.capturable = False
        self.assert_parity(bundle, [6400] * (CAPTURE_AFTER + 4))
        assert (machine.launches, machine.in_use) == (0, 0)
        assert machine.runs == CAPTURE_AFTER + 4 + 1  # it was tried once

    def test_no_room_for_another_context(self, bundle: Bundle, machine: GpuMachine) -> None:
        machine.contexts = 1
        self.assert_parity(bundle, [6400] * (CAPTURE_AFTER + 4))
        assert machine.launches == 0


class TestMemory:
    def test_is_freed_by_close(self, bundle: Bundle, machine: GpuMachine) -> None:
        audio = engine(bundle, "audio")
        for _ in range(CAPTURE_AFTER + 1):
            audio(**audio_inputs(wave(6400)))
        assert machine.graphs and machine.memory and machine.streams
        audio.close()
        assert machine.in_use == 0
        audio.close()
        with pytest.raises(EngineError, match="closed"):
            audio(**audio_inputs(wave(6400)))

    def test_is_freed_with_the_engine(self, bundle: Bundle, machine: GpuMachine) -> None:
        audio = engine(bundle, "audio")
        audio(**audio_inputs(wave(6400)))
        del audio
        gc.collect()
        assert machine.in_use == 0

    def test_is_allocated_once(self, bundle: Bundle, machine: GpuMachine) -> None:
        audio = engine(bundle, "audio")
        taken = set(machine.memory)
        for samples in (6400, 96000, 20000):
            audio(**audio_inputs(wave(samples)))
        assert set(machine.memory) == taken

    def test_too_little_memory(self, bundle: Bundle, machine: GpuMachine) -> None:
        machine.device_bytes = 100_000
        with pytest.raises(EngineError, match=r"\.plan: CUDA: cudaErrorMemoryAllocation"):
            engine(bundle, "audio")
        gc.collect()
        assert machine.in_use == 0


@pytest.mark.usefixtures("machine")
class TestRefused:
    def test_damaged_file(self, bundle: Bundle, tmp_path: Path) -> None:
        plan = bundle.manifest.plans["face"]
        path = tmp_path / "face.plan"
        for content in (b"", b"rubbish"):
            path.write_bytes(content)
            with pytest.raises(EngineError, match=r"face.plan: can't be loaded: \w+"):
                TensorRtEngine(path, plan)
        path.unlink()
        with pytest.raises(EngineError, match=r"face\.plan: No such file"):
            TensorRtEngine(path, plan)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"tensorrt": "10.7.0"}, "are for TensorRT 10.7.0, and"),
            (
                {"gpu": "RTX", "compute_capability": "8.9"},
                "are for another GPU (RTX, compute capability 8.9; this is Orin, compute "
                "capability 8.7)",
            ),
            ({"graph_sha256": "0" * 64}, "was built from another ONNX file"),
        ],
        ids=["version", "GPU", "network"],
    )
    def test_plans_that_do_not_fit(
        self, bundle: Bundle, machine: GpuMachine, change: dict[str, str], why: str
    ) -> None:
        plans = dict(bundle.manifest.plans)
        plans["audio"] = replace(plans["audio"], **change)
        moved = replace(bundle, manifest=replace(bundle.manifest, plans=plans))
        check_plans(bundle, ACCELERATED, this_target())
        with pytest.raises(EngineError) as error:
            check_plans(moved, ACCELERATED, this_target())
        text = str(error.value)
        assert text.startswith(str(bundle.folder)) and why in text
        assert text.endswith(f"mfer-edge export --tensorrt --bundle {bundle.folder}")

    def test_the_command_in_the_error_is_quoted(self, plain: Bundle) -> None:
        moved = replace(plain, folder=Path("/data/my bundle"))
        with pytest.raises(EngineError, match=r"--bundle '/data/my bundle'$"):
            check_plans(moved, ACCELERATED, Target("10.3.0", Gpu("Orin", "8.7")))

    def test_cuda_that_does_not_start(
        self, bundle: Bundle, machine: GpuMachine, tmp_path: Path
    ) -> None:
        machine.starts = False
        with pytest.raises(EngineError, match="TensorRT does not start"):
            engine(bundle, "audio")
        with pytest.raises(EngineError, match="TensorRT does not start"):
            add_plans(bundle, timing_cache=tmp_path / "timings")

    def test_library_that_is_incomplete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            """Finds TensorRT, but not a library that it links to."""

            def find_spec(self, name: str, *_: object) -> None:
                if name == "tensorrt":
                    raise ImportError("libnvinfer.so.10: cannot open shared object file")

        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        with pytest.raises(EngineError, match=r"TensorRT can't be loaded: libnvinfer\.so\.10"):
            providers_for("tensorrt")

    def test_old_cuda_python(self, machine: GpuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its runtime module had another name."""
        runtime = sys.modules["cuda.bindings.runtime"]
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
        monkeypatch.setitem(sys.modules, "cuda.cudart", runtime)
        assert this_target() == Target(machine.version, Gpu("Orin", "8.7"))


class TestDevice:
    """`--device` from the bundle to the result."""

    def test_tensorrt(self, bundle: Bundle, machine: GpuMachine, moment: Path) -> None:
        expected = Pipeline.open(bundle.folder, "cpu", 1).analyze(moment)
        given = Pipeline.open(bundle.folder, "tensorrt", 1).analyze(moment)
        assert machine.runs > 0
        assert given.device == "tensorrt"
        assert given.providers == (f"TensorRT {machine.version}", "CPUExecutionProvider")
        for ours, theirs in zip(given.windows, expected.windows, strict=True):
            assert ours.label == theirs.label and ours.modalities == theirs.modalities
            assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
        assert given.warnings == expected.warnings

    def test_auto_uses_matching_plans(self, bundle: Bundle, machine: GpuMachine) -> None:
        pipeline = Pipeline.open(bundle.folder)
        assert (pipeline.device, pipeline.notes) == ("tensorrt", ())

    def test_auto_says_why_plans_were_not_used(
        self, bundle: Bundle, moment: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(monkeypatch, GpuMachine(version="10.9.0"))
        pipeline = Pipeline.open(bundle.folder)
        assert pipeline.device in ("cpu", "cuda")
        [warning] = pipeline.analyze(moment).warnings
        assert warning.startswith("--device auto could not take tensorrt: ")
        assert "10.9.0 is installed" in warning and "mfer-edge export --tensorrt" in warning

    def test_auto_without_tensorrt(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        [note] = Pipeline.open(bundle.folder).notes
        assert "TensorRT is not installed" in note

    def test_auto_has_no_note_without_plans(
        self, plain: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        assert Pipeline.open(plain.folder).notes == ()

    @pytest.mark.filterwarnings("ignore:Specified provider")
    def test_auto_falls_back_where_cuda_does_not_start(
        self, plain: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("CUDA is built in here")
        both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
        monkeypatch.setattr("mfer_edge.engines.onnx._has_gpu", lambda: True)
        pipeline = Pipeline.open(plain.folder)
        assert (pipeline.device, pipeline.providers) == ("cpu", ("CPUExecutionProvider",))
        [note] = pipeline.notes
        assert note.startswith("--device auto could not take cuda: ")
        with pytest.raises(EngineError, match="CUDAExecutionProvider did not start"):
            Pipeline.open(plain.folder, "cuda")

    def test_no_fallback_if_named(
        self, bundle: Bundle, plain: Bundle, machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(EngineError, match="has no TensorRT engine") as error:
            Pipeline.open(plain.folder, "tensorrt")
        assert f"mfer-edge export --tensorrt --bundle {plain.folder}" in str(error.value)
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(EngineError, match="TensorRT is not installed"):
            Pipeline.open(bundle.folder, "tensorrt")


class TestDoctor:
    def lines(self, folder: Path) -> dict[str, tuple[bool, str]]:
        return {check.what: (check.ok, check.detail) for check in checkup(folder)}

    def test_everything_is_available(self, bundle: Bundle, machine: GpuMachine) -> None:
        lines = self.lines(bundle.folder)
        here = f"TensorRT {machine.version} on Orin, compute capability 8.7"
        assert lines["device tensorrt"] == (True, f"the bundle's engines for {here}")
        assert lines["gpu for tensorrt"] == (True, "Orin, compute capability 8.7")
        assert lines["bundle"][1].endswith(f"; with engines for {here}")

    def test_no_plans(self, plain: Bundle, machine: GpuMachine) -> None:
        ok, detail = self.lines(plain.folder)["device tensorrt"]
        assert not ok and "it has no TensorRT engine" in detail
        assert "engines for" not in self.lines(plain.folder)["bundle"][1]

    def test_no_library(
        self, bundle: Bundle, machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        lines = self.lines(bundle.folder)
        assert lines["device tensorrt"][1].startswith("TensorRT is not installed")
        assert lines["gpu for tensorrt"][0]
