"""Building TensorRT plans: profiles, calls, files and errors."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.targets.tensorrt import add_plans, build_plans, plan_name, profiles_for
from mfer_edge.bundle import Bundle, file_sha256
from mfer_edge.engines.tensorrt_target import Gpu, Target
from mfer_edge.errors import EngineError, OutputError
from mfer_edge.manifest import Manifest, ShapeRange
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.cuda_stand_in import GpuMachine
from tests.support.gpu_bundle import gpu_bundle
from tests.support.tensorrt_stand_in import install

VERSIONS = ("10.3.0", "11.4.0.106")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Bundle.open().manifest


@pytest.fixture(autouse=True, scope="module")
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder other than the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle that TensorRT can build plans for."""
    return gpu_bundle(tmp_path / "bundle")


@pytest.fixture(params=VERSIONS)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> GpuMachine:
    """A Jetson with TensorRT."""
    return install(monkeypatch, GpuMachine(version=request.param))


class TestProfiles:
    def test_of_the_compact_bundle(self, manifest: Manifest) -> None:
        def samples(smallest: int, opt: int, largest: int) -> dict[str, ShapeRange]:
            place = {
                tensor.name: ShapeRange(tensor.shape, tensor.shape, tensor.shape)  # type: ignore
                for tensor in manifest.engines["audio"].inputs[1:]
            }
            return {"wave": ShapeRange((1, smallest), (1, opt), (1, largest)), **place}

        assert profiles_for("audio", manifest) == (
            samples(6400, 16000, 16000),
            samples(16001, 32000, 32000),
            samples(32001, 64000, 96000),
        )
        one, more = profiles_for("face", manifest)
        face = (1, 48, 48)
        assert one == {"faces": ShapeRange((1, *face), (1, *face), (1, *face))}
        assert more == {"faces": ShapeRange((2, *face), (5, *face), (31, *face))}

    @given(
        window_s=st.floats(0.2, 30),
        hop_share=st.floats(0.05, 1),
        frame_rate=st.floats(0.5, 60),
        min_speech_s=st.floats(0, 3),
        room_s=st.floats(0, 30),
    )
    def test_cover_all_shapes_of_a_session(
        self,
        manifest: Manifest,
        window_s: float,
        hop_share: float,
        frame_rate: float,
        min_speech_s: float,
        room_s: float,
    ) -> None:
        hop_s = window_s * hop_share
        longest_s = window_s + hop_s / 2
        made = replace(
            manifest,
            window_s=window_s,
            hop_s=hop_s,
            frame_rate=frame_rate,
            min_speech_s=min(min_speech_s, window_s),
            max_window_s=longest_s + room_s,
        )
        samples = range(
            max(400, math.ceil(made.min_speech_s * SAMPLE_RATE)),
            round(longest_s * SAMPLE_RATE) + 1,
        )
        faces = range(1, math.ceil(longest_s * frame_rate) + 2)
        for name, axis, sizes in (("audio", 1, samples), ("face", 0, faces)):
            profiles = profiles_for(name, made)
            assert 1 <= len(profiles) <= 3
            ranges = [next(iter(profile.values())) for profile in profiles]
            for one in ranges:
                assert one.min[axis] <= one.opt[axis] <= one.max[axis]
            for before, after in pairwise(ranges):
                assert after.min[axis] == before.max[axis] + 1
            if sizes:
                assert ranges[0].min[axis] <= sizes[0] and sizes[-1] <= ranges[-1].max[axis]

    def test_a_single_face_has_its_own_profile(self, manifest: Manifest) -> None:
        assert profiles_for("face", manifest)[0]["faces"].max[0] == 1


def test_file_name_has_engine_gpu_and_version() -> None:
    target = Target("10.3.0", Gpu("Orin", "8.7"))
    assert plan_name("audio", target) == "audio-sm87-trt10.3.0.plan"


