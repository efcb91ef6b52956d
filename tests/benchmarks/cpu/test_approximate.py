"""The comparison of approximations, on synthetic readings."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.cpu import approximate
from benchmarks.cpu.approximate import (
    ApproximateResult,
    Variant,
    VariantResult,
    list_variants,
    markdown,
)
from benchmarks.cpu.score_differences import Change, Observation
from benchmarks.harness.processes import JobRun, run_job
from benchmarks.harness.rounds import JobSeries, Spread
from mfer_edge import samples
from mfer_edge.bench.machine import describe_machine
from tests.benchmarks.cpu.synthetic import reading

FEAR = str(samples.FEAR)


def test_the_exact_variant_comes_first() -> None:
    exact = [Variant("exact", "a", 0.0), Variant("skip still, 3", "a", 3.0)]
    merged = [Variant("merge tokens", "b", 0.0), Variant("both, 3", "b", 3.0)]
    assert list_variants("a", None, [3.0]) == exact
    assert list_variants("a", "b", [3.0]) == exact + merged


def test_a_variant_is_timed_with_its_stages() -> None:
    assert run_job(Variant("still", "", 255.0).job([FEAR])).stages_s["visual"] > 0


@pytest.mark.parametrize("trained", [True, False])
def test_the_result_is_a_table_and_json(trained: bool) -> None:
    rows = [
        VariantResult(
            "skip still, 3",
            Spread(1.5, 1.4, 1.6),
            Spread(1.25, 1.2, 1.3),
            Change.between(
                Observation([reading(0.2)], np.ones((2, 3))),
                Observation([reading(0.3, 1)], np.ones((2, 3))),
            ),
        )
    ]
    series = JobSeries("exact", [JobRun(3.0, 2.0, 100, {"visual": 1.0}, [])])
    result = ApproximateResult(
        [], describe_machine(), "paper int8", trained, ["a.mp4"], 0.5, series, rows
    )
    text = markdown(result)
    assert "paper int8, exact: 2.00 s for all clips, the visual stage of it 1.00 s" in text
    assert (
        "| skip still, 3 | 1.50 | 1.25 | 1 of 2 | 0.1000 | 0.1000 | 0 of 1 | 1.0000 | 1.0000 |"
    ) in text
    assert ("random" in text) != trained
    assert json.loads(json.dumps(asdict(result)))["rows"][0]["effect"]["reused"] == 1


def test_a_level_out_of_range_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        approximate.main(["--skip-still", "3", "--skip-still", "256"])
    assert "--skip-still: must be over 0 and at most 255" in capsys.readouterr().err
