"""`mfer-edge evaluate` on real clips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result

from mfer_edge.pipeline import Pipeline
from tests.support.commands import passed, refused, run


def evaluate(*arguments: object) -> Result:
    return run("evaluate", "--device", "cpu", "--workers", 1, "--threads", 1, *arguments)


@pytest.fixture
def labels(voice: Path, moment: Path, tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    rows = [(moment, "anger", "0", "1"), (moment, "angry", "", ""), (voice, "fear", "", "")]
    text = "\n".join(",".join(map(str, (*row, f"person {row[0].stem}"))) for row in rows)
    path.write_text(f"path,label,start_s,end_s,person\n{text}\n")
    return path


NAMES = ("--map", "anger=angry", "--map", "fear=fearful")


def test_report(
    labels: Path, pipeline: Pipeline, moment: Path, voice: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    text = passed(evaluate(labels, *NAMES, "--json", out, "--work", tmp_path / "work"))
    made = json.loads(out.read_text())
    answers = [pipeline.analyze(clip).overall for clip in (moment, moment, voice)]
    right = [
        one is not None and one.label == label
        for one, label in zip(answers, ("angry", "angry", "fearful"), strict=True)
    ]
    assert made["accuracy"]["value"] == pytest.approx(sum(right) / 3)
    assert made["resampled"] == {"unit": "person", "number": 2, "times": 2000, "confidence": 0.95}
    assert (made["annotations"], made["clips"], made["failures"]) == (3, 2, [])
    assert sum(map(sum, made["confusion"]["counts"])) == 3
    assert set(made["accuracy_by_modality"]) <= {"visual+audio", "audio"}
    assert "3 annotations of 2 clips" in text and "not good enough:" in text
    assert "angry: too few to tell, n = 2" in text
    # What was analysed is known, in any evaluation of it.
    again = evaluate(labels, *NAMES, "--work", tmp_path / "work", "--timeout", 0.001)
    assert passed(again) == text


def test_a_clip_that_is_missing_costs_its_labels(labels: Path) -> None:
    labels.write_text(labels.read_text() + "gone.mp4,sad,,,person 3\n")
    result = evaluate(labels, *NAMES, "--json", "-")
    assert result.exit_code == 1
    assert result.stderr == f"error: {labels.parent}/gone.mp4: No such file or directory\n"
    made = json.loads(result.stdout)
    assert made["annotations"] == 3
    assert made["failures"] == [f"{labels.parent}/gone.mp4: No such file or directory"]


@pytest.mark.parametrize(
    ("options", "code", "fact"),
    [
        ([], 1, "anger (1), fear (1); map them"),
        (["--map", "anger"], 2, "--map anger: not of the form THEIRS=OURS"),
        ([*NAMES, "--map", "joy=happy"], 1, "joy is mapped, but no label"),
        ([*NAMES, "--json", "nowhere/report.json"], 1, "nowhere/report.json: there is no folder"),
        ([*NAMES, "--window", 20], 2, "the window is 20 s"),
        ([*NAMES, "--bundle", "nowhere"], 1, "nowhere"),
        ([*NAMES, "--adapt", "auto"], 2, "--adapt auto: not offered"),
    ],
)
def test_wrong_use_is_said_before_the_work(
    labels: Path, tmp_path: Path, options: list, code: int, fact: str
) -> None:
    work = tmp_path / "work"
    assert fact in refused(evaluate(labels, "--work", work, *options), code)
    assert not work.exists()


def test_neither_labels_nor_clips_are_overwritten(
    labels: Path, voice: Path, tmp_path: Path
) -> None:
    text = labels.read_text()
    assert "this is a source" in refused(evaluate(labels, *NAMES, "--json", labels), 2)
    assert labels.read_text() == text
    clip = Path(shutil.copy(voice, tmp_path / "a-recording"))
    own = tmp_path / "own.csv"
    own.write_text("path,label\na-recording,sad\n")
    assert "this is a source" in refused(evaluate(own, "--json", clip), 2)
    assert clip.read_bytes() == voice.read_bytes()


def test_nothing_to_compare(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\ngone.mp4,sad\n")
    result = evaluate(labels)
    assert result.exit_code == 1
    assert "no annotation could be compared" in result.stderr
