"""Fixtures of the tests of training: synthetic datasets and short runs on them, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.train.arm_runs import arms, compact, filmed, paper, run, unchosen
from tests.train.cli_runs import Datasets, call, runs
from tests.train.face_training import entries, small_network, unbroken
from tests.train.synthetic import (
    fer_tree,
    published_trees,
    published_weights,
    small_presets,
    spoken_tree,
)

__all__ = [
    "arms", "compact", "entries", "filmed", "paper", "run", "runs", "small_network", "unbroken",
    "unchosen",
]  # fmt: skip


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    root = tmp_path_factory.mktemp("datasets")
    data = Datasets(root)
    published_weights(data.weights)
    spoken = spoken_tree(root / "spoken")
    fer_tree(root / "FER2013" / "train", each=22, seed=1)
    fer_tree(root / "FER2013" / "valid", each=4, seed=2)
    pairs = [f"ravdess={spoken}", f"fer2013={root / 'FER2013'}"]
    for index, named in ((data.spoken, pairs), (data.filmed, published_trees(root / "filmed"))):
        result = call("index", *named, "--out", index)
        assert result.exit_code == 0, result.output
    return data


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """Small presets for the length of a module."""
    with small_presets():
        yield
