"""Modules of the user named `train` or `export`, and extras that are not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = [sys.executable, "-m", "mfer_edge"]
SCRIPT = [str(Path(sys.executable).with_name("mfer-edge"))]
RAISES = "raise RuntimeError('the module of the user was imported')\n"


def call(
    command: list[str], *arguments: str, folder: Path, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with another one on PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    return line


def make_module(folder: Path, name: str, kind: str) -> Path:
    """Make NAME.py, or a package NAME, that must not be imported."""
    if kind == "file":
        path = folder / f"{name}.py"
        path.write_text(RAISES)
    else:
        path = folder / name
        path.mkdir()
        (path / "__init__.py").write_text(RAISES)
    return path


@pytest.mark.parametrize("kind", ["file", "package"])
class TestModuleOfTheUser:
    @pytest.mark.parametrize("name", ["train", "export"])
    def test_is_named_with_the_way_out(self, tmp_path: Path, name: str, kind: str) -> None:
        path = make_module(tmp_path, name, kind)
        line = error_line(call(MODULE, name, "--help", folder=tmp_path))
        assert line.startswith(f"error: {path} ")
        assert f"`mfer-edge {name}`" in line and "another folder" in line

    @pytest.mark.parametrize("name", ["train", "export"])
    def test_does_not_disturb_the_script(self, tmp_path: Path, name: str, kind: str) -> None:
        make_module(tmp_path, name, kind)
        done = call(SCRIPT, name, "--help", folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: mfer-edge {name}")

    def test_train_is_needed_for_export(self, tmp_path: Path, kind: str) -> None:
        path = make_module(tmp_path, "train", kind)
        line = error_line(call(MODULE, "export", "--help", folder=tmp_path))
        assert line.startswith(f"error: {path} ") and "`mfer-edge export`" in line

    def test_export_is_not_needed_for_train(self, tmp_path: Path, kind: str) -> None:
        make_module(tmp_path, "export", kind)
        assert call(MODULE, "train", "--help", folder=tmp_path).returncode == 0

    def test_other_commands_do_not_need_them(self, tmp_path: Path, kind: str) -> None:
        make_module(tmp_path, "train", kind)
        make_module(tmp_path, "export", kind)
        assert call(MODULE, "--help", folder=tmp_path).returncode == 0
        assert call(MODULE, "infer", "--help", folder=tmp_path).returncode == 0

    def test_on_the_python_path_is_named(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "modules").mkdir()
        path = make_module(tmp_path / "modules", "train", kind)
        line = error_line(call(SCRIPT, "train", "--help", folder=tmp_path, path=path.parent))
        assert line.startswith(f"error: {path} ") and "PYTHONPATH" in line


def test_a_folder_that_is_no_package_is_not_imported(tmp_path: Path) -> None:
    """It hides an editable install of mfer-edge, but not a regular one."""
    (tmp_path / "train").mkdir()
    done = call(MODULE, "train", "--help", folder=tmp_path)
    if done.returncode:
        assert error_line(done).startswith(f"error: {tmp_path / 'train'} ")


class TestMissingExtra:
    """Packages are missing where importing them says so."""

    @staticmethod
    def without(package: str, folder: Path) -> Path:
        path = folder / "missing"
        path.mkdir()
        code = f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')\n"
        (path / f"{package}.py").write_text(code)
        return path

    @pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
    def test_of_export(self, tmp_path: Path, command: list[str]) -> None:
        path = self.without("torch", tmp_path)
        line = error_line(call(command, "export", folder=tmp_path, path=path))
        assert "torch" in line and "mfer-edge's extra export: pip install" in line

    @pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
    def test_of_train(self, tmp_path: Path, command: list[str]) -> None:
        path = self.without("torch", tmp_path)
        (tmp_path / "index.csv").touch()
        arguments = ("train", "audio", "index.csv", "--out", "run")
        line = error_line(call(command, *arguments, folder=tmp_path, path=path))
        assert "torch" in line and "mfer-edge's extra train: pip install" in line

    def test_of_train_beside_a_module_of_the_user(self, tmp_path: Path) -> None:
        path = self.without("torch", tmp_path)
        make_module(tmp_path, "train", "file")
        (tmp_path / "index.csv").touch()
        arguments = ("train", "audio", "index.csv", "--out", "run")
        line = error_line(call(SCRIPT, *arguments, folder=tmp_path, path=path))
        assert "extra train: pip install" in line
