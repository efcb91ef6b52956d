"""Clips of the tests of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfer_edge.pipeline import Pipeline
from tests.support.commands import scores_of


@pytest.fixture(scope="module")
def expected(pipeline: Pipeline, moment: Path) -> dict:
    """Scores of `moment`, as in its JSON."""
    return scores_of(pipeline.analyze(moment).to_dict())


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A file that is no clip."""
    path = tmp_path / "bad.mp4"
    path.write_text("no clip at all\n" * 50)
    return path
