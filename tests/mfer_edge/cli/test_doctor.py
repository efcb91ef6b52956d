"""`mfer-edge doctor`."""

from __future__ import annotations

import shutil
from pathlib import Path

from mfer_edge.bundle import Bundle
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

    def test_without_onnx_runtime(self) -> None:
        done = python(
            "import sys; sys.modules['onnxruntime'] = None\n"
            "from mfer_edge.cli.main import main; main(['doctor'])"
        )
        assert done.returncode == 1 and done.stderr == ""
        assert "pip install 'mfer-edge[cpu]'" in done.stdout
