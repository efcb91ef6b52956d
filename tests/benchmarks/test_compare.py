"""What the comparison makes of times and scores, on real clips where that is quick."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import compare, peers
from benchmarks.compare import (
    AGAINST_DECODING,
    DECODE,
    OPENCV,
    REFERENCE,
    Report,
    against_decoding,
    against_reference,
    agreement,
    read_with_bundle,
    table,
)
from benchmarks.rounds import Run, Series, Spread
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from mfer_edge.machine import describe_machine
from mfer_edge.session import STAGES
from tests.paths import ROOT

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
        OPENCV: series(OPENCV, 0.4),
        "compact": series("compact", 0.6),
        "paper int8": series("paper int8", 2.0, dict.fromkeys(STAGES, 0.25)),
        "paper fp32": series("paper fp32", 4.0, {"visual": 2.0, "detect": 0.0}),
        REFERENCE: series(REFERENCE, 10.0, dict.fromkeys(STAGES, 1.0)),
    }


def test_compact_stands_beside_decoding() -> None:
    ours, opencv = against_decoding(made(), "compact")
    assert ours.ratio.median == pytest.approx(1.2)
    assert opencv.ratio.median == pytest.approx(1.5)
    assert ours.row().endswith("| at most 1.6: met |")
    assert AGAINST_DECODING.verdict(1.61) == "at most 1.6: missed"


def test_the_full_size_stands_beside_the_reference() -> None:
    whole, *parts = against_reference(made(), "paper int8")
    assert whole.row() == "| reference over paper int8 | 5.00 | 5.00 to 5.00 | at least 3: met |"
    assert [part.what for part in parts] == [f"its {stage}" for stage in STAGES]
    assert {part.ratio.median for part in parts} == {4.0}
    whole, *parts = against_reference(made(), "paper fp32")
    assert whole.target is None
    assert [(part.what, part.ratio) for part in parts] == [("its visual", Spread(0.5, 0.5, 0.5))]


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
        [*against_decoding(systems, "compact"), *against_reference(systems, "paper int8")],
        [],
    )
    text = table(report)
    assert "| decode alone | 0.50 | 0.50 to 0.50 | 1.50 | 200 |" in text
    assert "a.mp4 (1280x720)" in text
    assert "torch 2." in text
    assert "difference of a score" not in text
    told = json.loads(json.dumps(asdict(report)))
    assert told["systems"][0]["runs"][0]["pass_s"] == 0.5
    assert told["comparisons"][0]["target"] == {"limit": 1.6, "at_least": False}


def test_a_bundle_reads_a_clip_with_its_stages() -> None:
    told = read_with_bundle("", str(FEAR))()
    assert list(told.stages_s) == list(STAGES)
    assert told.stages_s["detect"] > 0
    (scores,) = told.scores
    assert scores is not None
    assert list(scores) == list(Bundle.open().manifest.labels)


def test_decoding_reads_all_of_it() -> None:
    assert compare.decode(str(FEAR))() is None
    assert compare.picture_size(FEAR) == "640x360"
    with pytest.raises(MferError, match=r"nowhere.mp4"):
        compare.compare([Path("nowhere.mp4")], [], 1, print)


def test_ours_runs_without_pytorch() -> None:
    code = (
        "import sys, benchmarks.compare as compare, benchmarks.peers as peers, benchmarks.rounds\n"
        f"clip = {str(FEAR)!r}\n"
        "compare.read_with_bundle('', clip)()\n"
        "peers.our_vad(clip)()\n"
        "print('torch' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.strip() == "False", ran.stderr


@pytest.mark.parametrize("script", ["compare", "peers"])
def test_wrong_use_is_told_in_a_line(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = {"compare": compare.main, "peers": peers.main}[script]
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "--rounds must be at least 1" in capsys.readouterr().err
    for wrong in (["--bundle", "nowhere"], ["--json", "nowhere/a.json"]):
        with pytest.raises(MferError, match="nowhere"):
            main(wrong)


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
