"""What the comparison makes of times and scores, on real clips where that is quick."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from benchmarks.cpu import approximate, compare, peers
from benchmarks.cpu.compare import (
    AGAINST_DECODING,
    AGAINST_REFERENCE,
    APPROXIMATE_AGAINST_REFERENCE,
    DECODE,
    DECODE_AS_WE_DO,
    DECODE_BY_OPENCV,
    REFERENCE,
    Report,
    against_decoding,
    against_reference,
    agreement,
    table,
    target_of,
)
from benchmarks.harness.processes import Run, Series, Spread
from benchmarks.harness.systems import System
from mfer_edge.bench.machine import describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from mfer_edge.stopwatch import STAGES
from tests.support.paths import ROOT

FEAR = ROOT / "samples" / "fear.mp4"
EVEN = {"calm": 0.5, "angry": 0.5}


def series(
    name: str, pass_s: float, stages_s: dict[str, float] | None = None,
    scores: list[dict[str, float] | None] | None = None,
) -> Series:  # fmt: skip
    return Series(name, [Run(3 * pass_s, pass_s, 200_000_000, stages_s or {}, scores or [])])


def made() -> dict[str, Series]:
    return {
        DECODE: series(DECODE, 0.5),
        DECODE_AS_WE_DO: series(DECODE_AS_WE_DO, 0.3),
        DECODE_BY_OPENCV: series(DECODE_BY_OPENCV, 0.4),
        "compact": series("compact", 0.6),
        "paper int8": series("paper int8", 2.0, dict.fromkeys(STAGES, 0.25)),
        "paper fp32": series("paper fp32", 4.0, {"visual": 2.0, "detect": 0.0}),
        REFERENCE: series(REFERENCE, 10.0, dict.fromkeys(STAGES, 1.0)),
    }


def test_compact_stands_beside_decoding() -> None:
    systems = made()
    found = against_decoding(systems, systems["compact"], AGAINST_DECODING)
    assert [(one.what, round(one.ratio.median, 6)) for one in found] == [
        ("compact over decode every frame", 1.2),
        ("compact over decode as mfer-edge does", 2.0),
        ("compact over decode by OpenCV", 1.5),
    ]
    assert found[0].row().endswith("| at most 1.6: met |")
    assert [one.target for one in found[1:]] == [None, None]
    assert AGAINST_DECODING.verdict(1.61) == "at most 1.6: missed"


def test_the_full_size_stands_beside_the_reference() -> None:
    systems = made()
    (found,) = against_reference(systems, systems["paper int8"], AGAINST_REFERENCE)
    assert found.row() == "| reference over paper int8 | 5.00 | 5.00 to 5.00 | at least 3: met |"
    assert found.stages == dict.fromkeys(STAGES, Spread(4.0, 4.0, 4.0))
    (found,) = against_reference(systems, systems["paper fp32"], None)
    assert found.row().endswith("|  |")
    assert found.stages == {"visual": Spread(0.5, 0.5, 0.5)}
    assert found.stages_row() == "| reference over paper fp32 |  |  |  | 0.5 |  |  |"


def system(name: str, precision: str, skip_still: float = 0.0, *approximations: str) -> System:
    """A system as if its bundle were of that name and precision."""
    bundle = Bundle.open()
    engines = {
        file: replace(engine, macs={precision: 1})
        for file, engine in bundle.manifest.engines.items()
    }
    manifest = replace(bundle.manifest, name=name, engines=engines, approximations=approximations)
    return System(replace(bundle, manifest=manifest), "folder", skip_still)


def test_exact_and_approximate_systems_have_targets_of_their_own() -> None:
    assert target_of(system("paper", "int8")) == AGAINST_REFERENCE
    assert target_of(system("paper", "int8", 5.0)) == APPROXIMATE_AGAINST_REFERENCE
    assert (
        target_of(system("paper", "int8", 0.0, "Tokens are merged."))
        == APPROXIMATE_AGAINST_REFERENCE
    )
    assert APPROXIMATE_AGAINST_REFERENCE.verdict(4.99) == "at least 5: missed"
    # The reference's were aimed at with int8, decoding's without approximations.
    assert target_of(system("paper", "fp32")) is None
    assert target_of(system("paper", "fp32", 5.0)) is None
    assert target_of(System(Bundle.open())) == AGAINST_DECODING
    assert target_of(system("compact", "fp32")) == AGAINST_DECODING
    assert target_of(system("compact", "int8", 5.0)) is None


def test_scores_are_compared_where_both_have_them() -> None:
    theirs = series(REFERENCE, 9, scores=[{"calm": 0.7, "angry": 0.3}, EVEN, EVEN])
    ours = series("paper", 3, scores=[{"calm": 0.45, "angry": 0.55}, None, EVEN])
    first, last = agreement(theirs, ours, ["a.mp4", "b.mp4", "c.mp4"])
    assert (first.clip, last.clip) == ("a.mp4", "c.mp4")
    assert first.difference == pytest.approx(0.25)
    assert first.spread == pytest.approx(0.4)
    assert (first.same_label, last.same_label, last.difference) == (False, True, 0.0)


def test_the_report_is_a_table_and_json() -> None:
    systems = made()
    report = Report(
        describe_machine(),
        ["a.mp4 (1280x720)"],
        list(systems.values()),
        [
            *against_decoding(systems, systems["compact"], AGAINST_DECODING),
            *against_reference(systems, systems["paper int8"], AGAINST_REFERENCE),
        ],
        [],
    )
    text = table(report)
    assert "| decode every frame | 0.50 | 0.50 to 0.50 | 1.50 | 200 |" in text
    assert "a.mp4 (1280x720)" in text
    assert "torch 2." in text
    assert "| reference over paper int8 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 |" in text
    assert "difference of a score" not in text
    told = json.loads(json.dumps(asdict(report)))
    assert told["systems"][0]["runs"][0]["pass_s"] == 0.5
    assert told["comparisons"][0]["target"] == {"limit": 1.6, "at_least": False}


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
        (["--skip-still", "much"], "--skip-still: invalid levels value: 'much'"),
        (["--skip-still", "5"], "--skip-still is for bundles named with --bundle"),
    ],
)
def test_what_to_skip_makes_sense(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        compare.main(arguments)
    assert reason in capsys.readouterr().err


def test_a_clips_size_is_told() -> None:
    assert compare.picture_size(FEAR) == "640x360"


def test_parts_name_what_is_there() -> None:
    (vad,) = peers.parts(str(FEAR), {}, "weights", "exported")
    assert [work.name for work in vad.works] == [
        "silero-vad, PyTorch",
        "silero-vad, ONNX",
        "mfer-edge",
    ]
    failed = Series("silero-vad, PyTorch", [], "silero-vad can't be imported")
    first, second = peers.rows(vad, [failed, series("mfer-edge", 0.3)])
    assert "not run: silero-vad can't be imported" in first.line()
    assert second.ms == Spread(10.0, 10.0, 10.0)  # of 30 s
    assert second.faster is None
    theirs, ours = peers.rows(vad, [series("theirs", 3.0), series("ours", 0.3)])
    assert ours.faster == Spread(10.0, 10.0, 10.0)
    assert theirs.line().endswith("| 1.00 |")


def test_our_vad_hears_the_clip() -> None:
    segments = peers.our_vad(str(FEAR))()
    assert isinstance(segments, list)
    assert len(segments) > 5  # the clip's speech, again and again
    assert len(peers.sound(str(FEAR), 30)) == 30 * 16_000
