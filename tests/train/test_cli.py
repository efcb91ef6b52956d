"""`mfer-edge train`: from folders to a model with both presets, and one line where that fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file

from tests.support.paths import ROOT
from tests.train.conftest import Made, call
from tests.train.synthetic import CAST, voice, write_sound
from train.data.index import read_index
from train.evaluate.predictions import read_run
from train.labels import EMOTIONS
from train.models.emotion_model import EmotionModel, load_model
from train.models.registry import FACE_BACKBONES, FER_FACE, SPEECH_BACKBONES

pytestmark = pytest.mark.usefixtures("small")

JUDGED = ("--svm", "--finetune-voice", 0)
INDEX = {"compact": "spoken", "paper": "filmed"}


def done(*arguments: object) -> str:
    """Run a command that succeeds; give what it prints."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object, code: int = 1) -> str:
    """Run a command that fails as it should; give its one line."""
    result: Result = call(*arguments)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


class Runs:
    """Everything done with one preset, in the order in which a person would."""

    def __init__(self, preset: str, made: Made, folder: Path) -> None:
        self.preset, self.made, self.folder = preset, made, folder
        self.index: Path = getattr(made, INDEX[preset])
        self.one_by_one, self.at_once = folder / "one-by-one", folder / "at-once"
        self.crossval, self.final = folder / "crossval", folder / "final"
        self.printed: dict[str, str] = {}
        self.run("features")
        for stage in ("visual", "audio", "fusion"):
            self.run(stage, "--out", self.one_by_one)
        self.run("all", "--out", self.at_once)
        self.run("crossval", "--out", self.crossval, *JUDGED)
        self.run("all", "--out", self.final, "--crossval", self.crossval, name="final")

    def options(self, *more: object) -> list[object]:
        made = self.made
        return [
            self.index, "--preset", self.preset, "--weights", made.weights, "--cache", made.cache,
            *more,
        ]  # fmt: skip

    def run(self, command: str, *more: object, name: str = "") -> None:
        self.printed[name or command] = done(command, *self.options(*more))


