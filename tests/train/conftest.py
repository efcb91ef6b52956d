"""Synthetic datasets that several modules train on, written once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mfer_edge.cli.main import main
from tests.train.synthetic import (
    fer_tree,
    published_trees,
    published_weights,
    small_presets,
    spoken_tree,
)


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


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    root = tmp_path_factory.mktemp("datasets")
    data = Datasets(root)
    published_weights(data.weights)
    spoken = spoken_tree(root / "spoken")
    fer_tree(root / "FER2013" / "train", each=20, seed=1)
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