class TestAdded:
    def test_plans_are_beside_the_onnx_files(self, bundle: Bundle, machine: GpuMachine) -> None:
        made = add_plans(bundle)
        assert made == Bundle.open(bundle.folder)
        assert made.manifest.engines == bundle.manifest.engines
        assert set(made.manifest.plans) == {"face", "audio"}
        for name, plan in made.manifest.plans.items():
            assert plan.file == f"{name}-sm87-trt{machine.version}.plan"
            assert plan.sha256 == file_sha256(made.folder / plan.file)
            assert plan.graph_sha256 == made.manifest.engines[name].sha256
            assert (plan.tensorrt, plan.gpu) == (machine.version, "Orin")
            assert plan.compute_capability == "8.7"
            assert plan.profiles == profiles_for(name, made.manifest)
        assert (made.folder / "README.md").read_text() == "# The card\n"
        assert machine.in_use == 0

    def test_twice_in_place(self, bundle: Bundle, machine: GpuMachine) -> None:
        assert add_plans(add_plans(bundle)).manifest == Bundle.open(bundle.folder).manifest

    def test_to_another_folder(self, bundle: Bundle, machine: GpuMachine, tmp_path: Path) -> None:
        made = add_plans(bundle, tmp_path / "other")
        assert made.folder == tmp_path / "other" and made.manifest.plans
        assert Bundle.open(bundle.folder) == bundle

    def test_the_next_build_uses_the_timing_cache(
        self, bundle: Bundle, machine: GpuMachine, user_cache: Path
    ) -> None:
        cache = user_cache / "mfer-edge" / f"sm87-trt{machine.version}.timing"
        cache.unlink(missing_ok=True)
        add_plans(bundle)
        assert cache.is_file()
        assert machine.measured[0] == b"" and machine.measured[1].endswith(b"measured")
        add_plans(bundle)
        assert machine.measured[2].endswith(b"measured")

    @pytest.mark.parametrize("found", [b"", b"rubbish", b"timings 10.3.0 Another GPU measured"])
    def test_unusable_timing_caches_are_replaced(
        self, bundle: Bundle, machine: GpuMachine, tmp_path: Path, found: bytes
    ) -> None:
        cache = tmp_path / "mine.timing"
        cache.write_bytes(found)
        add_plans(bundle, timing_cache=cache)
        assert machine.measured[0] == b""
        assert cache.read_bytes() == f"timings {machine.version} Orin measured".encode()


class TestRefused:
    """One line, and the bundle is unchanged."""

    def refusal(self, bundle: Bundle) -> str:
        with pytest.raises(EngineError) as error:
            add_plans(bundle)
        assert Bundle.open(bundle.folder) == bundle
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_int8_for_cpus(self, machine: GpuMachine, tmp_path: Path) -> None:
        """The bundle in the package."""
        with pytest.raises(EngineError, match="exported with --fp16 or --int8-gpu") as error:
            build_plans(Bundle.open(), tmp_path)
        assert "audio.onnx" in str(error.value) and "MatMulInteger" in str(error.value)

    def test_unsupported_operator(self, machine: GpuMachine, tmp_path: Path) -> None:
        bundle = gpu_bundle(tmp_path / "bundle", "NonZero")
        text = self.refusal(bundle)
        assert text.endswith("audio.onnx: TensorRT can't read it: node between (NonZero): "
                             "No importer registered for op")  # fmt: skip

    def test_build_failure(self, machine: GpuMachine, tmp_path: Path) -> None:
        bundle = gpu_bundle(tmp_path / "bundle", "Unbuildable")
        text = self.refusal(bundle)
        assert text.endswith("TensorRT can't build it: no implementation for the node")

    def test_without_tensorrt(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        text = self.refusal(bundle)
        assert text.startswith("TensorRT is not installed: pip install tensorrt")
        assert "JetPack" in text

    def test_without_cuda_python(
        self, bundle: Bundle, machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("cuda.bindings.runtime", "cuda.cudart"):
            monkeypatch.setitem(sys.modules, name, None)
        assert "pip install 'cuda-python==12.*'" in self.refusal(bundle)

    def test_without_a_driver(self, bundle: Bundle, machine: GpuMachine) -> None:
        machine.driver = False
        assert "cudaErrorInsufficientDriver" in self.refusal(bundle)

    @pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.0"])
    def test_unsupported_versions(
        self, bundle: Bundle, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(monkeypatch, GpuMachine(version=version))
        assert self.refusal(bundle) == (
            f"TensorRT {version} is installed; mfer-edge works with 10.3 to 11"
        )

    def test_timing_cache_that_can_not_be_written(
        self, bundle: Bundle, machine: GpuMachine, tmp_path: Path
    ) -> None:
        """Refused before the long build."""
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="TensorRT's timings"):
            add_plans(bundle, timing_cache=tmp_path / "file" / "mine.timing")
        assert machine.measured == []