@pytest.fixture(scope="module", params=["compact", "paper"])
def runs(
    request: pytest.FixtureRequest,
    small: None,
    made: Made,
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    return Runs(request.param, made, tmp_path_factory.mktemp(request.param))


with_paper = pytest.mark.parametrize("runs", ["paper"], indirect=True)


def model(run: Path) -> EmotionModel:
    return load_model(run / "model.safetensors")


def test_the_index_holds_every_made_file(made: Made) -> None:
    filmed = read_index(made.filmed)
    assert {e.dataset for e in filmed} == {"ravdess", "own", "crema-d", "shemo", "urdu", "saudi"}
    assert {e.kind for e in filmed if e.dataset in ("ravdess", "own")} == {"av"}
    assert len(filmed) == 4 * len(CAST) + 8 + 4 * (5 + 3 * 2)
    assert len(read_index(made.spoken)) == 4 * 16 + 7 * 24


def test_a_model_comes_out_that_knows_faces_and_voices(runs: Runs) -> None:
    made = model(runs.one_by_one)
    assert made.preset.name == runs.preset
    faces = torch.zeros(3, 1, made.face.size, made.face.size, dtype=torch.uint8)  # type: ignore[arg-type]
    networks = made.networks()
    with torch.no_grad():
        (embeddings,) = networks["face"](faces)
        seen, visual = networks["visual"](embeddings[None])
        heard, audio = networks["audio"](torch.from_numpy(voice(0.5))[None])
        (joint,) = networks["fusion"](visual, audio)
    for scores in (seen, heard, joint):
        assert scores.shape == (1, len(EMOTIONS))
        assert float(scores.sum()) == pytest.approx(1, abs=1e-5)


def test_one_after_the_other_the_stages_give_what_all_gives(runs: Runs) -> None:
    for name in ("visual.safetensors", "audio.safetensors", "model.safetensors", "figures.json"):
        assert (runs.one_by_one / name).read_bytes() == (runs.at_once / name).read_bytes(), name


def test_the_model_is_made_of_the_trained_arms(runs: Runs) -> None:
    made = model(runs.one_by_one)
    arms = load_file(runs.one_by_one / "visual.safetensors")
    for name, value in made.visual.state_dict().items():
        torch.testing.assert_close(value, arms[name], rtol=1e-3, atol=1e-6)
    voices = load_file(runs.one_by_one / "audio.safetensors")
    for part, module in (("arm", made.audio), ("backbone", made.speech)):
        for name, value in module.state_dict().items():
            if part == "arm" or runs.preset == "compact":  # of which the backbone is fine-tuned
                torch.testing.assert_close(value, voices[f"{part}.{name}"], rtol=1e-3, atol=1e-6)


def test_the_frozen_backbones_are_the_published_ones(runs: Runs) -> None:
    made, weights = model(runs.one_by_one), runs.made.weights
    face = FACE_BACKBONES[made.preset.face].load(weights)
    for name, value in made.face.state_dict().items():
        torch.testing.assert_close(value, face.state_dict()[name], rtol=1e-3, atol=1e-6)
    speech = SPEECH_BACKBONES[made.preset.speech].load(weights).state_dict()
    same = {
        name: torch.allclose(value, speech[name], rtol=1e-3, atol=1e-6)
        for name, value in made.speech.state_dict().items()
    }
    tuned = {name for name, value in same.items() if not value}
    if runs.preset == "paper":
        assert not tuned
    else:
        assert tuned and all(name.startswith("layers.2.") for name in tuned)


def test_the_figures_are_kept_and_printed(runs: Runs) -> None:
    for run, name in ((runs.one_by_one, "fusion"), (runs.final, "final")):
        figures = json.loads((run / "figures.json").read_text())
        assert len(figures) == 3
        for figure in figures:
            assert (
                f"{figure['what']}: unweighted recall {figure['unweighted_recall']:.3f}"
                in (runs.printed[name])
            )
            for value in list(figure.values())[1:]:
                assert 0 <= value <= 1


def test_everyone_is_judged_once(runs: Runs) -> None:
    run, predictions = read_run(runs.crossval)
    entries = [e for e in read_index(runs.index) if e.dataset in ("ravdess", "own")]
    wanted = sorted(str(e.path) for e in entries)
    arms = {"compact": {"audio", "svm"}, "paper": {"visual", "audio", "combined", "svm"}}
    assert {part.arm for part in predictions} == arms[runs.preset]
    assert {part.fold for part in predictions} == set("12345")
    for arm in arms[runs.preset]:
        judged = [path for part in predictions if part.arm == arm for path in part.paths]
        assert sorted(judged) == wanted
    assert (run.preset, run.protocol, run.seed) == (runs.preset, "subject", 0)


def test_work_that_is_done_is_not_done_again(runs: Runs) -> None:
    before = {p: p.stat().st_mtime_ns for p in runs.made.cache.rglob("*.npz")}
    assert "to go" not in done("features", *runs.options())
    done("crossval", *runs.options("--out", runs.crossval, *JUDGED))
    assert {p: p.stat().st_mtime_ns for p in runs.made.cache.rglob("*.npz")} == before
    for stage in ("visual", "audio"):
        kept = (runs.one_by_one / f"{stage}.safetensors").read_bytes()
        done(stage, *runs.options("--out", runs.one_by_one))
        assert (runs.one_by_one / f"{stage}.safetensors").read_bytes() == kept


@with_paper
def test_a_report_is_made_of_a_cross_validation(runs: Runs, tmp_path: Path) -> None:
    printed = done("report", runs.crossval, "--out", tmp_path / "report").split()
    assert all(Path(path).is_file() for path in printed)
    text = (tmp_path / "report" / "report.md").read_text()
    assert f"{runs.preset}, subject folds" in text
    figures = json.loads((tmp_path / "report" / "report.json").read_text())
    assert figures


def test_the_faces_of_compact_are_trained_and_taken(made: Made, tmp_path: Path) -> None:
    printed = done("faces", made.spoken, "--out", tmp_path / "faces", "--epochs", 1, "--finish", 0)
    assert json.loads(printed.splitlines()[-1])["epoch"] == 1
    weights = shutil.copytree(made.weights, tmp_path / "weights")
    shutil.copy(tmp_path / "faces" / FER_FACE, weights)
    face = FACE_BACKBONES["fer-resnet"].load(weights)
    trained = load_file(tmp_path / "faces" / FER_FACE)
    for name, value in face.state_dict().items():
        assert torch.equal(value, trained[f"encoder.{name}"])


def test_backbones_can_be_fine_tuned_within_the_folds(made: Made, tmp_path: Path) -> None:
    done(
        "crossval", made.filmed, "--preset", "paper", "--weights", made.weights, "--cache",
        made.cache, "--out", tmp_path, "--fold", 2, "--finetune-voice", 1, "--finetune-face", 2,
    )  # fmt: skip
    stages = {state.parent.name for state in (tmp_path / "fold-2").rglob("last.pt")}
    assert stages == {"audio", "voice-fine", "visual", "face-fine", "combined"}
    assert {part.arm for part in read_run(tmp_path)[1]} == {"visual", "audio", "combined"}


def test_the_four_emotions_are_judged_too(made: Made, tmp_path: Path) -> None:
    done(
        "crossval", made.filmed, "--preset", "paper", "--weights", made.weights, "--cache",
        made.cache, "--out", tmp_path, "--classes", 4, "--protocol", "paper",
    )  # fmt: skip
    (predictions, *_) = read_run(tmp_path)[1]
    assert predictions.labels == ("neutral", "happy", "sad", "angry")
    assert set(predictions.datasets) <= {"crema-d", "shemo", "urdu", "saudi"}


def test_random_backbones_are_warned_of_and_repeat(made: Made, tmp_path: Path) -> None:
    kept = []
    for name in ("one", "other"):
        result = call(
            "audio", made.filmed, "--preset", "paper", "--random-init", "--weights",
            tmp_path / "none", "--cache", tmp_path / "cache", "--out", tmp_path / name,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "the backbones are random" in result.stderr
        kept.append((tmp_path / name / "audio.safetensors").read_bytes())
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("ravdess", "ravdess: not NAME=FOLDER with a NAME of ckplus, crema-d"),
        ("iemocap=/tmp", "iemocap=/tmp: not NAME=FOLDER"),
        ("=/tmp", "=/tmp: not NAME=FOLDER"),
    ],
)
def test_a_dataset_is_given_by_name_and_folder(pair: str, says: str, tmp_path: Path) -> None:
    assert says in refused("index", pair, "--out", tmp_path / "i.csv", code=2)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    line = refused("index", f"ravdess={tmp_path / 'none'}", "--out", tmp_path / "i.csv")
    assert f"{tmp_path / 'none'}: " in line
    assert not (tmp_path / "i.csv").exists()


