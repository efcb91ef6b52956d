"""The report of runs on disk: its figures are right, and each says how it was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score

from mfer_edge.errors import OutputError
from train.data.index import DatasetError
from train.evaluate.predictions import Predictions, Run, join, predictions_path
from train.evaluate.published_results import PUBLISHED
from train.evaluate.report import report_text, write_report
from train.evaluate.run_report import read_report, run_report
from train.labels import EMOTIONS, FOUR_EMOTIONS


def made(
    fold: str,
    arm: str = "audio",
    dataset: str = "ravdess",
    labels: Sequence[str] = EMOTIONS,
    protocol: str = "subject",
    truth: np.ndarray | None = None,
    skill: float = 2.0,
    seed: int = 0,
) -> Predictions:
    """What an arm might say of 60 clips by one actor; the more skill, the surer and the better."""
    random = np.random.default_rng([seed, *fold.encode()])
    truth = random.integers(0, len(labels), 60) if truth is None else truth
    logits = random.normal(0, 1, (len(truth), len(labels)))
    logits[np.arange(len(truth)), truth] += skill
    return Predictions(
        protocol,
        fold,
        arm,
        tuple(labels),
        tuple(f"/data/{dataset}/{fold}/{i}.wav" for i in range(len(truth))),
        (dataset,) * len(truth),
        (f"{dataset}/{fold}",) * len(truth),
        truth,
        logits.astype(np.float32),
    )


def a_run(protocol: str = "subject") -> Run:
    versions = {"torch": "2.13.0"}
    return Run(protocol, "compact", 7, "mfer-edge train crossval", versions, "x", {"ravdess": 300})


def write_run(folder: Path, parts: Sequence[Predictions]) -> Path:
    folder.mkdir()
    a_run(parts[0].protocol).write(folder)
    for part in parts:
        part.save(predictions_path(folder, part.fold, part.arm))
    return folder


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    lines = text[text.index(f"# {heading}") :].splitlines()[1:]
    table: list[list[str]] = []
    for line in lines:
        if line.startswith("| "):
            table.append([cell.strip() for cell in line.strip("| ").split(" | ")])
        elif table or line.startswith("#"):
            break
    return table[2:]


def test_scores_are_the_mean_and_spread_of_the_folds() -> None:
    folds = [made(name) for name in "123"]
    scores = run_report(a_run(), folds).arms[0].scores
    for score, expected in zip(
        scores,
        (
            [np.mean(fold.predicted == fold.truth) for fold in folds],
            [balanced_accuracy_score(fold.truth, fold.predicted) for fold in folds],
        ),
        strict=True,
    ):
        assert list(score.by_fold.values()) == pytest.approx(expected)
        assert score.spread.mean == pytest.approx(np.mean(expected))
        assert score.spread.std == pytest.approx(np.std(expected))
        assert (score.spread.min, score.spread.max) == (min(expected), max(expected))
        assert (score.spread.folds, score.recordings) == (3, 180)
        assert score.chance == 1 / 8
    commonest = np.bincount(np.concatenate([fold.truth for fold in folds])).max() / 180
    assert scores[0].majority == pytest.approx(commonest)
    assert scores[1].majority == pytest.approx(1 / 8)


def test_the_summary_says_what_was_measured_how() -> None:
    text = report_text(
        [run_report(a_run(), [made(f, arm) for f in "12" for arm in ("audio", "visual")])]
    )
    assert "Speaker-independent: no actor is in both training and test." in text
    assert "ravdess (300 recordings). Seed 7. Made by `mfer-edge train crossval`" in text
    table = rows(text, "Accuracy and unweighted recall")
    assert [row[:3] for row in table] == [
        [arm, "ravdess", metric]
        for arm in ("visual", "audio")
        for metric in ("accuracy", "unweighted recall")
    ]
    values = [np.mean(f.predicted == f.truth) for f in (made("1"), made("2"))]
    mean, low, high = (f"{100 * x:.2f}" for x in (np.mean(values), min(values), max(values)))
    assert table[2][3] == f"{mean} ± {100 * np.std(values):.2f}"
    assert table[2][4:7] == [low, high, "12.50"]
    assert table[2][8:] == ["2", "120"]


def test_the_paper_s_protocol_is_called_what_it_is() -> None:
    text = report_text([run_report(a_run("paper"), [made(f, protocol="paper") for f in "12"])])
    assert "Speaker-dependent: the same actors are in training and test." in text


def test_one_fold_has_no_spread_and_no_calibration() -> None:
    report = run_report(a_run(), [made("1")])
    assert report.arms[0].scores[0].spread.std is None
    assert report.arms[0].calibration is None
    text = report_text([run_report(a_run(), [made("1")])])
    assert "Calibration" not in text
    assert rows(text, "Accuracy and unweighted recall")[0][3].count("±") == 0


def test_datasets_are_measured_apart_and_together() -> None:
    parts = [
        made("1", dataset="crema-d", labels=FOUR_EMOTIONS),
        made("1", dataset="urdu", labels=FOUR_EMOTIONS, skill=0.0),
        made("2", dataset="urdu", labels=FOUR_EMOTIONS),
    ]
    first = replace(join(parts[:2]), fold="1")
    arm = run_report(a_run(), [first, parts[2]]).arms[0]
    found = {(s.dataset, s.name): s for s in arm.scores}
    assert [dataset for dataset, name in found if name == "accuracy"] == ["all", "crema-d", "urdu"]
    assert found["crema-d", "accuracy"].by_fold == {
        "1": np.mean(parts[0].predicted == parts[0].truth)
    }
    assert list(found["urdu", "accuracy"].by_fold) == ["1", "2"]
    assert found["urdu", "accuracy"].by_fold["1"] == np.mean(parts[1].predicted == parts[1].truth)
    assert found["all", "accuracy"].recordings == 180
    assert [(s.dataset, s.name) for s in arm.class_recall] == [
        (dataset, label) for dataset in ("crema-d", "urdu") for label in FOUR_EMOTIONS
    ]
    recalls = recall_score(parts[0].truth, parts[0].predicted, average=None)
    assert [s.spread.mean for s in arm.class_recall[:4]] == pytest.approx(recalls)
    assert [s.recordings for s in arm.class_recall[:4]] == np.bincount(parts[0].truth).tolist()


def test_a_class_is_averaged_over_the_folds_that_have_it() -> None:
    whole = made("a", truth=np.arange(60) % 8, skill=9.0)
    lacking = made("b", truth=np.arange(60) % 7, skill=9.0)  # nobody is surprised
    mean = {s.name: s for s in run_report(a_run(), [whole, lacking]).arms[0].class_recall}
    assert mean["surprised"].spread.folds == 1
    assert mean["surprised"].by_fold.keys() == {"a"}
    assert mean["neutral"].spread.folds == 2
    assert mean["surprised"].spread.mean == pytest.approx(1.0)


def test_a_temperature_is_fitted_on_the_other_folds_only() -> None:
    folds = [made(name, skill=3.0) for name in "123"]
    sure = replace(made("4", skill=3.0), logits=4 * made("4", skill=3.0).logits)
    before = run_report(a_run(), folds).arms[0].calibration
    after = run_report(a_run(), [*folds, sure]).arms[0].calibration
    assert before and after
    wrong = made("4", skill=-3.0)
    spoilt = run_report(a_run(), [*folds, wrong]).arms[0].calibration
    assert spoilt and spoilt.temperatures["4"] == after.temperatures["4"]
    assert spoilt.temperatures["1"] > after.temperatures["1"] > before.temperatures["1"]


def test_recordings_that_every_fold_judges_calibrate_nothing() -> None:
    one = made("1")
    two = replace(made("2"), paths=one.paths)
    arm = run_report(a_run(), [one, two]).arms[0]
    assert arm.calibration is None
    assert arm.scores[0].recordings == 60


def test_confusion_is_shown_in_shares_of_each_true_class() -> None:
    truth = np.repeat([0, 1, 2], [4, 2, 2])
    part = made("1", labels=FOUR_EMOTIONS, truth=truth, skill=50.0)
    part.logits[0] = [0, 0, 0, 9]  # one of four neutral clips is taken for angry
    table = rows(report_text([run_report(a_run(), [part])]), "Confusion: audio")
    assert table == [
        ["neutral", "75.0", "0.0", "0.0", "25.0"],
        ["happy", "0.0", "100.0", "0.0", "0.0"],
        ["sad", "0.0", "0.0", "100.0", "0.0"],
        ["angry", "-", "-", "-", "-"],
    ]


def test_figures_of_different_protocols_are_never_in_one_column() -> None:
    runs = [
        (a_run(protocol), [made(fold, protocol=protocol) for fold in "12"])
        for protocol in ("paper", "subject", "loso")
    ]
    text = report_text([run_report(*run) for run in runs])
    table = rows(text, "Beside published accuracies: ravdess, 8 classes")
    assert len(table) == 3 + sum(p.dataset == "ravdess" for p in PUBLISHED)
    figures = [row[2:5] for row in table]
    assert all(sum(map(bool, cells)) == 1 for cells in figures)
    assert [cells.index(next(filter(None, cells))) for cells in figures[:3]] == [1, 0, 0]
    assert ["MFER", "combined", "", "96.94", ""] in [row[:5] for row in table]
    assert ["aural transformers, action units", "combined", "86.70", "", ""] in [
        row[:5] for row in table
    ]
    assert all(len(row) == 7 and row[6] for row in table)  # each with its source


@pytest.mark.parametrize(("dataset", "labels"), [("urdu", EMOTIONS), ("ravdess", FOUR_EMOTIONS)])
def test_other_tasks_are_not_set_beside_the_published_ones(
    dataset: str, labels: Sequence[str]
) -> None:
    parts = [made(fold, dataset=dataset, labels=labels) for fold in "12"]
    assert "published" not in report_text([run_report(a_run(), parts)])


def test_the_svm_stands_beside_the_audio_arm() -> None:
    arms = ("visual", "audio", "svm")
    parts = [
        made(fold, arm, "saudi", FOUR_EMOTIONS, skill=arms.index(arm))
        for fold in "12"
        for arm in arms
    ]
    text = report_text([run_report(a_run(), parts)])
    assert [row[0] for row in rows(text, "Accuracy and unweighted recall")] == [
        *("visual", "visual"),
        *("audio", "audio"),
    ]
    beside = rows(text, "Beside a support vector machine")
    assert [row[0] for row in beside] == ["audio", "audio", "svm", "svm"]
    published = rows(text, "Beside published accuracies: saudi, 4 classes")
    assert ["SVM", "svm", "", "", "77.00"] in [row[:5] for row in published]
    assert "support vector" not in report_text([run_report(a_run(), parts[:2])])


def test_the_report_on_disk_holds_all_figures_and_pictures(tmp_path: Path) -> None:
    parts = [made(fold, arm) for fold in "12" for arm in ("audio", "combined")]
    folder = write_run(tmp_path / "run", parts)
    single = write_run(tmp_path / "single", [made("1", protocol="paper")])
    files = write_report([folder, single], tmp_path / "new" / "report")
    assert sorted(files) == sorted((tmp_path / "new" / "report").iterdir())
    text, data, *pictures = files
    assert text.read_text().startswith(report_text([read_report(folder), read_report(single)]))
    figures = json.loads(data.read_text())
    score = figures["runs"][0]["arms"][0]["scores"][0]
    assert score["by_fold"]["1"] == np.mean(parts[0].predicted == parts[0].truth)
    assert figures["runs"][1]["run"]["protocol"] == "paper"
    assert len(figures["published"]) == len(PUBLISHED)
    # Folds for each run; confusion for each arm; calibration where there are two folds.
    assert len(pictures) == 2 + 3 + 2
    for picture in pictures:
        assert f"]({picture.name})" in text.read_text()
        assert picture.stat().st_size < 120_000
        image = cv2.imread(str(picture))
        assert image is not None and min(image.shape[:2]) > 400
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (edge == 255).all()  # nothing is cut off


def test_the_same_runs_give_the_same_files(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [made("1"), made("2")])
    once, again = (write_report([folder], tmp_path / name) for name in ("once", "again"))
    for one, other in zip(once, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_what_can_not_be_reported_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing: not a cross-validation run"):
        write_report([tmp_path / "nothing"], tmp_path / "report")
    assert not (tmp_path / "report").exists()
    folder = write_run(tmp_path / "run", [made("1")])
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_report([folder], tmp_path / "file")
    with pytest.raises(DatasetError, match="can't be pooled"):
        report_text([run_report(a_run(), [made("1"), made("2", labels=FOUR_EMOTIONS)])])
