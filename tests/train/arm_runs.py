"""Trained arms, shared by the tests of training and fusion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.train.cli_runs import Datasets
from tests.train.synthetic import small_presets
from train.data.context import DataContext
from train.data.index import Entry, read_index
from train.presets import PRESETS
from train.run import RunContext
from train.train_arms import train_audio_arm, train_visual_arm


@pytest.fixture(scope="session")
def filmed(datasets: Datasets) -> list[Entry]:
    """Films of RAVDESS and sound alone by some of the actors, one of whom is in no film."""
    entries = [e for e in read_index(datasets.filmed) if e.dataset == "ravdess"]
    return [
        replace(e, kind="audio") if number % 5 == 0 or e.actor.endswith("22") else e
        for number, e in enumerate(entries)
    ]


@pytest.fixture(scope="session")
def paper(datasets: Datasets) -> DataContext:
    with small_presets():
        return DataContext(PRESETS["paper"], datasets.weights, datasets.cache)


@pytest.fixture(scope="session")
def unchosen(paper: DataContext, datasets: Datasets) -> DataContext:
    """The same backbones, fused by two weights as in `compact`."""
    preset = replace(paper.preset, combined=None, fusion="pool")
    return DataContext(preset, datasets.weights, datasets.cache)


def learned_from(run: Path, arm: str) -> set[str]:
    with safe_open(run / f"{arm}.safetensors", "pt") as file:
        return set(json.loads(file.metadata()["actors"]))


def context(
    data: DataContext, entries: Sequence[Entry], out: Path = Path(), seed: int = 0
) -> RunContext:
    return RunContext(data, entries, out, seed, save_state=False)


def trained(
    data: DataContext, entries: list[Entry], out: Path, *, everything: bool = False
) -> Path:
    run = context(data, entries, out)
    train_visual_arm(run, everything=everything)
    train_audio_arm(run, everything=everything, fine_tuned=0)
    return out


@pytest.fixture(scope="session")
def arms(paper: DataContext, filmed: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    with small_presets():
        return trained(paper, filmed, tmp_path_factory.mktemp("arms"))


@pytest.fixture
def run(arms: Path, tmp_path: Path) -> Path:
    return shutil.copytree(arms, tmp_path / "run")


@pytest.fixture(scope="session")
def compact(
    datasets: Datasets, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DataContext, list[Entry], Path]:
    """Arms of `compact`, of which the visual one is trained on images."""
    entries = read_index(datasets.spoken)
    with small_presets():
        data = DataContext(PRESETS["compact"], datasets.weights, datasets.cache)
        return data, entries, trained(data, entries, tmp_path_factory.mktemp("compact"))


Compact = tuple[DataContext, list[Entry], Path]
