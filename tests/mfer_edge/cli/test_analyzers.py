"""The first clip is decoded while the engines load, which changes nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfer_edge.cli.analyzers import Isolation, Request, WindowRequest, analyzer
from mfer_edge.errors import BundleError, MediaError
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources import clip as clip_module
from tests.support.threads import started


def request_of(bundle: Path | None = None) -> Request:
    windows = WindowRequest(None, None, "main", 0.0)
    return Request(bundle, "cpu", 1, None, windows, Isolation())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that were opened, in turn."""
    names: list[str] = []
    open_container = clip_module.open_container

    def recorded(path: Path | str) -> object:
        names.append(Path(path).name)
        return open_container(path)

    monkeypatch.setattr(clip_module, "open_container", recorded)
    return names


def test_the_first_clip_is_opened_once(moment: Path, pipeline: Pipeline, opened: list[str]) -> None:
    running = started()
    with analyzer(request_of(), moment) as analyze:
        first, again = analyze(moment, None), analyze(moment, None)
    assert opened == [moment.name] * 2
    expected = pipeline.analyze(moment)
    for made in (first, again):
        assert made.overall == expected.overall
        assert made.windows == expected.windows
        assert (made.source, made.warnings) == (expected.source, expected.warnings)
        assert made.timing.stages_s["decode"] > 0
    assert running() == []


def test_a_first_clip_that_is_no_clip_costs_itself(moment: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip")
    with analyzer(request_of(), broken) as analyze:
        with pytest.raises(MediaError, match=r"broken\.mp4"):
            analyze(broken, None)
        assert analyze(moment, None).overall is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", ["pipe", "missing"])
def test_what_is_no_file_is_left_until_its_turn(
    name: str, tmp_path: Path, opened: list[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with analyzer(request_of(), tmp_path / name):
        assert opened == []


def test_a_clip_that_was_begun_is_closed_if_the_model_does_not_open(
    moment: Path, tmp_path: Path, opened: list[str]
) -> None:
    running = started()
    with pytest.raises(BundleError, match="no manifest"), analyzer(request_of(tmp_path), moment):
        pass
    assert opened == []
    with pytest.raises(KeyboardInterrupt), analyzer(request_of(), moment):
        raise KeyboardInterrupt
    assert opened == [moment.name]
    assert running() == []