COMMANDS = ["features", "visual", "audio", "fusion", "all", "crossval"]


def words(command: str, index: Path, folder: Path, *more: object) -> list[object]:
    """A command line with all that is required."""
    out = [] if command == "features" else ["--out", folder / "out"]
    return [command, index, *out, "--cache", folder / "cache", *more]


@pytest.mark.parametrize("command", [*COMMANDS, "faces"])
def test_an_index_that_is_none_is_said(command: str, tmp_path: Path) -> None:
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
def test_missing_weights_are_said_with_where_to_get_them(
    command: str, preset: str, name: str, says: str, made: Made, tmp_path: Path
) -> None:
    weights = shutil.copytree(made.weights, tmp_path / "weights")
    (weights / name).unlink()
    index = getattr(made, INDEX[preset])
    line = refused(*words(command, index, tmp_path, "--preset", preset, "--weights", weights))
    assert f"{weights / name}" in line and says in line


@with_paper
def test_fusion_needs_both_arms(runs: Runs, tmp_path: Path) -> None:
    line = refused("fusion", *runs.options("--out", tmp_path))
    assert f"{tmp_path / 'visual.safetensors'}: not there: train that arm first" in line
    shutil.copy(runs.one_by_one / "visual.safetensors", tmp_path)
    assert "audio.safetensors: not there" in refused("fusion", *runs.options("--out", tmp_path))
    (tmp_path / "audio.safetensors").write_bytes(b"torn")
    assert "audio.safetensors: damaged" in refused("fusion", *runs.options("--out", tmp_path))


