"""Comparison of parts with other packages."""

from __future__ import annotations

from benchmarks.cpu import peer_jobs, peers
from benchmarks.harness.rounds import JobSeries, Spread
from mfer_edge.samples import FEAR
from tests.benchmarks.cpu.synthetic import series


def test_groups_and_their_times() -> None:
    (vad,) = peers.peer_groups(str(FEAR), {}, "weights", "exported")
    assert [job.name for job in vad.jobs] == [
        "silero-vad, PyTorch",
        "silero-vad, ONNX",
        "mfer-edge",
    ]
    failed = JobSeries("silero-vad, PyTorch", [], "silero-vad can't be imported")
    first, second = peers.peer_times(vad, [failed, series("mfer-edge", 0.3)])
    assert "not run: silero-vad can't be imported" in first.cells()
    assert second.ms == Spread(10.0, 10.0, 10.0)  # of 30 s
    assert second.faster is None
    theirs, ours = peers.peer_times(vad, [series("theirs", 3.0), series("ours", 0.3)])
    assert ours.faster == Spread(10.0, 10.0, 10.0)
    assert theirs.cells()[-1] == "1.00"


def test_the_vad_finds_speech_in_the_clip() -> None:
    segments = peer_jobs.mfer_edge_vad(str(FEAR))()
    assert isinstance(segments, list)
    assert len(segments) > 5  # the clip's speech, repeated
    assert len(peer_jobs.samples(str(FEAR), 30)) == 30 * 16_000
