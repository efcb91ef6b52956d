"""The GPU benchmark as far as a machine without a GPU can run it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.networks import Backend, Case, Material, attempt, compare, steady
from benchmarks.gpu.onnx import OnnxRunner, onnx_backends, onnx_runner
from benchmarks.gpu.report import SAME, markdown
from benchmarks.gpu.torch import TorchRunner, to_half, torch_backends
from export.calibration import record_calls
from export.checkpoint import open_source
from export.torch_reference import reference_engines
from mfer_edge.bundle import COMPACT, Bundle
from mfer_edge.errors import MferError
from mfer_edge.manifest import MODEL_ENGINES
from mfer_edge.sources.clip import read_sound
from tests.support.clips import sine, write_clip
from tests.support.footage import filmed, pictures
from tests.support.paths import ROOT
from train.models.emotion_model import EmotionModel

NO_GPU = not torch.cuda.is_available()


@pytest.fixture(scope="module")
def moment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of a real clip, with face and speech."""
    anger = ROOT / "samples" / "anger.mp4"
    path = tmp_path_factory.mktemp("moment") / "moment.mp4"
    return filmed(path, pictures(anger)[7:15], read_sound(anger)[22_400:48_000])


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(COMPACT)


@pytest.fixture(scope="module")
def model() -> EmotionModel:
    return open_source().model


@pytest.fixture(scope="module")
def recorded(bundle: Bundle, moment: Path) -> dict[str, list[dict[str, np.ndarray]]]:
    return record_calls(bundle, [moment], MODEL_ENGINES)


