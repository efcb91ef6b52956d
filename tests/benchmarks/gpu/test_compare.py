"""Backends in turn on one case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.backends import Backend
from benchmarks.gpu.cases import Case, WindowInputs
from benchmarks.gpu.compare import compare, time_calls
from benchmarks.gpu.onnx_backends import OnnxRunner, onnx_backends, onnx_runner
from benchmarks.gpu.report import SAME
from export.torch_reference import reference_engines
from mfer_edge.bundle import Bundle
from train.models.emotion_model import EmotionModel


def test_a_failing_backend_loses_only_its_own_row(
    model: EmotionModel, bundle: Bundle, inputs: WindowInputs
) -> None:
    class Failing:
        """A runner that fails after a few calls."""

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

    def failing(calls: int) -> Backend:
        path = bundle.engine_path("face")
        name = f"after {calls}"
        return Backend(name, "fp32", lambda _: Failing(onnx_runner(path, "cpu"), calls))  # type: ignore[arg-type, return-value]

    backends = [
        failing(0),
        failing(2),
        failing(1000),
        Backend("broken", "fp32", lambda _: onnx_runner(Path("nowhere.onnx"), "cpu")),
        Backend("small", "fp32", lambda _: pytest.fail("asked"), engines=("audio",)),
        *onnx_backends({"int8": bundle}, "cpu", False, {}),
    ]
    not_run: dict[str, str] = {}
    case = inputs.cases()[0]
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


def test_a_wrong_result_has_a_low_cosine(
    model: EmotionModel, bundle: Bundle, inputs: WindowInputs
) -> None:
    [backend] = onnx_backends({"int8": bundle}, "cpu", False, {})
    case = inputs.cases()[0]
    upside_down = {"face": {"faces": case.calls["face"]["faces"][:, :, ::-1].copy()}}
    other = reference_engines(model)

    def turned(**arrays: np.ndarray) -> dict[str, np.ndarray]:
        return {"embedding": -other["face"](**upside_down["face"])["embedding"]}

    [row] = compare(Case("face", "1 face", case.calls), [backend], {"face": turned}, 2, {})
    assert row.cosine < SAME and row.max_abs > 0.1


def test_calls_are_timed_after_the_warm_up() -> None:
    calls: list[int] = []
    assert len(time_calls(lambda: calls.append(1), 7, warm_up=3)) == 7
    assert len(calls) == 10
