"""`mfer-edge doctor`."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path

import cv2
import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.doctor import EXTRAS
from mfer_edge.samples import ANGER
from tests.support.commands import python, run


def rows(printed: str) -> dict[str, str]:
    """The lines by what they are about."""
    return {line[4:27].strip(): line for line in printed.splitlines()}


class TestDoctor:
    def test_lists_packages_devices_and_the_bundle(self) -> None:
        result = run("doctor")
        assert result.exit_code == 0
        lines = rows(result.stdout)
        needed = ("python", "numpy", "opencv", "av", "click", "onnxruntime", "device cpu", "bundle")
        for name in (*needed, "engines", "clip", "analysis", "pictures"):
            assert lines[name].startswith("ok ")
        assert lines["engines"].split()[2] == "8"
        assert "21 frames and 4.1 s" in lines["clip"] and "angry" in lines["analysis"]
        assert "compact" in lines["bundle"] and "files intact" in lines["bundle"]
        assert f"{ANGER}: angry, from face and voice" in lines["analysis"]
        for name in ("device cuda", "device tensorrt", "extra export", "extra train", "extra serve",
                     "extra batch", "extra ray"):  # fmt: skip
            assert lines[name][:3] in ("ok ", "no ")

    def test_incomplete_bundle(self, tmp_path: Path) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        (folder / "vad.onnx").unlink()
        result = run("doctor", "--bundle", folder)
        assert result.exit_code == 1
        [line] = [line for line in result.stdout.splitlines() if line.startswith("no  bundle")]
        assert rows(result.stdout)["analysis"].startswith("no ")
        assert line.rpartition(f"{folder / 'vad.onnx'}: ")[2].startswith("missing")

    @pytest.mark.parametrize("extra", EXTRAS)
    def test_the_packages_of_an_extra_are_those_declared(self, extra: str) -> None:
        declared = {
            re.split(r"[\[>=<]", line)[0]
            for line in importlib.metadata.requires("mfer-edge") or []
            if line.endswith(f'extra == "{extra}"') and not line.startswith("mfer-edge")
        }
        assert set(EXTRAS[extra]) == declared

    def test_an_extra_that_is_half_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """PyTorch and ONNX are there, what else training needs is not."""
        monkeypatch.setitem(EXTRAS, "train", ("numpy", "not-there", "nor-this"))
        lines = run("doctor").stdout.splitlines()
        [line] = [line for line in lines if line.startswith("no  extra train")]
        assert "not-there, nor-this are not installed: install mfer-edge's extra train: pip" in line

    def test_without_onnx_runtime(self) -> None:
        done = python(
            "import sys; sys.modules['onnxruntime'] = None\n"
            "from mfer_edge.cli.main import main; main(['doctor'])"
        )
        assert done.returncode == 1 and done.stderr == ""
        lines = rows(done.stdout)
        assert "extra cpu: pip install" in lines["onnxruntime"]
        for name in ("onnxruntime", "device cpu", "engines", "analysis"):
            assert lines[name].startswith("no ")
        for name in ("numpy", "opencv", "bundle", "clip", "pictures"):  # the rest is tried
            assert lines[name].startswith("ok ")

    def test_opencv_of_any_package_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """JetPack's OpenCV, and opencv-python, are no package opencv-python-headless."""
        version = importlib.metadata.version

        def without(name: str) -> str:
            if "opencv" in name:
                raise importlib.metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(importlib.metadata, "version", without)
        assert rows(run("doctor").stdout)["opencv"].split()[:3] == ["ok", "opencv", cv2.__version__]

    @pytest.mark.parametrize(
        ("fault", "row", "fact"),
        [
            ("import av; del av.open", "clip", "AttributeError: "),
            ("import cv2; cv2.imwrite = lambda *_: False", "pictures", "can't write"),
            ("sys.modules['av'] = None", "av", "not installed: install mfer-edge's extra cpu"),
            ("sys.path.insert(0, sys.argv.pop())", "cv2", "ImportError: libGL.so.1: no such file"),
        ],
        ids=["PyAV moved on", "no encoder", "no PyAV", "broken OpenCV"],
    )
    def test_a_fault_is_one_row(self, tmp_path: Path, fault: str, row: str, fact: str) -> None:
        (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: no such file')")
        code = f"import sys; {fault}; from mfer_edge.cli.main import main; main(['doctor'])"
        done = python(code, tmp_path)
        assert done.returncode == 1 and done.stderr == ""
        line = rows(done.stdout)["opencv" if row == "cv2" else row]
        assert line.startswith("no ") and fact in line
        assert rows(done.stdout)["python"].startswith("ok ")
