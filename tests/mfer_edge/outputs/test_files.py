"""Errors of output files that can't be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfer_edge.errors import OutputError
from mfer_edge.outputs.overlay import write_overlay
from mfer_edge.outputs.timeline import (
    write_timeline,
)
from tests.support.analyses import analysis
from tests.support.clips import write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", 2.0, 10, (64, 48))


class TestOutput:
    """Errors of the timeline and the overlay, which are written through `replacing`."""

    @pytest.mark.parametrize("name", ["out.gif", "out", "out.mp4.txt"])
    def test_unknown_ending(self, clip: Path, tmp_path: Path, name: str) -> None:
        with pytest.raises(OutputError, match=r"should end in \.mp4"):
            write_overlay(clip, analysis([], 2.0), tmp_path / name)
        with pytest.raises(OutputError, match=r"should end in \.png or \.jpg"):
            write_timeline(analysis([], 2.0), tmp_path / name)
        assert sorted(tmp_path.iterdir()) == [clip]

    def test_missing_folder(self, clip: Path, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="there is no folder"):
            write_overlay(clip, analysis([], 2.0), tmp_path / "no" / "out.mp4")
        with pytest.raises(OutputError, match="there is no folder"):
            write_timeline(analysis([], 2.0), tmp_path / "no" / "out.png")

    def test_a_folder_of_that_name(self, tmp_path: Path) -> None:
        (tmp_path / "out.png").mkdir()
        with pytest.raises(OutputError, match="a folder"):
            write_timeline(analysis([], 2.0), tmp_path / "out.png")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_is_read_only(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o555)
        with pytest.raises(OutputError, match="no permission"):
            write_timeline(analysis([], 2.0), tmp_path / "out.png")

    def test_a_name_that_the_disk_does_not_take(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="could not be written"):
            write_timeline(analysis([], 2.0), tmp_path / f"{'x' * 300}.png")
        assert not list(tmp_path.iterdir())
