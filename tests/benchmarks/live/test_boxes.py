"""Boxes of tracked faces beside those of searches."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.live import boxes
from mfer_edge.errors import MediaError
from mfer_edge.samples import CLIPS


def test_boxes_of_a_real_clip_are_those_of_a_search() -> None:
    result = boxes.measure([CLIPS[0]])
    [row, total] = result.rows
    assert (row.clips, total.clips) == ("anger.mp4", "all")
    assert total.frames == row.frames == 21
    assert row.faces == row.found == row.frames
    assert row.same >= 0.99 * row.faces
    assert row.superfluous == 0
    assert row.searched < row.frames / 4
    assert "| anger.mp4 | 21 |" in boxes.markdown(result)


def test_a_folder_without_clips_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no \.mp4"):
        boxes.measure([tmp_path])
