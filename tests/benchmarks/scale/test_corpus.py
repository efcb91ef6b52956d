"""The corpus of the batch benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.children import command_line, descendants, proportional_bytes
from benchmarks.scale import corpus
from mfer_edge.errors import MediaError, MferError
from mfer_edge.sources.clip import Clip
from tests.support.paths import ROOT


def length_s(path: Path) -> float:
    with Clip(path) as clip:
        for _ in clip:
            pass
        return clip.duration_s


def test_lengths_broken_ones_and_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "MADE_LENGTHS", ((6.0, 1), (0.3, 1)))
    made = corpus.make_corpus([ROOT / "mfer_edge" / "samples"], tmp_path / "corpus", size=4)
    paths = sorted(made.folder.iterdir())
    assert [path.stem for path in paths] == ["0000", "0001", "broken0000", "copy0000"]
    assert (made.clips, made.broken, made.contents) == (4, 1, 3)
    assert 6 <= length_s(paths[0]) < 9
    assert 0.2 < length_s(paths[1]) < 0.7
    assert paths[1].read_bytes() == paths[3].read_bytes()
    with pytest.raises(MediaError):
        Clip(paths[2])
    before = [path.read_bytes() for path in paths]
    corpus.make_corpus([ROOT / "mfer_edge" / "samples"], tmp_path / "corpus", size=4)
    assert [path.read_bytes() for path in paths] == before


def test_too_few_clips(tmp_path: Path) -> None:
    with pytest.raises(MferError, match="the folders have 2 clips, 98 are needed"):
        corpus.make_corpus([ROOT / "mfer_edge" / "samples"], tmp_path / "corpus", size=103)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux' /proc")
def test_child_processes() -> None:
    waits = "print(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waits!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == b"1\n"  # the grandchild runs
        assert proportional_bytes(child.pid) > 1e6
        found = descendants(os.getpid())
        assert child.pid in found and len(descendants(child.pid)) == 1
        assert "input()" in command_line(descendants(child.pid)[0])
        child.communicate(b"\n")
    assert command_line(child.pid) == "" and proportional_bytes(child.pid) == 0
