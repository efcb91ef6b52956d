"""TensorRT engines: parity with ONNX Runtime, the books of GPU memory, and refusals."""

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
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.engines.tensorrt import GRAPHS, REPEATS, TensorRtEngine
from mfer_edge.engines.tensorrt_target import Gpu, Target, check_plans, this_target
from mfer_edge.errors import EngineError
from mfer_edge.model import ACCELERATED
from mfer_edge.pipeline import Pipeline
from tests.support.tensorrt_stand_in import World, gpu_bundle


def put_in(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    for name, module in world.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return world


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle without TensorRT engines."""
    return gpu_bundle(tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module", params=["10.3.0", "11.4.0.106"])
def bundle(
    plain: Bundle, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """One with engines, built by a version of TensorRT."""
    folder = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as monkeypatch:
        put_in(monkeypatch, World(version=request.param))
        return add_plans(plain, folder / "bundle", timing_cache=folder / "timings")


@pytest.fixture
def world(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> World:
    """The machine that they were built on."""
    return put_in(monkeypatch, World(version=bundle.manifest.plans["audio"].tensorrt))


def engine(bundle: Bundle, name: str) -> TensorRtEngine:
    plan = bundle.manifest.plans[name]
    return TensorRtEngine(bundle.folder / plan.file, plan)


def on_cpu(bundle: Bundle, name: str) -> OnnxEngine:
    return OnnxEngine(bundle.engine_path(name), providers_for("cpu"), threads=1)


def wave(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(0, 0.1, (1, samples)).astype(np.float32)


def faces(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 1, 48, 48), np.uint8)


def assert_same(given: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(given) == set(expected)
    for name, array in expected.items():
        assert given[name].dtype == array.dtype
        np.testing.assert_allclose(given[name], array, atol=1e-6)


@pytest.mark.usefixtures("world")
class TestCalls:
    def test_tensors_are_the_network_s(self, bundle: Bundle) -> None:
        for name in ACCELERATED:
            ours, theirs = engine(bundle, name), on_cpu(bundle, name)
            for given, expected in ((ours.inputs, theirs.inputs), (ours.outputs, theirs.outputs)):
                assert [(t.name, t.dtype) for t in given] == [(t.name, t.dtype) for t in expected]
            assert [len(t.shape) for t in ours.inputs] == [len(t.shape) for t in theirs.inputs]

    def test_every_profile_gives_what_onnx_runtime_gives(self, bundle: Bundle) -> None:
        """At its borders, and back and forth between them."""
        ours, theirs = engine(bundle, "audio"), on_cpu(bundle, "audio")
        for samples in (6400, 96000, 16000, 16001, 32000, 32001, 64000, 6401, 12345):
            assert_same(ours(wave=wave(samples)), theirs(wave=wave(samples)))
        ours, theirs = engine(bundle, "face"), on_cpu(bundle, "face")
        for count in (1, 31, 2, 1):
            assert_same(ours(faces=faces(count)), theirs(faces=faces(count)))

    def test_arrays_need_not_be_contiguous(self, bundle: Bundle) -> None:
        given = faces(8)[::2, :, ::-1]
        expected = on_cpu(bundle, "face")(faces=np.ascontiguousarray(given))
        assert_same(engine(bundle, "face")(faces=given), expected)

    def test_results_are_the_caller_s_own(self, bundle: Bundle) -> None:
        face = engine(bundle, "face")
        first = face(faces=faces(3))["embedding"]
        before = first.copy()
        face(faces=faces(4))
        np.testing.assert_array_equal(first, before)

    def test_threads_take_turns(self, bundle: Bundle) -> None:
        ours, theirs = engine(bundle, "audio"), on_cpu(bundle, "audio")
        lengths = [6400, 6401, 6402, 20000, 6403] * 6
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda samples: ours(wave=wave(samples)), lengths))
        for samples, result in zip(lengths, results, strict=True):
            assert_same(result, theirs(wave=wave(samples)))

    @pytest.mark.parametrize(
        ("arrays", "why"),
        [
            ({}, "takes faces (uint8), not nothing"),
            ({"faces": faces(1).astype(np.float32)}, "takes faces (uint8), not faces (float32)"),
            ({"wave": wave(6400)}, "takes faces (uint8), not wave (float32)"),
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
    """Shapes that repeat are captured, and the results stay the same."""

    def assert_parity(self, bundle: Bundle, lengths: list[int]) -> None:
        ours, theirs = engine(bundle, "audio"), on_cpu(bundle, "audio")
        for call, samples in enumerate(lengths):
            given = np.roll(wave(samples), call)
            assert_same(ours(wave=given), theirs(wave=given))

    def test_shapes_that_repeat(self, bundle: Bundle, world: World) -> None:
        """Other shapes in between leave the graph alone."""
        self.assert_parity(bundle, [6400] * (REPEATS + 4) + [7000, 40000, 6400])
        assert world.launches == 5

    def test_of_every_profile(self, bundle: Bundle, world: World) -> None:
        self.assert_parity(bundle, [64000, 20000, 6400] * (REPEATS + 2))
        assert world.launches == 3 * 2

    def test_shapes_that_do_not_repeat(self, bundle: Bundle, world: World) -> None:
        self.assert_parity(bundle, list(range(6400, 6420)))
        assert (world.launches, world.runs) == (0, 20)

    def test_only_so_many_are_kept(self, bundle: Bundle, world: World) -> None:
        """The one that was not used for longest goes, and may come back."""
        audio = engine(bundle, "audio")
        lengths = [6400 + shape for shape in range(GRAPHS + 2)]
        for samples in [*lengths, lengths[-1], lengths[0]]:
            for _ in range(REPEATS + 1):
                audio(wave=wave(samples))
            assert len(world.graphs) <= GRAPHS
        assert world.launches == len(lengths) + (REPEATS + 1) + 1

    def test_network_that_can_not_be_captured(self, bundle: Bundle, world: World) -> None:
        world.capturable = False
        self.assert_parity(bundle, [6400] * (REPEATS + 4))
        assert (world.launches, world.in_use) == (0, 0)
        assert world.runs == REPEATS + 4 + 1  # it was tried once

    def test_no_room_for_another_context(self, bundle: Bundle, world: World) -> None:
        world.contexts = 1
        self.assert_parity(bundle, [6400] * (REPEATS + 4))
        assert world.launches == 0


class TestMemory:
    def test_is_given_back(self, bundle: Bundle, world: World) -> None:
        audio = engine(bundle, "audio")
        for _ in range(REPEATS + 1):
            audio(wave=wave(6400))
        assert world.graphs and world.memory and world.streams
        audio.close()
        assert world.in_use == 0
        audio.close()
        with pytest.raises(EngineError, match="closed"):
            audio(wave=wave(6400))

    def test_is_given_back_without_being_asked(self, bundle: Bundle, world: World) -> None:
        audio = engine(bundle, "audio")
        audio(wave=wave(6400))
        del audio
        gc.collect()
        assert world.in_use == 0

    def test_is_taken_once(self, bundle: Bundle, world: World) -> None:
        audio = engine(bundle, "audio")
        taken = set(world.memory)
        for samples in (6400, 96000, 20000):
            audio(wave=wave(samples))
        assert set(world.memory) == taken

    def test_too_little(self, bundle: Bundle, world: World) -> None:
        world.device_bytes = 100_000
        with pytest.raises(EngineError, match=r"\.plan: CUDA: cudaErrorMemoryAllocation"):
            engine(bundle, "audio")
        gc.collect()
        assert world.in_use == 0


@pytest.mark.usefixtures("world")
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
            ({"graph_sha256": "0" * 64}, "was built from another network"),
        ],
        ids=["version", "GPU", "network"],
    )
    def test_plans_that_do_not_fit(
        self, bundle: Bundle, world: World, change: dict[str, str], why: str
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

    def test_command_can_be_pasted(self, plain: Bundle) -> None:
        moved = replace(plain, folder=Path("/data/my bundle"))
        with pytest.raises(EngineError, match=r"--bundle '/data/my bundle'$"):
            check_plans(moved, ACCELERATED, Target("10.3.0", Gpu("Orin", "8.7")))

    def test_cuda_that_does_not_start(self, bundle: Bundle, world: World, tmp_path: Path) -> None:
        world.starts = False
        with pytest.raises(EngineError, match="TensorRT does not start"):
            engine(bundle, "audio")
        with pytest.raises(EngineError, match="TensorRT does not start"):
            add_plans(bundle, timing_cache=tmp_path / "timings")

    def test_library_that_is_not_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            """Finds TensorRT, but not what it links to."""

            def find_spec(self, name: str, *_: object) -> None:
                if name == "tensorrt":
                    raise ImportError("libnvinfer.so.10: cannot open shared object file")

        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        with pytest.raises(EngineError, match=r"TensorRT can't be loaded: libnvinfer\.so\.10"):
            providers_for("tensorrt")

    def test_cuda_python_of_old(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its runtime had another name."""
        runtime = sys.modules["cuda.bindings.runtime"]
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
        monkeypatch.setitem(sys.modules, "cuda.cudart", runtime)
        assert this_target() == Target(world.version, Gpu("Orin", "8.7"))


class TestDevice:
    """`--device`, from the bundle to the result."""

    def test_tensorrt(self, bundle: Bundle, world: World, moment: Path) -> None:
        expected = Pipeline.open(bundle.folder, "cpu", 1).analyze(moment)
        given = Pipeline.open(bundle.folder, "tensorrt", 1).analyze(moment)
        assert world.runs > 0
        assert given.device == "tensorrt"
        assert given.providers == (f"TensorRT {world.version}", "CPUExecutionProvider")
        for ours, theirs in zip(given.windows, expected.windows, strict=True):
            assert ours.label == theirs.label and ours.modalities == theirs.modalities
            assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
        assert given.warnings == expected.warnings

    def test_auto_takes_engines_that_fit(self, bundle: Bundle, world: World) -> None:
        pipeline = Pipeline.open(bundle.folder)
        assert (pipeline.device, pipeline.notes) == ("tensorrt", ())

    def test_auto_says_why_it_left_engines_alone(
        self, bundle: Bundle, moment: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_in(monkeypatch, World(version="10.9.0"))
        pipeline = Pipeline.open(bundle.folder)
        assert pipeline.device in ("cpu", "cuda")
        [warning] = pipeline.analyze(moment).warnings
        assert warning.startswith("--device auto could not take tensorrt: ")
        assert "10.9.0 is installed" in warning and "mfer-edge export --tensorrt" in warning

    def test_auto_without_tensorrt(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        [note] = Pipeline.open(bundle.folder).notes
        assert "TensorRT is not installed" in note

    def test_auto_has_nothing_to_say_without_engines(
        self, plain: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        assert Pipeline.open(plain.folder).notes == ()

    @pytest.mark.filterwarnings("ignore:Specified provider")
    def test_auto_goes_on_where_cuda_does_not_start(
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

    def test_asked_for_by_name_it_is_never_replaced(
        self, bundle: Bundle, plain: Bundle, world: World, monkeypatch: pytest.MonkeyPatch
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

    def test_all_is_there(self, bundle: Bundle, world: World) -> None:
        lines = self.lines(bundle.folder)
        here = f"TensorRT {world.version} on Orin, compute capability 8.7"
        assert lines["device tensorrt"] == (True, f"the bundle's engines for {here}")
        assert lines["gpu for tensorrt"] == (True, "Orin, compute capability 8.7")
        assert lines["bundle"][1].endswith(f"; with engines for {here}")

    def test_no_engines(self, plain: Bundle, world: World) -> None:
        ok, detail = self.lines(plain.folder)["device tensorrt"]
        assert not ok and "it has no TensorRT engine" in detail
        assert "engines for" not in self.lines(plain.folder)["bundle"][1]

    def test_no_library(
        self, bundle: Bundle, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        lines = self.lines(bundle.folder)
        assert lines["device tensorrt"][1].startswith("TensorRT is not installed")
        assert lines["gpu for tensorrt"][0]
