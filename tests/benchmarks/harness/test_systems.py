"""Who is compared, on real clips and the shipped bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from av.video.frame import VideoFrame

from benchmarks.harness.systems import (
    decode,
    decode_as_we_do,
    decode_by_opencv,
    frames,
    read_with_bundle,
    systems_of,
)
from mfer_edge.bundle import COMPACT, Bundle
from mfer_edge.errors import MferError
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from mfer_edge.stopwatch import STAGES
from tests.support.clips import sine, write_clip
from tests.support.paths import ROOT

FEAR = ROOT / "samples" / "fear.mp4"


def test_a_bundle_reads_a_clip_with_its_stages() -> None:
    told = read_with_bundle("", "0", str(FEAR))()
    assert list(told.stages_s) == list(STAGES)
    assert told.stages_s["detect"] > 0
    (scores,) = told.scores
    assert scores is not None
    assert list(scores) == list(Bundle.open().manifest.labels)


def test_skipping_still_faces_changes_the_scores() -> None:
    (exact,), (skipping,) = (
        read_with_bundle("", levels, str(FEAR))().scores for levels in ("0.0", "255.0")
    )
    assert exact is not None and skipping is not None
    assert exact != skipping


def test_every_frame_and_all_the_sound_are_decoded() -> None:
    capture = cv2.VideoCapture(str(FEAR))
    pictures = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    decoded = list(frames(str(FEAR)))
    sounds = [frame for frame in decoded if not isinstance(frame, VideoFrame)]
    assert len(decoded) - len(sounds) == pictures > 80
    heard_s = sum(frame.samples / frame.sample_rate for frame in sounds)
    assert heard_s == pytest.approx(len(read_audio(FEAR)) / SAMPLE_RATE, abs=0.05)


def test_decoding_takes_clips_without_a_track_and_odd_names(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "10:30.mp4", 0.4)
    heard = write_clip(tmp_path / "heard.m4a", 0.4, audio=sine(0.4))
    assert {type(frame) for frame in frames(str(silent))} == {VideoFrame}
    assert VideoFrame not in {type(frame) for frame in frames(str(heard))}
    for opener in (decode, decode_as_we_do, decode_by_opencv):
        opener(str(FEAR), str(silent), str(heard))()


def test_each_named_bundle_also_skips_where_asked(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(COMPACT, tmp_path / "mine"))
    shipped, exact, skipping = systems_of([folder], 5.0)
    assert exact.name == f"{shipped.name} (mine)"
    assert skipping.name == f"{exact.name}, skip-still 5"
    assert [s.approximate for s in (shipped, exact, skipping)] == [False, False, True]
    assert skipping.work(["a.mp4"]).arguments == (str(folder), "5.0", "a.mp4")
    assert [s.name for s in systems_of([folder], 0.0)] == [shipped.name, exact.name]


def test_bundles_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    folders = [shutil.copytree(COMPACT, tmp_path / parent / "mine") for parent in "ab"]
    with pytest.raises(MferError, match=r"compact int8.* \(mine\): 2 bundles of that name"):
        systems_of(list(map(Path, folders)), 0.0)


def test_ours_runs_without_pytorch() -> None:
    code = (
        "import sys, benchmarks.cpu.compare, benchmarks.cpu.peers as peers\n"
        "import benchmarks.harness.systems as systems\n"
        f"clip = {str(FEAR)!r}\n"
        "systems.read_with_bundle('', '0', clip)()\n"
        "peers.our_vad(clip)()\n"
        "print('torch' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.strip() == "False", ran.stderr
