"""`mfer-edge doctor`."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path

import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.doctor import EXTRAS
from mfer_edge.samples import ANGER
from tests.support.commands import python, run


class TestDoctor:
    def test_lists_packages_devices_and_the_bundle(self) -> None:
        result = run("doctor")
        assert result.exit_code == 0
        lines = {line[4:27].strip(): line for line in result.stdout.splitlines()}
        for name in ("python", "numpy", "onnxruntime", "device cpu", "bundle", "analysis"):
            assert lines[name].startswith("ok ")
        assert "compact" in lines["bundle"] and "files intact" in lines["bundle"]
        assert f"{ANGER}: angry, from face and voice" in lines["analysis"]
        for name in ("device cuda", "device tensorrt", "extra export", "extra train"):
            assert lines[name][:3] in ("ok ", "no ")

    def test_incomplete_bundle(self, tmp_path: Path) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        (folder / "vad.onnx").unlink()
        result = run("doctor", "--bundle", folder)
        assert result.exit_code == 1
        [line] = [line for line in result.stdout.splitlines() if line.startswith("no  bundle")]
        assert "analysis" not in result.stdout
        assert line.rpartition(f"{folder / 'vad.onnx'}: ")[2].startswith("missing")

    @pytest.mark.parametrize("extra", EXTRAS)
    def test_the_packages_of_an_extra_are_those_declared(self, extra: str) -> None:
        declared = {
            re.split(r"[>=<]", line)[0]
            for line in importlib.metadata.requires("mfer-edge") or []
            if line.endswith(f'extra == "{extra}"') and not line.startswith("mfer-edge")
        }
        assert set(EXTRAS[extra]) == declared

    def test_an_extra_that_is_half_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """PyTorch and ONNX are there, what else training needs is not."""
        monkeypatch.setitem(EXTRAS, "train", ("numpy", "not-there", "nor-this"))
        lines = run("doctor").stdout.splitlines()
        [line] = [line for line in lines if line.startswith("no  extra train")]
        assert "not-there, nor-this are not installed: pip install 'mfer-edge[train]'" in line

    def test_without_onnx_runtime(self) -> None:
        done = python(
            "import sys; sys.modules['onnxruntime'] = None\n"
            "from mfer_edge.cli.main import main; main(['doctor'])"
        )
        assert done.returncode == 1 and done.stderr == ""
        assert "pip install 'mfer-edge[cpu]'" in done.stdout