@pytest.fixture(scope="module")
def material(bundle: Bundle, recorded: dict[str, list[dict[str, np.ndarray]]]) -> Material:
    return Material.of(recorded, bundle.manifest)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few calls: their number is not what is tested."""
    for module in ("networks", "pipeline"):
        monkeypatch.setattr(f"benchmarks.gpu.{module}.WARM_UP", 1)
    monkeypatch.setattr("benchmarks.gpu.networks.ROUNDS", 2)
    monkeypatch.setattr("benchmarks.gpu.networks.LEAST", 1)
    torch.set_num_threads(1)


def run(arguments: Sequence[object]) -> int:
    return gpu.main([str(argument) for argument in arguments])


def test_a_window_is_filled_with_what_was_seen_and_heard(
    material: Material, recorded: dict[str, list[dict[str, np.ndarray]]]
) -> None:
    faces = np.concatenate([call["faces"] for call in recorded["face"]])
    wave = recorded["audio"][0]["wave"]
    assert len(faces) < 20 and wave.shape[1] < 64_000  # or nothing would be repeated
    assert material.faces.shape == (20, *faces.shape[1:])
    np.testing.assert_array_equal(material.faces[: len(faces)], faces)
    np.testing.assert_array_equal(material.faces[len(faces)], faces[0])
    assert material.wave.shape == (1, 64_000)
    np.testing.assert_array_equal(material.wave[:, : wave.shape[1]], wave)
    assert material.embeddings.shape[:2] == (1, 20)
    assert material.fresh == 5
    assert [(case.name, case.batch) for case in material.cases()] == [
        ("face", "1 face"),
        ("face", "20 faces"),
        ("audio", "4 s"),
        ("visual + fusion", "20 faces"),
    ]


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


def test_half_precision_in_pytorch_is_near_to_single(model: EmotionModel) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (1, 1, 48, 48), np.uint8)
    half = TorchRunner(to_half(model, "cpu").networks()["face"], ("embedding",), "cpu", True)
    single = TorchRunner(model.networks()["face"], ("embedding",), "cpu", False)
    given, expected = (runner(faces=faces)["embedding"] for runner in (half, single))
    assert given.dtype == np.float32
    assert 0 < np.abs(given - expected).max() < 0.02 * np.abs(expected).max()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}  # it was a copy


def test_a_backend_that_fails_costs_its_row_alone(
    model: EmotionModel, bundle: Bundle, material: Material
) -> None:
    class Tired:
        """Gives up after a few calls."""

        note = ""

        def __init__(self, runner: OnnxRunner, calls: int) -> None:
            self._runner, self._left = runner, calls

        def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
            self._left -= 1
            if self._left < 0:
                raise RuntimeError("out of memory\nand a long dump")
            return self._runner(**arrays)

        def bind(self, call: dict[str, np.ndarray]) -> object:
            raise RuntimeError("not here")

    def tired(calls: int) -> Backend:
        path = bundle.engine_path("face")
        name = f"after {calls}"
        return Backend(name, "fp32", lambda _: Tired(onnx_runner(path, "cpu"), calls))  # type: ignore[arg-type, return-value]

    backends = [
        tired(0),
        tired(2),
        tired(1000),
        Backend("broken", "fp32", lambda _: onnx_runner(Path("nowhere.onnx"), "cpu")),
        Backend("small", "fp32", lambda _: pytest.fail("asked"), networks=("audio",)),
        *onnx_backends({"int8": bundle}, "cpu", False, {}),
    ]
    not_run: dict[str, str] = {}
    case = material.cases()[0]
    rows = compare(case, backends, reference_engines(model), 4, not_run)
    assert [row.backend for row in rows] == ["after 1000", "ONNX Runtime CPU"]
    assert rows[0].device is None and "not here" in rows[0].note
    assert rows[1].device is not None and rows[1].note == ""
    assert all(row.cosine > 0.99 for row in rows)
    assert set(not_run) == {
        f"{name} fp32 (face, 1 face)" for name in ("after 0", "after 2", "broken")
    }
    assert not_run["after 2 fp32 (face, 1 face)"] == "out of memory"
    assert "nowhere.onnx" in not_run["broken fp32 (face, 1 face)"]


def test_a_wrong_result_stands_out(model: EmotionModel, bundle: Bundle, material: Material) -> None:
    [backend] = onnx_backends({"int8": bundle}, "cpu", False, {})
    case = material.cases()[0]
    upside_down = {"face": {"faces": case.calls["face"]["faces"][:, :, ::-1].copy()}}
    other = reference_engines(model)

    def turned(**arrays: np.ndarray) -> dict[str, np.ndarray]:
        return {"embedding": -other["face"](**upside_down["face"])["embedding"]}

    [row] = compare(Case("face", "1 face", case.calls), [backend], {"face": turned}, 2, {})
    assert row.cosine < SAME and row.max_abs > 0.1


def test_steady_calls_are_counted_after_the_warm_up() -> None:
    calls: list[int] = []
    assert len(steady(lambda: calls.append(1), 7, warm_up=3)) == 7
    assert len(calls) == 10


def test_what_fails_without_a_word_is_named_by_its_type() -> None:
    not_run: dict[str, str] = {}
    with attempt("part", not_run):
        raise KeyboardInterruptLike
    assert not_run == {"part": "KeyboardInterruptLike"}


class KeyboardInterruptLike(Exception):
    pass


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_every_backend_that_is_missing_says_why(model: EmotionModel, bundle: Bundle) -> None:
    not_run: dict[str, str] = {}
    backends = torch_backends(model, "cuda", True, not_run)
    backends += onnx_backends({"int8": bundle}, "cuda", True, not_run)
    assert [str(backend) for backend in backends] == ["ONNX Runtime CPU int8"]
    assert set(not_run) == {"PyTorch CUDA", "ONNX Runtime CUDA", "ONNX Runtime TensorRT-RTX"}
    assert all(not_run.values())


def test_the_command_prints_tables_and_writes_json(
    tmp_path: Path, moment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    arguments = ["--bundle", COMPACT, "--clip", moment, "--device", "cpu", "--runs", 2]
    assert run([*arguments, "--without", "compiled", "--json", path]) == 0
    out = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["schema"] == 1
    assert report["preset"] == "compact" and report["trained"]
    cases = {(row["case"], row["batch"], row["backend"]) for row in report["networks"]}
    assert len(cases) == len(report["networks"]) == 8
    for row in report["networks"]:
        least = 0.98 if row["backend"].startswith("ONNX") else 0.999999
        assert row["cosine"] >= least, row
        assert 0 < row["device"]["p50_s"] <= row["device"]["p99_s"]
        assert "runs_s" not in row["whole"]
    [update] = report["updates"]
    assert update["faces"] == 5 and update["device_s"] > 0
    assert update["gpu_bytes"] is None or not NO_GPU
    [clip] = report["clip_rows"]
    assert clip["clip"] == "moment.mp4"
    assert clip["decode_s"] > 0 and clip["duration_s"] == pytest.approx(1.6, abs=0.1)
    for row in report["networks"]:
        assert f"| {row['case']} | {row['batch']} | {row['backend']} |" in out
    tables = [line for line in out.splitlines() if line.startswith("|")]
    widths = [line.count("|") for line in tables]
    assert sorted(set(widths)) == sorted({14, 13})  # every row is as wide as its heading
    assert "Did not run: PyTorch CPU compiled (left out as asked); PyTorch CPU fp16 (" in out


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_without_a_gpu_the_baseline_is_left(
    moment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", COMPACT, "--clip", moment, "--runs", 2, "--without", "pytorch"]
    assert run([*arguments, "--without", "tensorrt", "--without", "rtx"]) == 0
    out = capsys.readouterr().out
    assert out.count("| ONNX Runtime CPU |") == 4
    last = out.splitlines()[-1]
    assert last.startswith(
        "Did not run: TensorRT, PyTorch, ONNX Runtime TensorRT-RTX (left out as asked); "
    )
    assert "ONNX Runtime CUDA, pipeline, " in last


def test_clips_without_face_and_speech_are_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "tone.mp4", 1.0, sound=sine(1.0))
    assert run(["--bundle", COMPACT, "--clip", clip, "--device", "cpu"]) == 1
    assert "--clip" in capsys.readouterr().err.splitlines()[-1]


def test_bundles_must_be_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--bundle", COMPACT, "--bundle", COMPACT, "--device", "cpu"]) == 1
    assert "--bundle" in capsys.readouterr().err.splitlines()[-1]


def test_a_place_for_json_that_cannot_be_written_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--bundle", COMPACT, "--device", "cpu", "--json", tmp_path / "no" / "a.json"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "a.json" in line or str(tmp_path) in line


def test_a_report_of_nothing_is_still_a_report(bundle: Bundle) -> None:
    from mfer_edge.bench.machine import describe_machine

    report = gpu.Report(
        "python -m benchmarks.gpu", None, describe_machine(), {}, "paper", False,
        {"fp32": bundle.sha256}, ("a.mp4",), (), (), (), {"everything": "no time"},
    )  # fmt: skip
    text = markdown(report)
    assert "random weights" in text
    assert text.endswith("Did not run: everything (no time).\n")


def test_no_clip_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "SAMPLES", tmp_path)
    with pytest.raises(MferError, match="--clip"):
        gpu.measure(gpu.parse(["--device", "cpu"]), tmp_path)
