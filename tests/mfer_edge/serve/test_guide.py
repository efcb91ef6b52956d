"""docs/serve.md, followed against a server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mfer_edge.pipeline import Pipeline
from tests.support.commands import scores_of
from tests.support.documents import blocks
from tests.support.paths import ROOT
from tests.support.serving import Served

GUIDE = ROOT / "docs" / "serve.md"
ADDRESS = "127.0.0.1:8040"


def block(language: str, word: str) -> str:
    """The block of the guide in a language that holds a word."""
    [found] = [b.text for b in blocks(GUIDE) if b.language == language and word in b.text]
    return found


@pytest.fixture
def folder(tmp_path: Path, anger: Path) -> Path:
    """Where the guide is followed."""
    (tmp_path / "clip.mp4").symlink_to(anger)
    return tmp_path


def test_curl(served: Served, once: Pipeline, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    line = block("sh", "curl").replace(ADDRESS, f"127.0.0.1:{served.port}")
    answer = subprocess.run(line.split(), cwd=folder, capture_output=True, check=True)
    expected = once.analyze(folder / "clip.mp4").to_dict()
    assert scores_of(json.loads(answer.stdout)) == scores_of(expected)


def test_the_client_in_python(served: Served, once: Pipeline, folder: Path) -> None:
    code = block("python", "connect(").replace(ADDRESS, f"127.0.0.1:{served.port}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert answer.stderr == ""
    assert answer.stdout.splitlines() == [
        f"{reading.start_s} {round(reading.end_s, 3)} {reading.label} {list(reading.modalities)}"
        for reading in once.analyze(folder / "clip.mp4").windows
    ]
