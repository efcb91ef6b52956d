"""Every second crop mirrored beside both views of every crop."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.live import views
from mfer_edge.errors import MediaError, MferError
from mfer_edge.samples import CLIPS
from tests.support.clips import write_clip


def test_videos_read_alike() -> None:
    result = views.measure(CLIPS)
    assert [row.clips for row in result.rows] == ["anger.mp4", "fear.mp4", "all"]
    total = result.rows[-1]
    assert total.windows == total.same_label == sum(row.windows for row in result.rows[:-1]) > 1
    assert 0 < total.visual_mean <= total.visual_largest < 0.05
    assert total.fused_largest < 0.05
    assert "| anger.mp4 | 1 | 1 |" in views.markdown(result)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no \.mp4"):
        views.measure([tmp_path])
    write_clip(tmp_path / "numbers.mp4")
    with pytest.raises(MferError, match="no face in these clips"):
        views.measure([tmp_path])
