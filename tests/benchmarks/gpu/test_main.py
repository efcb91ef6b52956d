"""The GPU benchmark's command, as far as a machine without a GPU can run it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import shapes
from benchmarks.gpu.options import parse
from benchmarks.gpu.report import GpuResult, markdown
from export.options import GPU_PRECISIONS
from mfer_edge.bench.machine import describe_machine
from mfer_edge.bundle import COMPACT, Bundle
from mfer_edge.cli.errors import INTERRUPTED
from tests.support.clips import sine, write_clip

NO_GPU = not torch.cuda.is_available()


def run(arguments: Sequence[object]) -> int:
    return gpu.main([str(argument) for argument in arguments])


def test_the_command_prints_tables_and_writes_json(
    tmp_path: Path, moment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    arguments = ["--bundle", COMPACT, "--clip", moment, "--device", "cpu", "--runs", 2]
    assert run([*arguments, "--without", "compiled", "--json", path]) == 0
    out = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["schema"] == 2
    assert report["preset"] == "compact" and report["trained"]
    cases = {(row["case"], row["batch"], row["backend"]) for row in report["engines"]}
    assert len(cases) == len(report["engines"]) == 8
    for row in report["engines"]:
        least = 0.98 if row["backend"].startswith("ONNX") else 0.999999
        assert row["cosine"] >= least, row
        assert 0 < row["device"]["p50_s"] <= row["device"]["p99_s"]
        assert "runs_s" not in row["whole"]
    [update] = report["updates"]
    assert update["faces"] == 5 and update["device_s"] > 0
    assert update["gpu_bytes"] is None or not NO_GPU
    [clip] = report["clip_times"]
    assert clip["clip"] == "moment.mp4"
    assert clip["decode_s"] > 0 and clip["duration_s"] == pytest.approx(1.6, abs=0.1)
    for row in report["engines"]:
        assert f"| {row['case']} | {row['batch']} | {row['backend']} |" in out
    tables = [line for line in out.splitlines() if line.startswith("|")]
    widths = [line.count("|") for line in tables]
    assert sorted(set(widths)) == sorted({14, 13})  # every row is as wide as its heading
    assert "Did not run: PyTorch CPU compiled (left out as asked); PyTorch CPU fp16 (" in out


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_without_a_gpu_the_cpu_baseline_still_runs(
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


def test_what_was_measured_before_an_interrupt_is_printed(
    moment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = gpu.compare

    def second_is_interrupted(*arguments: Any) -> Any:
        if arguments[0].name == "audio":
            raise KeyboardInterrupt
        return measured(*arguments)

    monkeypatch.setattr(gpu, "compare", second_is_interrupted)
    arguments = ["--bundle", COMPACT, "--clip", moment, "--device", "cpu", "--runs", 2]
    assert run([*arguments, "--without", "pytorch"]) == INTERRUPTED
    out = capsys.readouterr().out
    assert out.count("| ONNX Runtime CPU |") == 2
    assert out.splitlines()[-1].endswith("all that is missing above (interrupted).")


@pytest.mark.parametrize(
    ("arguments", "precisions"),
    [([], GPU_PRECISIONS), (["--precision", "fp16"], ("fp16",))],
)
def test_precisions_to_export(arguments: list[str], precisions: tuple[str, ...]) -> None:
    assert parse(arguments, None).precisions == precisions


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_shapes_need_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert shapes.main([str(COMPACT)]) == 1
    assert "--device cuda" in capsys.readouterr().err.splitlines()[-1]


def test_clips_without_face_and_speech_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "tone.mp4", 1.0, audio=sine(1.0))
    assert run(["--bundle", COMPACT, "--clip", clip, "--device", "cpu"]) == 1
    assert "--clip" in capsys.readouterr().err.splitlines()[-1]


def test_bundles_of_the_same_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--bundle", COMPACT, "--bundle", COMPACT, "--device", "cpu"]) == 1
    assert "--bundle" in capsys.readouterr().err.splitlines()[-1]


def test_a_place_for_json_that_cannot_be_written_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--bundle", COMPACT, "--device", "cpu", "--json", tmp_path / "no" / "a.json"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "a.json" in line or str(tmp_path) in line


def test_a_result_without_measurements(bundle: Bundle) -> None:
    report = GpuResult(
        "python -m benchmarks.gpu", None, describe_machine(), {}, "paper", False,
        {"fp32": bundle.sha256}, ("a.mp4",), (), (), (), {"everything": "no time"},
    )  # fmt: skip
    text = markdown(report)
    assert "random weights" in text
    assert text.endswith("Did not run: everything (no time).")
