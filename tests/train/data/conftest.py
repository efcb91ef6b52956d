"""Recordings and preprocessing for the tests of features."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.synthetic import entry, voice, write_sound
from train.data.cache import Cache
from train.data.index import Entry
from train.data.preprocess import Preprocessor


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Preprocessor:
    """Preprocessing with a cache of its own, so that a cache of features starts empty."""
    return Preprocessor(48, 1.0, Cache(tmp_path_factory.mktemp("inputs")))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "features")


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Hums of 0.8 to 1.4 s; the last is longer than what is taken of it."""
    folder = tmp_path_factory.mktemp("voices")
    return [
        entry(write_sound(folder / f"{n}.wav", voice(0.8 + 0.2 * n, n, 100 + 30 * n)))
        for n in range(4)
    ]