@with_paper
def test_arms_that_have_met_everyone_need_a_cross_validation(runs: Runs) -> None:
    line = refused("fusion", *runs.options("--out", runs.final))
    assert "have learned from every actor" in line and "--crossval" in line


@with_paper
def test_a_cross_validation_to_calibrate_by_is_looked_at_first(runs: Runs, tmp_path: Path) -> None:
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
    assert "its arms had met everyone" in line
    assert not (tmp_path / "out").exists()


@with_paper
def test_another_protocol_or_seed_into_the_same_folder_is_refused(runs: Runs) -> None:
    out = ("--out", runs.crossval, *JUDGED)
    for more, says in (
        (("--protocol", "paper"), "another protocol (subject)"),
        (("--seed", 7), "seed was 0, is 7"),  # by the first audio stage, which comes first
        (("--seed", 7, "--no-first-stage"), "another seed (0)"),
        (("--no-first-stage",), "another plan"),
        (("--finetune-face", 1), "another plan"),
    ):
        assert says in refused("crossval", *runs.options(*out, *more))


@with_paper
def test_no_such_fold_is_said(runs: Runs, tmp_path: Path) -> None:
    line = refused("crossval", *runs.options("--out", tmp_path, "--fold", "actor-9"))
    assert "no fold actor-9: there are 1, 2, 3, 4, 5" in line


@with_paper
def test_more_layers_than_there_are_can_not_be_fine_tuned(runs: Runs, tmp_path: Path) -> None:
    line = refused("audio", *runs.options("--out", tmp_path, "--finetune-voice", 99))
    assert "can't fine-tune the backbone: 99 of" in line


@pytest.mark.parametrize("trouble", ["gone", "cut off", "a text"])
def test_media_that_fail_only_later_are_said(trouble: str, tmp_path: Path, made: Made) -> None:
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
    command = words("audio", tmp_path / "i.csv", tmp_path, "--weights", made.weights)
    assert refused(*command).startswith(f"error: {broken}: ")


@with_paper
def test_a_run_below_a_file_is_refused(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in ("visual", "crossval"):
        line = refused(command, *runs.options("--out", tmp_path / "file" / "run"))
        assert "no folder for a run" in line
    assert "is a file" in refused("visual", *runs.options("--out", tmp_path / "file"), code=2)


def test_an_option_that_is_not_there_is_wrong_usage(made: Made) -> None:
    assert "such option" in refused("visual", made.spoken, "--frobnicate", code=2)
    assert "Missing option '--out'" in refused("visual", made.spoken, code=2)


def shell(*arguments: object) -> subprocess.Popen[str]:
    """Start the real command line, with small presets, in a process of its own."""
    code = (
        "import sys; from tests.train.synthetic import small_presets\n"
        "from mfer_edge.cli.main import main\n"
        "with small_presets(): main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "train", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip


@with_paper
def test_a_real_kill_costs_nothing(runs: Runs, tmp_path: Path) -> None:
    options = runs.options("--out", tmp_path / "out", *JUDGED)
    with shell("crossval", *options) as child:
        while not list(tmp_path.rglob("last.pt")):
            assert child.poll() is None, child.communicate()
        child.kill()
    assert child.returncode == -signal.SIGKILL
    done("crossval", *options)
    found, expected = read_run(tmp_path / "out")[1], read_run(runs.crossval)[1]
    assert [(p.fold, p.arm, p.paths) for p in found] == [(p.fold, p.arm, p.paths) for p in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)


def test_a_real_process_says_one_line_and_fails(tmp_path: Path) -> None:
    with shell("visual", tmp_path / "none.csv", "--out", tmp_path / "out") as child:
        printed, said = child.communicate()
    assert (child.returncode, printed) == (1, "")
    assert said.count("\n") == 1 and "no readable index" in said
