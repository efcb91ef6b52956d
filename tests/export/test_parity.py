"""Parity figures: distances, tolerances, failures and the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays

from export.parity import TOLERANCES, Difference, Distance, Failure, Parity, tolerance
from mfer_edge.manifest import ENGINES, MODEL_ENGINES
from tests.export.conftest import Built

PASSED = Parity(tuple(Difference(name, "scores", 1e-6, 1.0, 5) for name in ENGINES), 3, 3, 1e-6)


def test_no_failures_within_tolerance() -> None:
    assert [PASSED.failures(precision) for precision in TOLERANCES] == [[]] * len(TOLERANCES)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_score": 0.2}, "scores: one differs by 0.2"),
        ({"max_score": float("nan")}, "scores: one differs by nan"),
        ({"same_label": 2}, "labels: 2 of 3"),
    ],
)
def test_scores_and_labels_out_of_tolerance(
    precision: str, change: dict[str, float], said: str
) -> None:
    (failure,) = replace(PASSED, **change).failures(precision)
    assert said in failure


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("max_abs", "cosine"),
    [
        (0.5, 0.97),
        (float("nan"), float("nan")),
        (1e-6, float("nan")),
        (float("nan"), 1.0),
        (float("inf"), 1.0),
    ],
)
def test_an_engine_out_of_tolerance_is_named(precision: str, max_abs: float, cosine: float) -> None:
    wrong = Difference("audio", "embedding", max_abs, cosine, 5)
    (failure,) = replace(PASSED, differences=(*PASSED.differences, wrong)).failures(precision)
    assert failure.startswith("audio.embedding: ")


def test_all_failures_are_listed() -> None:
    wrong = Difference("face", "embedding", 1.0, 0.5, 5)
    broken = (Failure("audio", "embedding", "missing"), Failure("vad", "", "does not run"))
    parity = Parity((*PASSED.differences, wrong), 3, 1, 0.5, broken)
    assert parity.failures("fp32") == [
        "vad: does not run",
        "face.embedding: max-abs 1, cosine 0.500000",
        "audio.embedding: missing",
        "labels: 1 of 3 readings agree",
        "scores: one differs by 0.5",
    ]


@pytest.mark.parametrize("precision", TOLERANCES)
def test_detectors_have_the_tolerance_of_fp32(precision: str) -> None:
    for name in ENGINES:
        off = Difference(name, "scores", 0.01, 0.9995, 5)
        allowed = name in MODEL_ENGINES and precision != "fp32"
        assert (off.failure(precision) is None) is allowed, name
        assert (
            tolerance(name, precision) is TOLERANCES[precision if name in MODEL_ENGINES else "fp32"]
        )


def test_tolerances_grow_with_narrower_types() -> None:
    fp32, fp16, int8 = (TOLERANCES[name] for name in ("fp32", "fp16", "int8"))
    assert fp32.cosine > fp16.cosine > int8.cosine
    assert fp32.max_abs <= fp16.max_abs <= int8.max_abs
    assert fp32.score < fp16.score < int8.score
    assert fp32.inner < fp16.inner < int8.inner
    assert TOLERANCES["int8-gpu"] == int8


def test_labels_of_untrained_models_are_not_compared() -> None:
    parity = replace(PASSED, same_label=1)
    assert parity.failures("fp32") == ["labels: 1 of 3 readings agree"]
    assert parity.failures("fp32", trained=False) == []
    (failure,) = replace(parity, max_score=0.5).failures("fp32", trained=False)
    assert failure.startswith("scores: ")


@given(
    arrays.arrays(np.float32, (2, 3, 40), elements=strategies.floats(-100, 100, width=32)),
)
def test_distances_add_up_over_calls(pair: np.ndarray) -> None:
    total = sum((Distance.between(a, b) for a, b in zip(*pair, strict=True)), Distance())
    a, b = pair.astype(np.float64).reshape(2, -1)
    assert total.calls == 3
    assert total.max_abs == np.abs(a - b).max()
    size, length = np.linalg.norm(a) * np.linalg.norm(b), np.linalg.norm(b)
    if size > 1e-6:
        assert total.cosine == pytest.approx(a @ b / size, abs=1e-9)
        assert total.relative == pytest.approx(np.linalg.norm(a - b) / length, rel=1e-9)


def test_distances_of_zeros() -> None:
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert (Distance.between(zeros, zeros).cosine, Distance.between(zeros, zeros).relative) == (
        1,
        0,
    )
    assert Distance.between(zeros, ones).cosine == Distance.between(ones, zeros).cosine == 0
    assert Distance.between(ones, zeros).relative == np.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_distances_of_nan_and_infinity(wrong: float) -> None:
    ones = np.ones(3, np.float32)
    total = Distance.between(np.float32([1, wrong, 1]), ones) + Distance.between(ones, ones)
    assert not np.isfinite(total.max_abs)
    assert total.relative == np.inf


def test_the_table_marks_failures() -> None:
    wrong = Difference("audio", "embedding", 0.25, 0.5, 7)
    broken = (Failure("face", "", "does not run"),)
    parity = Parity((*PASSED.differences, wrong), 3, 2, 1e-6, broken)
    lines = parity.table("int8")
    (row,) = (line.split() for line in lines if line.startswith("audio    embedding"))
    assert row == ["audio", "embedding", "0.25", "0.5000000", "7", "cosine", ">=", "0.98", "FAILED"]
    (row,) = (line.split() for line in lines if line.startswith("pnet"))
    assert row[-6:] == ["cosine", ">=", "0.99999,", "max-abs", "<=", "0.001"]
    assert "labels: 2 of 3 readings agree" in lines[-3]
    assert lines[-2:] == ["FAILED face: does not run", "FAILED labels: 2 of 3 readings agree"]
    assert sum("FAILED" in line for line in lines) == len(parity.failures("int8")) == 3
    assert not any("FAILED" in line for line in PASSED.table("int8"))


def test_figures_for_the_manifest() -> None:
    figures = PASSED.figures()
    assert figures["audio.calls"] == 5 and figures["readings"] == 3
    assert figures["audio.scores.max_abs"] == 1e-6 and figures["audio.scores.cosine"] == 1


def test_failed_engines_have_their_worst_call(fp32: Built) -> None:
    parity = fp32.parity
    assert set(parity.worst_calls) == set(ENGINES) and parity.failed_calls("fp32") == {}
    wrong = Difference("audio", "embedding", 1.0, 0.5, 5)
    ((name, call),) = (
        replace(parity, differences=(*parity.differences, wrong)).failed_calls("fp32").items()
    )
    assert name == "audio"
    assert call["wave"].shape[0] == 1 and call["wave"].dtype == np.float32


def test_an_engine_that_never_ran_fails() -> None:
    parity = replace(PASSED, differences=PASSED.differences[:-2])
    failures = parity.failures("fp32")
    assert [failure.split(":")[0] for failure in failures] == list(ENGINES[-2:])
    assert Parity((), 0, 0, 0.0).failures("fp32")
