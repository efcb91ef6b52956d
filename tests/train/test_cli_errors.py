"""`mfer-edge train`: one line and an exit code for what can't be done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.train.cli_runs import (
    CROSSVAL_OPTIONS,
    INDEX,
    Datasets,
    Runs,
    done,
    refused,
    shell,
    with_paper,
)
from tests.train.synthetic import voice, write_sound
from train.labels import EMOTIONS

pytestmark = pytest.mark.usefixtures("small")


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("ravdess", "ravdess: not NAME=FOLDER with a NAME of ased, casia"),
        ("iemocap=/tmp", "iemocap=/tmp: not NAME=FOLDER"),
        ("=/tmp", "=/tmp: not NAME=FOLDER"),
    ],
)
def test_a_dataset_is_given_by_name_and_folder(pair: str, says: str, tmp_path: Path) -> None:
    assert says in refused("index", pair, "--out", tmp_path / "i.csv", code=2)


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    line = refused("index", f"ravdess={tmp_path / 'none'}", "--out", tmp_path / "i.csv")
    assert f"{tmp_path / 'none'}: " in line
    assert not (tmp_path / "i.csv").exists()


COMMANDS = ["features", "visual", "audio", "fusion", "all", "crossval"]


def words(command: str, index: Path, folder: Path, *more: object) -> list[object]:
    """A command line with all that is required."""
    out = [] if command == "features" else ["--out", folder / "out"]
    return [command, index, *out, "--cache", folder / "cache", *more]


@pytest.mark.parametrize("command", [*COMMANDS, "faces"])
def test_a_damaged_index_is_a_clear_error(command: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("path,label\n/a.wav,sad\n")
    for index, says in ((tmp_path / "none.csv", "no readable index"), (damaged, "not an index")):
        line = (
            refused("faces", index, "--out", tmp_path / "out")
            if command == "faces"
            else refused(*words(command, index, tmp_path))
        )
        assert line.startswith(f"error: {index}: {says}")


@pytest.mark.parametrize(
    ("command", "preset", "name", "says"),
    [
        ("visual", "compact", "fer_face.safetensors", "`mfer-edge train faces` makes it"),
        ("features", "compact", "whisper_tiny_en_encoder.safetensors", "encoder of Whisper tiny"),
        ("audio", "paper", "emotion2vec_plus_base/model.pt", "of emotion2vec/emotion2vec_plus"),
        ("visual", "paper", "facial_emotions_image_detection/config.json", "of dima806/facial"),
        ("crossval", "paper", "facial_emotions_image_detection/model.safetensors", "of dima806/"),
    ],
)
def test_missing_weights_are_an_error_that_tells_where_to_get_them(
    command: str, preset: str, name: str, says: str, datasets: Datasets, tmp_path: Path
) -> None:
    weights = shutil.copytree(datasets.weights, tmp_path / "weights")
    (weights / name).unlink()
    index = getattr(datasets, INDEX[preset])
    line = refused(*words(command, index, tmp_path, "--preset", preset, "--weights", weights))
    assert f"{weights / name}" in line and says in line


@pytest.mark.parametrize(("command", "preset"), [("visual", "compact"), ("features", "paper")])
def test_weights_that_can_not_be_looked_for_are_a_clear_error(
    command: str, preset: str, datasets: Datasets, tmp_path: Path
) -> None:
    index, weights = getattr(datasets, INDEX[preset]), tmp_path / ("w" * 300)
    line = refused(*words(command, index, tmp_path, "--preset", preset, "--weights", weights))
    assert line.startswith(f"error: {weights}/") and line.endswith(
        "can't be read (File name too long)"
    )


@with_paper
def test_fusion_needs_both_arms(runs: Runs, tmp_path: Path) -> None:
    line = refused("fusion", *runs.options("--out", tmp_path))
    assert f"{tmp_path / 'visual.safetensors'}: not there: train that arm first" in line
    shutil.copy(runs.one_by_one / "visual.safetensors", tmp_path)
    assert "audio.safetensors: not there" in refused("fusion", *runs.options("--out", tmp_path))
    (tmp_path / "audio.safetensors").write_bytes(b"torn")
    assert "audio.safetensors: damaged" in refused("fusion", *runs.options("--out", tmp_path))


@with_paper
def test_arms_trained_on_every_actor_need_a_cross_validation(runs: Runs) -> None:
    line = refused("fusion", *runs.options("--out", runs.final))
    assert "were trained on every actor" in line and "--crossval" in line


@with_paper
def test_a_cross_validation_to_calibrate_by_is_checked_first(runs: Runs, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out", "--crossval"]
    assert "not a cross-validation run" in refused("all", *runs.options(*out, tmp_path))
    copies = {}
    for name, value in (("preset", "other"), ("protocol", "paper")):
        copies[name] = shutil.copytree(runs.crossval, tmp_path / name)
        told = json.loads((copies[name] / "run.json").read_text())
        (copies[name] / "run.json").write_text(json.dumps(told | {name: value}))
        for path in copies[name].rglob("*.npz") if name == "protocol" else ():
            arrays = dict(np.load(path))
            np.savez(path, **(arrays | {"protocol": np.array("paper")}))
    line = refused("all", *runs.options(*out, copies["preset"]))
    assert f"a cross-validation of other, not of {runs.preset}" in line
    line = refused("all", *runs.options(*out, copies["protocol"]))
    assert "its arms were trained on every actor" in line
    assert not (tmp_path / "out").exists()


@with_paper
def test_another_protocol_or_seed_into_the_same_folder_is_refused(runs: Runs) -> None:
    out = ("--out", runs.crossval, *CROSSVAL_OPTIONS)
    for more, says in (
        (("--protocol", "paper"), "another protocol (subject)"),
        (("--seed", 7), "seed was 0, is 7"),  # by the first audio stage, which comes first
        (("--seed", 7, "--no-first-stage"), "another seed (0)"),
        (("--no-first-stage",), "another plan"),
        (("--finetune-face", 1), "another plan"),
    ):
        assert says in refused("crossval", *runs.options(*out, *more))


@with_paper
def test_an_unknown_fold_is_a_clear_error(runs: Runs, tmp_path: Path) -> None:
    line = refused("crossval", *runs.options("--out", tmp_path, "--fold", "actor-9"))
    assert "no fold actor-9: there are 1, 2, 3, 4, 5" in line


@with_paper
def test_more_layers_than_there_are_can_not_be_fine_tuned(runs: Runs, tmp_path: Path) -> None:
    line = refused("audio", *runs.options("--out", tmp_path, "--finetune-voice", 99))
    assert "can't fine-tune the backbone: 99 of" in line


@pytest.mark.parametrize("trouble", ["gone", "cut off", "a text"])
def test_media_that_fail_after_indexing_are_a_clear_error(
    trouble: str, tmp_path: Path, datasets: Datasets
) -> None:
    for actor in ("ann", "bob"):
        for number, label in enumerate(EMOTIONS):
            path = tmp_path / "own" / label / f"{actor}_{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_sound(path, voice(0.3, 100 * number + (actor == "bob")))
    done("index", f"own={tmp_path / 'own'}", "--out", tmp_path / "i.csv")
    broken = tmp_path / "own" / "calm" / "bob_1.wav"
    if trouble == "gone":
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[:40] if trouble == "cut off" else b"hello")
    command = words("audio", tmp_path / "i.csv", tmp_path, "--weights", datasets.weights)
    assert refused(*command).startswith(f"error: {broken}: ")


@with_paper
def test_a_run_below_a_file_is_refused(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in ("visual", "crossval"):
        line = refused(command, *runs.options("--out", tmp_path / "file" / "run"))
        assert "no folder for a run" in line
    assert "is a file" in refused("visual", *runs.options("--out", tmp_path / "file"), code=2)


def test_an_option_that_is_not_there_is_wrong_usage(datasets: Datasets) -> None:
    assert "such option" in refused("visual", datasets.spoken, "--frobnicate", code=2)
    assert "Missing option '--out'" in refused("visual", datasets.spoken, code=2)


def test_a_real_process_prints_one_line_and_fails(tmp_path: Path) -> None:
    with shell("visual", tmp_path / "none.csv", "--out", tmp_path / "out") as child:
        printed, said = child.communicate()
    assert (child.returncode, printed) == (1, "")
    assert said.count("\n") == 1 and "no readable index" in said
