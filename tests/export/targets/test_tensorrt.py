"""TensorRT engines of a bundle: what is asked of TensorRT, and what comes of it."""

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
from tests.support.tensorrt_stand_in import World, gpu_bundle

VERSIONS = ("10.3.0", "11.4.0.106")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Bundle.open().manifest


@pytest.fixture(autouse=True, scope="module")
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Away from the real one."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """One that TensorRT takes."""
    return gpu_bundle(tmp_path / "bundle")


def put_in(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    for name, module in world.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return world


@pytest.fixture(params=VERSIONS)
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """A Jetson with TensorRT."""
    return put_in(monkeypatch, World(version=request.param))


class TestProfiles:
    def test_of_the_compact_bundle(self, manifest: Manifest) -> None:
        def span(least: int, usual: int, most: int) -> dict[str, ShapeRange]:
            return {"wave": ShapeRange((1, least), (1, usual), (1, most))}

        assert profiles_for("audio", manifest) == (
            span(6400, 16000, 16000),
            span(16001, 32000, 32000),
            span(32001, 64000, 96000),
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
    def test_hold_whatever_a_session_gives(
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
            spans = [span for profile in profiles for span in profile.values()]
            for span in spans:
                assert span.least[axis] <= span.usual[axis] <= span.most[axis]
            for before, after in pairwise(spans):
                assert after.least[axis] == before.most[axis] + 1
            if sizes:
                assert spans[0].least[axis] <= sizes[0] and sizes[-1] <= spans[-1].most[axis]

    def test_face_alone_has_its_own(self, manifest: Manifest) -> None:
        assert profiles_for("face", manifest)[0]["faces"].most[0] == 1


def test_name_tells_network_gpu_and_version() -> None:
    target = Target("10.3.0", Gpu("Orin", "8.7"))
    assert plan_name("audio", target) == "audio-sm87-trt10.3.0.plan"


class TestAdded:
    def test_plans_stand_beside_the_networks(self, bundle: Bundle, world: World) -> None:
        made = add_plans(bundle)
        assert made == Bundle.open(bundle.folder)
        assert made.manifest.engines == bundle.manifest.engines
        assert set(made.manifest.plans) == {"face", "audio"}
        for name, plan in made.manifest.plans.items():
            assert plan.file == f"{name}-sm87-trt{world.version}.plan"
            assert plan.sha256 == file_sha256(made.folder / plan.file)
            assert plan.graph_sha256 == made.manifest.engines[name].sha256
            assert (plan.tensorrt, plan.gpu) == (world.version, "Orin")
            assert plan.compute_capability == "8.7"
            assert plan.profiles == profiles_for(name, made.manifest)
        assert (made.folder / "README.md").read_text() == "# The card\n"
        assert world.in_use == 0

    def test_again_in_place(self, bundle: Bundle, world: World) -> None:
        assert add_plans(add_plans(bundle)).manifest == Bundle.open(bundle.folder).manifest

    def test_elsewhere(self, bundle: Bundle, world: World, tmp_path: Path) -> None:
        made = add_plans(bundle, tmp_path / "other")
        assert made.folder == tmp_path / "other" and made.manifest.plans
        assert Bundle.open(bundle.folder) == bundle

    def test_next_build_starts_from_the_timings(
        self, bundle: Bundle, world: World, user_cache: Path
    ) -> None:
        cache = user_cache / "mfer-edge" / f"sm87-trt{world.version}.timing"
        cache.unlink(missing_ok=True)
        add_plans(bundle)
        assert cache.is_file()
        assert world.measured[0] == b"" and world.measured[1].endswith(b"measured")
        add_plans(bundle)
        assert world.measured[2].endswith(b"measured")

    @pytest.mark.parametrize("found", [b"", b"rubbish", b"timings 10.3.0 Another GPU measured"])
    def test_timings_of_no_use_are_replaced(
        self, bundle: Bundle, world: World, tmp_path: Path, found: bytes
    ) -> None:
        cache = tmp_path / "mine.timing"
        cache.write_bytes(found)
        add_plans(bundle, timing_cache=cache)
        assert world.measured[0] == b""
        assert cache.read_bytes() == f"timings {world.version} Orin measured".encode()


class TestRefused:
    """With one line, and the bundle as it was."""

    def refusal(self, bundle: Bundle) -> str:
        with pytest.raises(EngineError) as error:
            add_plans(bundle)
        assert Bundle.open(bundle.folder) == bundle
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_products_for_cpus(self, world: World, tmp_path: Path) -> None:
        """As the bundle in the package has them."""
        with pytest.raises(EngineError, match="exported with --fp16 or --int8-gpu") as error:
            build_plans(Bundle.open(), tmp_path)
        assert "audio.onnx" in str(error.value) and "MatMulInteger" in str(error.value)

    def test_operator_that_tensorrt_does_not_have(self, world: World, tmp_path: Path) -> None:
        bundle = gpu_bundle(tmp_path / "bundle", "NonZero")
        text = self.refusal(bundle)
        assert text.endswith("audio.onnx: TensorRT can't read it: node between (NonZero): "
                             "No importer registered for op")  # fmt: skip

    def test_network_that_can_not_be_built(self, world: World, tmp_path: Path) -> None:
        bundle = gpu_bundle(tmp_path / "bundle", "Unbuildable")
        text = self.refusal(bundle)
        assert text.endswith("TensorRT can't build it: no implementation for the node")

    def test_without_tensorrt(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        text = self.refusal(bundle)
        assert text.startswith("TensorRT is not installed: pip install tensorrt")
        assert "JetPack" in text

    def test_without_cuda_python(
        self, bundle: Bundle, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("cuda.bindings.runtime", "cuda.cudart"):
            monkeypatch.setitem(sys.modules, name, None)
        assert "pip install 'cuda-python==12.*'" in self.refusal(bundle)

    def test_without_a_driver(self, bundle: Bundle, world: World) -> None:
        world.driver = False
        assert "cudaErrorInsufficientDriver" in self.refusal(bundle)

    @pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.0"])
    def test_versions_that_it_was_not_written_for(
        self, bundle: Bundle, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_in(monkeypatch, World(version=version))
        assert self.refusal(bundle) == (
            f"TensorRT {version} is installed; mfer-edge works with 10.3 to 11"
        )

    def test_timings_that_can_not_be_kept(
        self, bundle: Bundle, world: World, tmp_path: Path
    ) -> None:
        """It is said before the minutes of building."""
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="TensorRT's timings"):
            add_plans(bundle, timing_cache=tmp_path / "file" / "mine.timing")
        assert world.measured == []
