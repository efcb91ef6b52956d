"""The agreement of two precisions of a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.cpu import precision
from benchmarks.cpu.precision import Row, Scored, balanced
from mfer_edge.bundle import COMPACT
from mfer_edge.errors import MferError
from mfer_edge.samples import CLIPS
from tests.train.synthetic import entry, face_image
from train.data.index import Entry, write_index

IMAGE = "face.png"


def scored(reference: list[float], given: list[float]) -> Scored:
    return Scored("a", np.array(reference), np.array(given))


def test_labels_and_differences_are_counted() -> None:
    row = Row.of("a", [scored([0.6, 0.4], [0.55, 0.45]), scored([0.52, 0.48], [0.48, 0.52])])
    assert (row.count, row.same) == (2, 1)
    assert row.mean_difference == pytest.approx(0.045)
    assert row.largest_difference == pytest.approx(0.05)
    assert row.cells() == ("a", "2", "1 (50.0%)", "0.0450", "0.0500")


def test_datasets_are_drawn_alike_and_always_the_same() -> None:
    one = entry(CLIPS[0], "audio", "sad")
    many = [
        replace(one, path=Path(f"{name}{n}.wav"), dataset=name, content=f"{n:064d}")
        for name, count in (("nemo", 9), ("ravdess", 5), ("tess", 1))
        for n in range(count)
    ]
    chosen = balanced(many, 6)
    assert [one.path.stem for one in chosen] == ["nemo0", "nemo1", "ravdess0", "ravdess1", "tess0"]
    assert balanced(many[::-1], 6) == chosen


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Of a sample's sound, and of one test image."""
    cv2.imwrite(str(tmp_path / IMAGE), face_image(3, np.random.default_rng(0)))
    listed: list[Entry] = [entry(clip, "audio", "angry", dataset="own") for clip in CLIPS[:1]]
    image = entry(tmp_path / IMAGE, "image", "happy", dataset="fer2013", split="test")
    write_index([*listed, image], tmp_path / "index.csv")
    return tmp_path / "index.csv"


def test_a_bundle_agrees_with_itself(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precision.main([str(index), "--reference", str(COMPACT), "--json", str(tmp_path / "a.json")])
    assert "| all recordings | 1 | 1 (100.0%) | 0.0000 | 0.0000 |" in capsys.readouterr().out
    result = json.loads((tmp_path / "a.json").read_text())
    assert result["faces"] == {
        "group": "faces", "count": 1, "same": 1, "mean_difference": 0.0, "largest_difference": 0.0
    }  # fmt: skip
    assert result["windows"]["count"] >= 1 and result["empty"] == 0


def test_a_folder_without_clips_is_a_clear_error(index: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    folder = str(tmp_path / "empty")
    with pytest.raises(MferError, match="empty: no mp4 files"):
        precision.main([str(index), "--reference", str(COMPACT), "--clips", folder])
