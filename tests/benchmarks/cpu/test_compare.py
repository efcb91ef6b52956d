"""The comparison's tables and command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.cpu import approximate, compare, peers
from benchmarks.cpu.compare import CompareResult, markdown
from benchmarks.cpu.time_ratios import (
    COMPACT_OVER_DECODING,
    REFERENCE_OVER_EXACT,
    decoding_ratios,
    reference_ratios,
)
from mfer_edge.bench.machine import describe_machine
from mfer_edge.errors import MferError
from mfer_edge.samples import FEAR
from tests.benchmarks.cpu.synthetic import synthetic_series


def test_the_result_is_a_table_and_json() -> None:
    systems = synthetic_series()
    result = CompareResult(
        describe_machine(),
        ["a.mp4 (1280x720)"],
        list(systems.values()),
        [
            *decoding_ratios(systems, systems["compact"], COMPACT_OVER_DECODING),
            *reference_ratios(systems, systems["paper int8"], REFERENCE_OVER_EXACT),
        ],
        [],
    )
    text = markdown(result)
    assert "| decode every frame | 0.50 | 0.50 to 0.50 | 1.50 | 200 |" in text
    assert "a.mp4 (1280x720)" in text
    assert "torch 2." in text
    assert "| reference over paper int8 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 |" in text
    assert "difference of a score" not in text
    told = json.loads(json.dumps(asdict(result)))
    assert told["systems"][0]["runs"][0]["pass_s"] == 0.5
    assert told["ratios"][0]["target"] == {"limit": 1.6, "at_least": False}


@pytest.mark.parametrize("script", [compare, peers, approximate])
def test_wrong_use_is_told_in_a_line(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--rounds", "0"])
    assert "--rounds must be at least 1" in capsys.readouterr().err
    for wrong in (["--bundle", "nowhere"], ["--json", "nowhere/a.json"]):
        with pytest.raises(MferError, match="nowhere"):
            script.main(wrong)


def test_a_clip_that_is_not_there_is_told_before_the_work() -> None:
    with pytest.raises(MferError, match=r"nowhere.mp4"):
        compare.main(["nowhere.mp4"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--skip-still", "0"], "--skip-still: must be over 0 and at most 255"),
        (["--skip-still", "nan"], "--skip-still: must be over 0"),
        (["--skip-still", "much"], "--skip-still: invalid grey_levels value: 'much'"),
        (["--skip-still", "5"], "--skip-still is for bundles named with --bundle"),
    ],
)
def test_what_to_skip_makes_sense(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        compare.main(arguments)
    assert reason in capsys.readouterr().err


def test_a_clips_frame_size() -> None:
    assert compare.frame_size(FEAR) == "640x360"
