"""What the comparison of approximations makes of readings, on a real clip."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cpu import approximate
from benchmarks.cpu.approximate import Report, Row, Way, effect, observe, table, ways
from benchmarks.harness.processes import Run, Series, Spread, run_apart
from mfer_edge.bench.machine import describe_machine
from mfer_edge.errors import MferError
from mfer_edge.results import Reading
from tests.support.footage import filmed
from tests.support.paths import ROOT

FEAR = str(ROOT / "samples" / "fear.mp4")


def reading(angry: float, reused: int = 0) -> Reading:
    scores = {"calm": 1 - angry, "angry": angry}
    return Reading(0.0, 4.0, 0, True, scores, scores, None, 20, 2, 0.0, reused)


def test_the_exact_way_comes_first() -> None:
    assert ways("a", None, [3.0]) == [Way("exact", "a", 0.0), Way("skip still, 3", "a", 3.0)]
    assert ways("a", "b", [3.0])[2:] == [Way("merge tokens", "b", 0.0), Way("both, 3", "b", 3.0)]


def test_an_effect_is_counted_by_hand() -> None:
    exact = [reading(0.2), reading(0.6)], np.array([[1.0, 0], [2, 0], [0, 3], [0, 4]])
    other = [reading(0.1), reading(0.3, 1)], np.array([[5.0, 0], [2, 2], [0, 3], [0, 9]])
    found = effect(exact, other)
    assert (found.faces, found.reused, found.readings, found.other_label) == (4, 1, 2, 1)
    assert found.mean_score == pytest.approx((0.1 + 0.3) / 2)
    assert found.largest_score == pytest.approx(0.3)
    assert found.mean_cosine == pytest.approx((3 + 0.5**0.5) / 4)
    assert found.least_cosine == pytest.approx(0.5**0.5)


def test_another_model_is_refused() -> None:
    one, other = ([reading(0.2)], np.ones((2, 3))), ([reading(0.2)], np.ones((2, 4)))
    with pytest.raises(MferError, match="not of the model"):
        effect(one, other)


def test_a_clip_read_both_ways() -> None:
    exact, still = Way("exact", "", 0.0), Way("still", "", 255.0)
    before, after = observe(exact, [FEAR]), observe(still, [FEAR])
    found = effect(before, after)
    assert (found.faces, found.reused, found.readings) == (17, 16, 1)
    assert (after[1] == after[1][0]).all()  # the first face stands for all
    assert found.least_cosine < found.mean_cosine < 1
    assert found.largest_score > found.mean_score > 0
    same = effect(before, observe(replace(still, skip_still=0.01), [FEAR]))
    assert (same.reused, same.largest_score) == (0, 0)
    assert same.least_cosine == pytest.approx(1)
    assert run_apart(still.work([FEAR])).stages_s["visual"] > 0


def test_nobody_to_look_at(tmp_path: Path) -> None:
    clip = filmed(tmp_path / "nobody.mp4", [np.zeros((90, 160, 3), np.uint8)] * 3, None)
    with pytest.raises(MferError, match="no face in these clips"):
        observe(Way("exact", "", 0.0), [str(clip)])


@pytest.mark.parametrize("trained", [True, False])
def test_the_report_is_a_table_and_json(trained: bool) -> None:
    rows = [
        Row(
            "skip still, 3",
            Spread(1.5, 1.4, 1.6),
            Spread(1.25, 1.2, 1.3),
            effect(([reading(0.2)], np.ones((2, 3))), ([reading(0.3, 1)], np.ones((2, 3)))),
        )
    ]
    series = Series("exact", [Run(3.0, 2.0, 100, {"visual": 1.0}, [])])
    report = Report([], describe_machine(), "paper int8", trained, ["a.mp4"], 0.5, series, rows)
    text = table(report)
    assert "paper int8, exact: 2.00 s for all clips, the visual stage of it 1.00 s" in text
    assert (
        "| skip still, 3 | 1.50 | 1.25 | 1 of 2 | 0.1000 | 0.1000 | 0 of 1 | 1.0000 | 1.0000 |"
    ) in text
    assert ("random" in text) != trained
    assert json.loads(json.dumps(asdict(report)))["rows"][0]["effect"]["reused"] == 1


def test_a_level_that_makes_no_sense_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        approximate.main(["--skip-still", "3", "--skip-still", "256"])
    assert "--skip-still: must be over 0 and at most 255" in capsys.readouterr().err
