"""Complete runs of `mfer-edge train`, shared by the tests of its commands."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from mfer_edge.cli.main import main
from tests.support.paths import ROOT
from tests.train.synthetic import small_presets
from train.models.emotion_model import EmotionModel, load_model


@dataclass(frozen=True)
class Datasets:
    """Synthetic datasets, their indices, published weights, and the cache of all runs."""

    root: Path

    @property
    def spoken(self) -> Path:
        """The index of audio in RAVDESS's layout and of images in FER-2013's."""
        return self.root / "spoken.csv"

    @property
    def filmed(self) -> Path:
        """The index of a few files in each of the layouts that the paper trains on."""
        return self.root / "filmed.csv"

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def cache(self) -> Path:
        return self.root / "cache"


def call(*arguments: object) -> Result:
    """Run `mfer-edge train ...`; uncaught exceptions are raised."""
    words = ["train", *map(str, arguments)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


CROSSVAL_OPTIONS = ("--svm", "--finetune-voice", 0)
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
    """All commands with one preset, in the order of use."""

    def __init__(self, preset: str, datasets: Datasets, folder: Path) -> None:
        self.preset, self.datasets, self.folder = preset, datasets, folder
        self.index: Path = getattr(datasets, INDEX[preset])
        self.one_by_one, self.at_once = folder / "one-by-one", folder / "at-once"
        self.crossval, self.final = folder / "crossval", folder / "final"
        self.printed: dict[str, str] = {}
        self.run("features")
        for stage in ("visual", "audio", "fusion"):
            self.run(stage, "--out", self.one_by_one)
        self.run("all", "--out", self.at_once)
        self.run("crossval", "--out", self.crossval, *CROSSVAL_OPTIONS)
        self.run("all", "--out", self.final, "--crossval", self.crossval, name="final")

    def options(self, *more: object) -> list[object]:
        datasets = self.datasets
        return [
            self.index, "--preset", self.preset, "--weights", datasets.weights,
            "--cache", datasets.cache,
            *more,
        ]  # fmt: skip

    def run(self, command: str, *more: object, name: str = "") -> None:
        self.printed[name or command] = done(command, *self.options(*more))


@pytest.fixture(scope="session", params=["compact", "paper"])
def runs(
    request: pytest.FixtureRequest, datasets: Datasets, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    with small_presets():
        return Runs(request.param, datasets, tmp_path_factory.mktemp(request.param))


with_paper = pytest.mark.parametrize("runs", ["paper"], indirect=True)


def model(run: Path) -> EmotionModel:
    return load_model(run / "model.safetensors")


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
