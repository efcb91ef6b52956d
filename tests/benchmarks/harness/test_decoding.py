"""Decoding alone, on real and synthetic clips."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from av.video.frame import VideoFrame

from benchmarks.harness import plain_decoding
from benchmarks.harness.decoding import decode_all, decode_opencv, decode_sampled, decoded
from mfer_edge.samples import FEAR
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import sine, write_clip


def test_every_frame_and_all_audio_are_decoded() -> None:
    capture = cv2.VideoCapture(str(FEAR))
    frame_count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = list(decoded(str(FEAR)))
    audio = [frame for frame in frames if not isinstance(frame, VideoFrame)]
    assert len(frames) - len(audio) == frame_count > 80
    audio_s = sum(frame.samples / frame.sample_rate for frame in audio)
    assert audio_s == pytest.approx(len(read_audio(FEAR)) / SAMPLE_RATE, abs=0.05)


def test_decoding_takes_clips_without_a_track_and_odd_names(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "10:30.mp4", 0.4)
    audible = write_clip(tmp_path / "audible.m4a", 0.4, audio=sine(0.4))
    assert {type(frame) for frame in decoded(str(silent))} == {VideoFrame}
    assert VideoFrame not in {type(frame) for frame in decoded(str(audible))}
    for opener in (decode_all, decode_sampled, decode_opencv):
        opener(str(FEAR), str(silent), str(audible))()


def test_the_floor_imports_pyav_alone() -> None:
    watched = [sys.executable, "-X", "importtime", plain_decoding.__file__, str(FEAR)]
    done = subprocess.run(watched, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "av" in imported
    assert not imported & {"mfer_edge", "benchmarks", "numpy", "cv2", "onnxruntime", "click"}
