"""Recordings: lines that are whole at any moment, and the analyses made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mfer_edge.errors import MediaError, OutputError
from mfer_edge.live.events import Gap, LiveReading, Notice
from mfer_edge.live.recording import RecordingWriter, read_recording
from mfer_edge.live.session import LiveSession
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis


def record(path: Path, pipeline: Pipeline, analysis: Analysis, end: bool = True) -> None:
    """Write an analysis as if it had been live."""
    options = pipeline.options()
    with RecordingWriter(path) as recording:
        for reading in analysis.windows:
            recording.start(analysis.source, pipeline, options)
            recording.event(LiveReading(reading, 0.01, 0.02))
        recording.event(Gap(1.0, None, "unplugged"))
        recording.event(Gap(1.0, 2.5, "unplugged"))
        recording.event(Notice(2.5, "late"))
        if end:
            stats = LiveSession(pipeline).stats()
            recording.end(stats, analysis.tracks, ["it rattles"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def test_an_analysis_comes_back(path: Path, pipeline: Pipeline, anger_analysis: Analysis) -> None:
    record(path, pipeline, anger_analysis)
    [made] = read_recording(path)
    expected, found = anger_analysis.to_dict(), made.to_dict()
    for key in ("schema", "source", "bundle", "overall", "windows", "tracks", "providers"):
        assert found[key] == expected[key], key
    assert found["warnings"] == ["nothing from 1.0 to 2.5 s: unplugged", "it rattles"]


def test_a_file_is_continued(path: Path, pipeline: Pipeline, anger_analysis: Analysis) -> None:
    for _ in range(3):
        record(path, pipeline, anger_analysis)
    assert [len(made.windows) for made in read_recording(path)] == [1, 1, 1]


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.95, 1.0])
def test_a_run_that_was_killed(
    path: Path, pipeline: Pipeline, anger_analysis: Analysis, kept: float
) -> None:
    """Within a line or between two; the run after it is whole."""
    record(path, pipeline, anger_analysis)
    whole = path.read_bytes()
    record(path, pipeline, anger_analysis, end=False)
    more = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + more[: int(kept * len(more))])
    record(path, pipeline, anger_analysis)
    runs = read_recording(path)
    assert runs[0].windows == runs[-1].windows and runs[0].warnings == runs[-1].warnings
    if len(runs) == 3:
        assert "was not ended" in runs[1].warnings[-1]
    assert len(runs) == (2 if kept == 0.05 else 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[1]",
        "{}",
        '{"type": "reading"}',
        '{"type": "start", "schema": 99}',
        '{"type": "start", "schema": 1}\n{"type": "reading", "start_s": 1}',
        "\x00\x01",
    ],
)
def test_a_file_that_is_no_recording(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(MediaError, match="not a recording"):
        read_recording(path)


def test_the_line_that_is_damaged_is_named(path: Path) -> None:
    path.write_text('{"type": "start", "schema": 1}\nhello\n{"type": "reading"}\n')
    with pytest.raises(MediaError, match="line 2 is no JSON"):
        read_recording(path)


def test_bytes_that_are_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MediaError, match="not a recording"):
        read_recording(path)


def test_a_line_is_written_at_once(
    path: Path, pipeline: Pipeline, anger_analysis: Analysis
) -> None:
    with RecordingWriter(path) as recording:
        recording.start("here", pipeline, pipeline.options())
        recording.event(LiveReading(anger_analysis.windows[0], 0.01, 0.02))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["type"] for line in lines] == ["start", "reading"]
    assert lines[1]["lag_s"] == 0.02


def test_nothing_is_left_of_a_run_that_never_began(path: Path) -> None:
    with RecordingWriter(path):
        pass
    assert not path.exists()


@pytest.mark.parametrize("content", [b"path,label\na.mp4,sad\n", b'{\n  "schema": 1}', b"\xff\xd8"])
def test_nothing_is_added_to_another_file(path: Path, content: bytes) -> None:
    """A table whose name was mistyped stays as it is."""
    path.write_bytes(content)
    with pytest.raises(OutputError, match="no recording of `mfer-edge live`"):
        RecordingWriter(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("before", [b"", b'{"type": "st', b'{"type": "st\n'])
def test_an_empty_or_cut_off_file_is_continued(
    path: Path, before: bytes, pipeline: Pipeline, anger_analysis: Analysis
) -> None:
    path.write_bytes(before)
    for _ in range(2):
        record(path, pipeline, anger_analysis)
    assert len(read_recording(path)) == 2


def test_few_faces_are_told_as_by_infer(
    path: Path, pipeline: Pipeline, anger_analysis: Analysis
) -> None:
    few = replace(anger_analysis, windows=(replace(anger_analysis.windows[0], faces=2),))
    record(path, pipeline, few, end=False)
    assert read_recording(path)[0].warnings[-1] == "a face was found in 10% of the frames only"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        RecordingWriter(tmp_path / "nowhere" / "run.jsonl")
