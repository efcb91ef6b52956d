"""Compared systems, on real clips and the shipped bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.systems import analyze_with_bundle, open_systems
from mfer_edge.bundle import COMPACT, Bundle
from mfer_edge.errors import MferError
from mfer_edge.samples import FEAR
from mfer_edge.stopwatch import STAGES
from tests.support.paths import ROOT


def test_a_bundle_analyses_a_clip_with_its_stages() -> None:
    result = analyze_with_bundle("", "0", str(FEAR))()
    assert list(result.stages_s) == list(STAGES)
    assert result.stages_s["detect"] > 0
    (scores,) = result.scores
    assert scores is not None
    assert list(scores) == list(Bundle.open().manifest.labels)


def test_skipping_still_faces_changes_the_scores() -> None:
    (exact,), (skipping,) = (
        analyze_with_bundle("", levels, str(FEAR))().scores for levels in ("0.0", "255.0")
    )
    assert exact is not None and skipping is not None
    assert exact != skipping


def test_each_named_bundle_also_skips_still_faces_where_asked(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(COMPACT, tmp_path / "mine"))
    shipped, exact, skipping = open_systems([folder], 5.0)
    assert exact.name == f"{shipped.name} (mine)"
    assert skipping.name == f"{exact.name}, skip-still 5"
    assert [s.approximate for s in (shipped, exact, skipping)] == [False, False, True]
    assert skipping.job(["a.mp4"]).arguments == (str(folder), "5.0", "a.mp4")
    assert [s.name for s in open_systems([folder], 0.0)] == [shipped.name, exact.name]


def test_bundles_of_the_same_name_are_refused(tmp_path: Path) -> None:
    folders = [shutil.copytree(COMPACT, tmp_path / parent / "mine") for parent in "ab"]
    with pytest.raises(MferError, match=r"compact int8.* \(mine\): 2 bundles of that name"):
        open_systems(list(map(Path, folders)), 0.0)


def test_mfer_edge_is_measured_without_pytorch() -> None:
    code = (
        "import sys, benchmarks.cpu.compare, benchmarks.cpu.peers\n"
        "import benchmarks.cpu.peer_jobs as peers\n"
        "import benchmarks.harness.systems as systems\n"
        f"clip = {str(FEAR)!r}\n"
        "systems.analyze_with_bundle('', '0', clip)()\n"
        "peers.mfer_edge_vad(clip)()\n"
        "print('torch' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.strip() == "False", ran.stderr
