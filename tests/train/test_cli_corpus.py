"""Protocol corpus from folders in several layouts to its tables, by the commands alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.train.cli_runs import call, done
from tests.train.synthetic import small_presets, voice, write_sound
from train.data.index import read_index
from train.evaluate.adapted import read_adapted
from train.evaluate.predictions import Predictions, read_run
from train.labels import EMOTIONS, FOUR_EMOTIONS, SEVEN_EMOTIONS

NEMO = {"neutral": 0, "happiness": 1, "sadness": 2, "anger": 3, "fear": 4, "surprised": 6}
TESS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "ps")


def speak(path: Path, emotion: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sound(path, voice(0.5 + 0.01 * (seed % 5), seed, 90 + 30 * emotion))


def corpora_tree(root: Path) -> list[str]:
    """Write a few recordings in the layouts of four datasets: NAME=FOLDER of each."""
    for actor in range(1, 5):
        for code in range(1, 9):
            name = f"03-01-{code:02}-01-01-01-{actor:02}.wav"
            emotion = SEVEN_EMOTIONS.index("neutral" if code == 2 else EMOTIONS[code - 1])
            speak(root / "RAVDESS" / f"Actor_{actor:02}" / name, emotion, 100 * actor + code)
    for speaker in range(3):
        for name, emotion in NEMO.items():
            path = root / "nEMO" / "samples" / f"SK{speaker}_{name}_1.wav"
            speak(path, emotion, 1000 + 10 * speaker + emotion)
    for number, speaker in enumerate(("OAF", "YAF")):
        for emotion, name in enumerate(TESS):
            for word in ("back", "bar"):
                path = root / "TESS" / f"{speaker}_{name}" / f"{speaker}_{word}_{name}.wav"
                speak(path, emotion, 2000 + 100 * number + 10 * emotion + len(word))
    for number in range(8):
        path = root / "ordinary" / "speech" / f"place{number % 6}" / f"person{number}_1.wav"
        speak(path, 0, 3000 + number)
    names = {"ravdess": "RAVDESS", "nemo": "nEMO", "tess": "TESS", "ordinary": "ordinary"}
    return [f"{name}={root / folder}" for name, folder in names.items()]


@dataclass(frozen=True)
class Corpora:
    root: Path
    printed: str  # by the cross-validation

    @property
    def index(self) -> Path:
        return self.root / "index.csv"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def data(self) -> list[object]:
        return [self.index, "--random-init", "--cache", self.root / "cache"]

    def one(self, name: str, folder: Path) -> Path:
        """Write an index of the recordings of one corpus."""
        index = folder / f"{name}.csv"
        header, *lines = self.index.read_text().splitlines()
        kept = [line for line in lines if f",{name}," in line]
        index.write_text("\n".join([header, *kept]) + "\n")
        return index


OPTIONS = ("--protocol", "corpus", "--adapt-recordings", "2 5 500")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpora]:
    with small_presets():
        root = tmp_path_factory.mktemp("corpora")
        made = Corpora(root, "")
        done("index", *corpora_tree(root), "--out", made.index)
        done("features", *made.data, "--modality", "voice")
        printed = done("crossval", *made.data, *OPTIONS, "--out", made.run, "--finetune-voice", 0)
        yield Corpora(root, printed)


def test_every_corpus_is_left_out_with_some_ordinary_people(corpora: Corpora) -> None:
    entries = {str(entry.path): entry for entry in read_index(corpora.index)}
    run, predictions = read_run(corpora.run)
    assert run.protocol == "corpus"
    assert [part.fold for part in predictions] == ["nemo", "ravdess", "tess"]
    talk: list[str] = []
    for part in predictions:
        assert part.arm == "audio" and part.labels == SEVEN_EMOTIONS
        own = [
            path for path, name in zip(part.paths, part.datasets, strict=True) if name == part.fold
        ]
        assert len(own) == sum(entry.dataset == part.fold for entry in entries.values())
        talk += sorted(set(part.paths) - set(own))
        calm = [i for i, path in enumerate(part.paths) if entries[path].label == "calm"]
        assert (part.truth[calm] == 0).all()
    assert sorted(talk) == sorted(path for path, entry in entries.items() if entry.soft)


def test_features_are_computed_once_and_cost_is_told(corpora: Corpora, tmp_path: Path) -> None:
    assert "to go" not in corpora.printed
    index = corpora.one("ravdess", tmp_path)
    options = ("--random-init", "--modality", "voice", "--cache")
    assert "to go" not in done("features", index, *options, corpora.root / "cache")
    printed = done("features", index, *options, tmp_path)
    assert "voices: 64 views to go: about 1 MB and" in printed


def test_the_table_is_the_first_of_the_report(corpora: Corpora, tmp_path: Path) -> None:
    done("report", corpora.run, "--out", tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(corpora.printed[corpora.printed.index("# Cross-validation") :].strip())
    first = next(line for line in text.splitlines() if line.startswith("| "))
    assert first.startswith("| left out") and first.rstrip(" |").endswith("adapted to 5")
    assert "ravdess: shown, but not in the mean" in text
    figures = json.loads((tmp_path / "report.json").read_text())["runs"][0]["corpora"]
    assert [score["corpus"] for score in figures["corpora"]] == ["nemo", "tess", "ravdess"]
    assert [score["labels"] for score in figures["corpora"]] == [6, 7, 7]
    assert figures["ordinary"]["recordings"] == figures["ordinary"]["people"] == 8


def test_adaptation_is_measured_where_enough_is_left(corpora: Corpora) -> None:
    found = {one.fold: one.recalls for one in read_adapted(corpora.run)}
    assert set(found) == {"nemo", "ravdess", "tess"}
    for recalls in found.values():
        assert list(recalls) == [2, 5]
        assert all(0 <= recall <= 1 for each in recalls.values() for recall in each)


def test_a_corpus_can_be_trained_on_alone(corpora: Corpora, tmp_path: Path) -> None:
    options = (*OPTIONS, "--train-only", "ravdess", "--fold", "nemo", "--finetune-voice", 0)
    done("crossval", *corpora.data, *options, "--out", tmp_path / "some")
    (part,) = read_run(tmp_path / "some")[1]
    assert part.fold == "nemo"
    result = call("crossval", *corpora.data, *OPTIONS, "--fold", "savee", "--out", tmp_path / "no")
    assert result.exit_code == 1 and "no fold savee" in result.output
    other = ("--train-only", "emovo", "--out", tmp_path / "none")
    result = call("crossval", *corpora.data, *OPTIONS, *other)
    assert result.exit_code == 1 and "no recordings of emovo" in result.output


@pytest.mark.parametrize("text", ["0", "5 x", "-1"])
def test_recordings_to_adapt_to_are_whole_numbers(
    corpora: Corpora, tmp_path: Path, text: str
) -> None:
    result = call(
        *("crossval", *corpora.data, "--protocol", "corpus"),
        *("--adapt-recordings", text, "--out", tmp_path),
    )
    assert result.exit_code == 2 and "--adapt-recordings" in result.output


@pytest.mark.parametrize("classes", [8, 7, 4])
def test_people_are_left_out_with_any_set_of_labels(
    corpora: Corpora, tmp_path: Path, classes: int
) -> None:
    index = corpora.one("ravdess", tmp_path)
    if classes == 4:
        index.write_text(index.read_text().replace(",ravdess,", ",urdu,"))
    data = (index, *corpora.data[1:], "--modality", "voice", "--classes", classes)
    done("crossval", *data, "--fold", "ravdess-01", "--protocol", "loso", "--out", tmp_path / "run")
    (part,) = read_run(tmp_path / "run")[1]
    assert part.labels == {8: EMOTIONS, 7: SEVEN_EMOTIONS, 4: FOUR_EMOTIONS}[classes]


def test_the_voices_of_all_corpora_train_one_arm(corpora: Corpora, tmp_path: Path) -> None:
    done("audio", *corpora.data, "--out", tmp_path, "--finetune-voice", 0)
    weights = load_file(tmp_path / "audio.safetensors")
    assert weights["arm.classifier.weight"].shape == (7, 384)
    assert np.isfinite(weights["arm.standardise.mean"].numpy()).all()
    assert weights["arm.standardise.mean"].abs().max() > 0


def test_a_backbone_is_tuned_without_a_fold_and_takes_the_published_ones_place(
    corpora: Corpora, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    options = ("--device", "cpu", "--trainings", 2, "--without", "corpus:nemo", "--out", out)
    printed = done("voices", *corpora.data, *options)
    entries = read_index(corpora.index)
    talk = sum(part.fold == "nemo" and path_is_talk for part, path_is_talk in _talk(corpora))
    nemo = sum(entry.dataset == "nemo" for entry in entries)
    kept = len(entries) - nemo - talk
    assert f"{kept} of {len(entries)} recordings to train on" in printed
    weights = load_file(out / "whisper_tiny_en_encoder.safetensors")
    assert all(bool(value.isfinite().all()) for value in weights.values())
    data = (corpora.one("nemo", tmp_path), "--weights", out, "--cache", corpora.root / "cache")
    assert "voices: 36 views to go" in done("features", *data, "--modality", "voice")
    assert "to go" not in done("features", *data, "--modality", "voice")


def _talk(corpora: Corpora) -> list[tuple[Predictions, bool]]:
    return [
        (part, name == "ordinary") for part in read_run(corpora.run)[1] for name in part.datasets
    ]


@pytest.mark.parametrize(
    ("fold", "message"),
    [("nemo", "not a fold"), ("corpus:savee", "no fold savee"), ("paper:1", "not a fold")],
)
def test_a_fold_that_there_is_not_is_refused_before_anything_is_trained(
    corpora: Corpora, tmp_path: Path, fold: str, message: str
) -> None:
    result = call("voices", *corpora.data, "--without", fold, "--out", tmp_path / "no")
    assert result.exit_code == 1 and message in result.output
    assert not (tmp_path / "no").exists()
