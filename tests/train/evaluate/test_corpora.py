"""Figures of protocol corpus, against the same computed by hand, and their tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score

from train.data.index import DatasetError
from train.evaluate.adapted import Adapted, read_adapted
from train.evaluate.corpora import NOT_IN_MEAN, corpora_report
from train.evaluate.metrics import Spread, closed_recall, covered_accuracy, softmax
from train.evaluate.predictions import Predictions, Run, predictions_path
from train.evaluate.report import report_text, write_report
from train.evaluate.run_report import read_report, run_report
from train.labels import EMOTIONS, SEVEN_EMOTIONS

RUN = Run("corpus", "compact", 0, "mfer-edge train crossval", {}, "x", {"emovo": 90, "ordinary": 8})


def made(corpus: str, labels: int = 7, talk: int = 8, seed: int = 0) -> Predictions:
    """Predictions of 90 recordings of a corpus, and of people who just talk."""
    random = np.random.default_rng([seed, *corpus.encode()])
    truth = np.concatenate([np.arange(90) % labels, np.zeros(talk, int)])
    logits = random.normal(0, 1, (90 + talk, 7))
    logits[np.arange(90 + talk), truth] += 1.5
    names = [corpus] * 90 + ["ordinary"] * talk
    return Predictions(
        "corpus",
        corpus,
        "audio",
        SEVEN_EMOTIONS,
        tuple(f"/{name}/{number}.wav" for number, name in enumerate(names)),
        tuple(names),
        tuple(f"{name}/{number // 2}" for number, name in enumerate(names)),
        truth,
        logits.astype(np.float32),
    )


def test_recall_is_open_and_closed() -> None:
    part = made("tess", labels=4)
    (score,) = corpora_report([part], {}).corpora
    own, truth = part.logits[:90], part.truth[:90]
    assert (score.corpus, score.recordings, score.labels, score.in_mean) == ("tess", 90, 4, True)
    known = [0, 1, 2, 3]
    among_all = recall_score(truth, own.argmax(1), labels=known, average="macro")
    among_own = recall_score(truth, own[:, :4].argmax(1), labels=known, average="macro")
    assert score.open_recall == pytest.approx(among_all)
    assert score.closed_recall == pytest.approx(among_own)
    assert score.closed_recall > score.open_recall


def test_labels_that_do_not_occur_are_no_answer_whatever_their_place() -> None:
    logits = np.array([[0, 5, 1, 9], [0, 5, 6, 9], [0, 1, 6, 9]], np.float32)
    assert closed_recall(logits, np.array([1, 2, 2])) == 1.0
    assert closed_recall(logits, np.array([2, 1, 1])) == 0.0


def test_the_least_sure_are_left_out() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.55, 0.45]])
    labels = np.array([0, 1, 0, 1])
    assert [covered_accuracy(scores, labels, share) for share in (0.5, 0.75, 1.0)] == [
        1.0,
        pytest.approx(2 / 3),
        0.5,
    ]
    assert covered_accuracy(scores, labels, 0.01) == 1.0


def test_ordinary_talk_counts_neutral_and_false_alarms() -> None:
    part = made("tess", talk=4)
    part.logits[90:] = -5.0
    for row, (label, height) in enumerate([(0, 5), (3, 5), (3, -4.4), (6, 5)], 90):
        part.logits[row, label] = height  # -4.4 gives a score of 0.23
    ordinary = corpora_report([part], {}).ordinary
    assert ordinary is not None
    assert (ordinary.recordings, ordinary.people) == (4, 2)
    assert ordinary.neutral == 0.25
    assert ordinary.false_alarms == 0.5
    flat = corpora_report([part], {"tess": 10.0}).ordinary
    assert flat is not None and (flat.neutral, flat.false_alarms) == (0.25, 0.0)


def test_a_recording_in_two_folds_counts_once() -> None:
    parts = [made("tess", talk=4), made("emovo", talk=4)]
    for part in parts:
        part.logits[90:] = -5.0
        part.logits[90:94, 0] = 5.0
    parts[1].logits[90, 1] = 9.0  # angry in one of two folds
    ordinary = corpora_report(parts, {}).ordinary
    assert ordinary is not None and ordinary.recordings == 4
    assert ordinary.neutral == pytest.approx(3.5 / 4)


def test_calm_is_right_for_ordinary_talk() -> None:
    part = made("tess", talk=2)
    logits = np.insert(part.logits, 1, -9.0, axis=1)
    logits[90:, 1] = 9.0
    calm = Predictions(
        *("corpus", "tess", "audio", EMOTIONS),
        part.paths, part.datasets, part.actors, part.truth, logits,
    )  # fmt: skip
    ordinary = corpora_report([calm], {}).ordinary
    assert ordinary is not None and (ordinary.neutral, ordinary.false_alarms) == (1.0, 0.0)


@pytest.fixture
def folds() -> list[Predictions]:
    return [made("emovo"), made("ravdess"), made("tess", labels=4), made("urdu", labels=4)]


def cells(text: str) -> dict[str, list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in rows if not row[0].startswith("--")}


def test_the_table_comes_first_and_its_mean_leaves_two_corpora_out(
    folds: list[Predictions],
) -> None:
    adapted = [Adapted("emovo", {5: (0.5, 0.6), 20: (0.7,)}), Adapted("tess", {5: (0.8,)})]
    report = run_report(RUN, folds, adapted)
    assert report.corpora is not None
    assert [score.corpus for score in report.corpora.corpora] == ["emovo", "tess", *NOT_IN_MEAN]
    assert report.corpora.corpora[0].adapted[5] == Spread.of([0.5, 0.6])
    text = report_text([report])
    assert text.index("People it has never met") < text.index("Run 1: compact, corpus folds")
    table = cells(text[: text.index("Run 1")])
    closed = [score.closed_recall for score in report.corpora.corpora[:2]]
    mean = table["**mean**"]
    assert mean[0] == "180" and mean[4] == f"{100 * np.mean(closed):.1f}"
    assert mean[-2:] == ["67.5", "70.0"]
    assert table["emovo"][-2:] == ["55.0", "70.0"]
    assert table["tess"][-2:] == ["80.0", "-"]
    assert list(table)[1:] == ["emovo", "tess", "**mean**", "ravdess", "urdu", "people", "4"]
    assert "ravdess and urdu: shown, but not in the mean" in text


def test_calibration_is_with_the_temperature_of_the_other_folds(folds: list[Predictions]) -> None:
    report = run_report(RUN, folds)
    assert report.corpora is not None
    (audio,) = report.arms
    assert audio.calibration is not None
    temperature = audio.calibration.temperatures["emovo"]
    scores = softmax(folds[0].logits[:90] / temperature)
    kept = np.argsort(-scores.max(1))[:45]
    right = (scores[kept].argmax(1) == folds[0].truth[kept]).mean()
    assert report.corpora.corpora[0].covered[50] == pytest.approx(right)


def test_a_run_on_disk_is_reported_with_what_was_adapted(
    folds: list[Predictions], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    RUN.write(run)
    for fold in folds:
        fold.save(predictions_path(run, fold.fold, fold.arm))
    Adapted("tess", {10: (0.25, 0.75)}).write(run)
    assert read_adapted(run) == [Adapted("tess", {10: (0.25, 0.75)})]
    report = read_report(run)
    assert report.corpora is not None
    found = {score.corpus: score.adapted for score in report.corpora.corpora}
    assert found["tess"][10].mean == 0.5 and not found["emovo"]
    _, data, *_ = write_report([run], tmp_path / "report")
    figures = json.loads(data.read_text())["runs"][0]["corpora"]
    assert figures["ordinary"]["recordings"] == 8
    assert figures["corpora"][1]["adapted"]["10"]["mean"] == 0.5


@pytest.mark.parametrize("text", ["", "[1]", '{"a": [1]}', '{"5": 1}', '{"5": ["x"]}'])
def test_damaged_recalls_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fold-tess" / "adapted.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(DatasetError, match=str(path)):
        read_adapted(tmp_path)
