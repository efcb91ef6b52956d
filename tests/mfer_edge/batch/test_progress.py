"""The line that says how far a batch is, and its summary."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mfer_edge.batch.inputs import BatchInput
from mfer_edge.batch.progress import BatchProgress, duration_text, progress_line, summary
from mfer_edge.batch.records import Failure
from mfer_edge.batch.run import Counts
from tests.mfer_edge.batch.conftest import Batch, Words


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_line_counts_only_what_was_done_now() -> None:
    """Clips known from an earlier run took no time, so they say nothing on the rate."""
    counts = Counts(total=1000, analysed=40, known=500, copies=10, failed=3, media_s=300)
    line = progress_line(counts, 20.0)
    assert line == "550/1000 clips  2.00 a second  15.0 x real time  3:45 left  3 failed"
    assert progress_line(Counts(total=5), 0.0) == "0/5 clips"


def test_failures_have_lines_of_their_own() -> None:
    stream = io.StringIO()
    progress = BatchProgress(stream, show=True)
    progress.progress(Counts(total=2))
    progress.failed(BatchInput(Path("a.mp4")), Failure("MediaError", "empty", False))
    progress.progress(Counts(total=2, analysed=2))
    progress.close()
    shown = [part.split("\r\x1b[K")[-1] for part in stream.getvalue().split("\n")]
    assert shown == ["error: a.mp4: empty", ""]
    assert "2/2 clips" in stream.getvalue()


def test_a_pipe_gets_failures_only() -> None:
    stream = io.StringIO()
    progress = BatchProgress(stream, show=False)
    progress.progress(Counts(total=2))
    progress.failed(BatchInput(Path("a.mp4")), Failure("MediaError", "empty", False))
    progress.note("a worker was lost")
    progress.close()
    assert stream.getvalue() == "error: a.mp4: empty\na worker was lost\n"


def test_the_summary(batch: Batch, words: Words, tmp_path: Path) -> None:
    given = [BatchInput(words("a.wav", 1.0)), BatchInput(tmp_path / "nowhere.wav")]
    batch.run(given)
    run = batch.run(given)
    first, second = summary(run, 65.0).splitlines()
    assert first == "2 clips in 1:05, 1 new, 1 known from earlier, 1 failed"
    assert second.startswith(f"1 window: {batch.folder}/windows.csv")
    assert len(second.split()) == 2 + 3
