"""The emulated aarch64, as far as it goes without an emulator."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.cpu import arm64
from mfer_edge.errors import MferError
from mfer_edge.samples import FEAR

MACHINE = "import platform; platform.machine = lambda: 'aarch64'\n"


def test_this_machine_is_not_taken_for_the_emulated_one() -> None:
    with pytest.raises(MferError, match="the emulated machine is "):
        arm64.compare(FEAR, [sys.executable])


def test_equal_results(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(arm64, "ANALYSE", MACHINE + arm64.ANALYSE)
    assert arm64.compare(FEAR, [sys.executable]) == []
    assert (
        "fear.mp4: fearful here, fearful on aarch64, scores within 0.0000"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("found.overall.label", "'sad'"),
        ("dict(found.overall.scores)", "{k: v + .02 for k, v in found.overall.scores.items()}"),
    ],
)
def test_a_difference_is_found(change: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert change in arm64.ANALYSE
    monkeypatch.setattr(arm64, "ANALYSE", MACHINE + arm64.ANALYSE.replace(change, said))
    (fault,) = arm64.compare(FEAR, [sys.executable])
    assert "sad instead of fearful" in fault or "differs by 0.02" in fault


def test_where_there_is_no_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("apt-get") is None
    with pytest.raises(MferError, match="needs a Debian"):
        arm64.prepare(tmp_path / "arm64")
