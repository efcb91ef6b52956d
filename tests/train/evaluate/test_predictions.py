"""Predictions and runs on disk: they come back as they were, or with one clear line."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.errors import OutputError
from train.data.index import DatasetError
from train.evaluate.predictions import Predictions, Run, join, predictions_path, read_run

LABELS = ("neutral", "happy", "sad")
RUN = Run("subject", "compact", 0, "mfer-edge train crossval", {"torch": "2"}, "a CPU", {"own": 9})


def predictions(fold: str = "1", n: int = 4, seed: int = 0, arm: str = "audio") -> Predictions:
    random = np.random.default_rng(seed)
    return Predictions(
        protocol="subject",
        fold=fold,
        arm=arm,
        labels=LABELS,
        paths=tuple(f"/data/{fold}/كليب {i}.wav" for i in range(n)),
        datasets=tuple("own" if i % 2 else "ravdess" for i in range(n)),
        actors=tuple("" if i % 2 else f"ravdess/{i:02}" for i in range(n)),
        truth=random.integers(0, 3, n),
        logits=random.normal(0, 1, (n, 3)).astype(np.float32),
    )


def same(one: Predictions, other: Predictions) -> bool:
    return all(
        np.array_equal(value, vars(other)[name]) and type(value) is type(vars(other)[name])
        for name, value in vars(one).items()
    )


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    path = predictions_path(tmp_path / "new run", "ravdess-07", "audio")
    saved = predictions("ravdess-07")
    saved.save(path)
    loaded = Predictions.load(path)
    assert same(loaded, saved)
    assert loaded.truth.dtype == np.int64
    assert loaded.logits.dtype == np.float32
    assert [file.name for file in path.parent.iterdir()] == ["audio.npz"]  # nothing left beside


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "random"}, "protocol"),
        ({"arm": "smell"}, "arm"),
        ({"fold": "ravdess/07"}, "fold"),
        ({"labels": ("sad",) * 3}, "labels"),
        ({"actors": ()}, "actor"),
        ({"truth": np.array([0, 1, 2])}, "truth"),
        ({"truth": np.array([0, 1, 2, 3])}, "truth"),
        ({"truth": np.array([0, 1, 2, -1])}, "truth"),
        ({"truth": np.zeros(4)}, "truth"),
        ({"logits": np.zeros((4, 2), np.float32)}, "logits"),
        ({"logits": np.full((4, 3), np.nan, np.float32)}, "finite"),
        ({"paths": np.array([], "U1")}, "no recordings"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        replace(predictions(), **change)
    path = tmp_path / "audio.npz"
    np.savez(path, **(vars(predictions()) | change))
    with pytest.raises(DatasetError, match=f"audio.npz: not a file of predictions .*{message}"):
        Predictions.load(path)


@pytest.mark.parametrize("name", ["protocol", "labels", "truth"])
def test_a_file_without_all_its_parts_is_refused(name: str, tmp_path: Path) -> None:
    parts = dict(vars(predictions()))
    del parts[name]
    np.savez(tmp_path / "audio.npz", **parts)
    with pytest.raises(DatasetError, match=name):
        Predictions.load(tmp_path / "audio.npz")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "audio.npz"
    parts = vars(predictions())
    np.savez(path, **(parts | {"paths": np.array(parts["paths"], object)}))
    with pytest.raises(DatasetError, match="pickle"):
        Predictions.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "audio.npz"
    with pytest.raises(DatasetError, match=r"audio\.npz: can't be read"):
        Predictions.load(path)
    for content in (b"", b"PK\x03\x04 torn", b"some text"):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"audio\.npz: not a file of predictions"):
            Predictions.load(path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DatasetError, match="a single array"):
        Predictions.load(path)


@settings(max_examples=50)
@given(st.data())
def test_damage_never_gives_other_predictions(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "audio.npz"
    saved = predictions()
    saved.save(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    try:
        loaded = Predictions.load(path)
    except DatasetError:
        return
    assert same(loaded, saved)  # the damage was to a time or an attribute


def test_folds_are_pooled_in_order() -> None:
    folds = [predictions("1", 4, 1), predictions("2", 3, 2)]
    pooled = join(folds)
    assert pooled.fold == "pooled"
    assert pooled.paths == folds[0].paths + folds[1].paths
    np.testing.assert_array_equal(pooled.logits[4:], folds[1].logits)
    np.testing.assert_array_equal(pooled.predicted[:4], folds[0].predicted)
    assert same(join(folds[:1]), folds[0])


def test_only_like_is_pooled_with_like() -> None:
    for other in (predictions(arm="visual"), replace(predictions(), labels=("a", "b", "c"))):
        with pytest.raises(DatasetError, match="can't be pooled"):
            join([predictions(), other])
    with pytest.raises(DatasetError, match="can't be pooled"):
        join([])


def test_a_dataset_is_picked_out_with_all_that_belongs_to_it() -> None:
    every = predictions(n=7)
    own = every.of_dataset("own")
    assert own is not None
    assert own.paths == every.paths[1::2]
    assert own.actors == ("",) * 3
    np.testing.assert_array_equal(own.truth, every.truth[1::2])
    np.testing.assert_array_equal(own.logits, every.logits[1::2])
    assert every.of_dataset("urdu") is None


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    RUN.write(tmp_path)
    folds_and_arms = itertools.product(("1", "2"), ("visual", "audio"))
    saved = [predictions(fold, seed=i, arm=arm) for i, (fold, arm) in enumerate(folds_and_arms)]
    for part in saved:
        part.save(predictions_path(tmp_path, part.fold, part.arm))
    run, loaded = read_run(tmp_path)
    assert run == RUN
    assert len(loaded) == 4
    assert all(same(one, other) for one, other in zip(loaded, saved, strict=True))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a cross-validation run"):
        read_run(tmp_path)
    with pytest.raises(DatasetError, match="not a cross-validation run"):
        read_run(tmp_path / "absent")
    RUN.write(tmp_path)
    with pytest.raises(DatasetError, match="no predictions yet"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "random"}, "protocol must be one of paper, subject, loso"),
        ({"seed": "0"}, "seed has an impossible value"),
        ({"seed": True}, "seed has an impossible value"),
        ({"datasets": []}, "datasets has an impossible value"),
        ({"mood": "good"}, "nothing else"),
    ],
)
def test_a_run_that_says_something_else_is_refused(
    change: dict, message: str, tmp_path: Path
) -> None:
    RUN.write(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=message):
        Run.read(tmp_path)
    path.write_text("[")
    with pytest.raises(DatasetError, match="can't be read"):
        Run.read(tmp_path)


@pytest.mark.parametrize(("fold", "arm"), [("2", "audio"), ("1", "visual")])
def test_predictions_of_another_fold_or_arm_are_refused(
    fold: str, arm: str, tmp_path: Path
) -> None:
    RUN.write(tmp_path)
    predictions("1", arm="audio").save(predictions_path(tmp_path, fold, arm))
    with pytest.raises(DatasetError, match="belongs elsewhere"):
        read_run(tmp_path)


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "fold-1").write_text("in the way")
    with pytest.raises(OutputError, match="fold-1"):
        predictions().save(predictions_path(tmp_path, "1", "audio"))
