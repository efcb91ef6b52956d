"""`mfer-edge infer` with clips and bundles that can't be read."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfer_edge.bundle import Bundle
from tests.support.commands import infer, one_error, passed, refused


class TestBadClips:
    def test_no_clip(self, bad: Path) -> None:
        assert refused(infer(bad), 1).startswith(f"{bad}: not a video")

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty.mp4").touch()
        assert refused(infer(tmp_path / "empty.mp4"), 1).endswith("empty.mp4: the file is empty")

    def test_folder(self, tmp_path: Path) -> None:
        line = refused(infer(tmp_path), 1)
        assert line.startswith(f"{tmp_path}: ") and "folder" in line

    def test_missing(self, tmp_path: Path) -> None:
        line = refused(infer(tmp_path / "nowhere.mp4"), 1)
        assert line.startswith(f"{tmp_path / 'nowhere.mp4'}: ")

    def test_cut_before_its_index(self, moment: Path, tmp_path: Path) -> None:
        """The usual broken mp4: the index was at the end."""
        data = moment.read_bytes()
        assert data.index(b"mdat") < data.index(b"moov")
        (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
        line = refused(infer(tmp_path / "cut.mp4"), 1)
        assert line.startswith(f"{tmp_path / 'cut.mp4'}: ") and "cut off" in line

    def test_cut_after_its_index(self, anger: Path, tmp_path: Path) -> None:
        data = anger.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
        assert "warning: the file ends after" in passed(infer(tmp_path / "cut.mp4"))

    def test_other_clips_are_still_analyzed(
        self, moment: Path, bad: Path, voice: Path, tmp_path: Path
    ) -> None:
        result = infer(moment, bad, voice, "--json", "-", "--csv", tmp_path / "out.csv")
        assert result.exit_code == 1
        assert str(bad) in one_error(result)
        made = [json.loads(line) for line in result.stdout.splitlines()]
        assert [one["source"] for one in made] == [str(moment), str(voice)]
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 3

    def test_older_outputs_are_kept_if_there_are_no_results(
        self, bad: Path, tmp_path: Path
    ) -> None:
        for name in ("old.json", "old.csv", "old.vtt"):
            (tmp_path / name).write_text("precious")
        options = ["--json", tmp_path / "old.json", "--csv", tmp_path / "old.csv"]
        refused(infer(bad, *options, "--vtt", tmp_path / "old.vtt"), 1)
        for name in ("old.json", "old.csv", "old.vtt"):
            assert (tmp_path / name).read_text() == "precious"

    def test_an_overlay_that_fails_does_not_stop_the_other_outputs(
        self, voice: Path, tmp_path: Path
    ) -> None:
        result = infer(voice, "--video", tmp_path / "v.mp4", "--json", tmp_path / "v.json")
        assert result.exit_code == 1
        line = one_error(result)
        assert line.startswith(f"{voice}: ") and "no video" in line
        assert json.loads((tmp_path / "v.json").read_text())["source"] == str(voice)
        assert not (tmp_path / "v.mp4").exists()


class TestBadBundles:
    def test_no_bundle(self, moment: Path, tmp_path: Path) -> None:
        line = refused(infer(moment, "--bundle", tmp_path), 1)
        assert line.startswith(f"{tmp_path}: ") and "manifest.json" in line

    @pytest.mark.parametrize("damage", ["flipped", "missing"])
    def test_damaged_file(self, moment: Path, tmp_path: Path, damage: str) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        path = folder / "face.onnx"
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        path.unlink()
        if damage == "flipped":
            path.write_bytes(data)
        line = refused(infer(moment, "--bundle", folder), 1)
        assert line.startswith(f"{path}: {'altered' if damage == 'flipped' else 'missing'}")


def without_privilege() -> None:
    """Drop root's capabilities to read and write any file, before a process starts."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="drops capabilities of Linux")
class TestPermissions:
    @pytest.fixture
    @staticmethod
    def closed(tmp_path: Path) -> Iterator[Path]:
        """A folder without permissions."""
        path = tmp_path / "closed"
        path.mkdir(mode=0)
        yield path
        path.chmod(0o700)

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mfer_edge", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, preexec_fn=without_privilege)

    def test_clips_without_read_permission(
        self, moment: Path, closed: Path, tmp_path: Path
    ) -> None:
        path = Path(shutil.copy(moment, tmp_path))
        path.chmod(0)
        done = self.run("infer", path, closed / "clip.mp4", moment, "--json", "-")
        assert done.returncode == 1
        first, second = done.stderr.splitlines()
        assert first.startswith(f"error: {path}: ") and "permission" in first
        assert second.startswith(f"error: {closed / 'clip.mp4'}: ") and "ermission" in second
        assert json.loads(done.stdout)["source"] == str(moment)

    @pytest.mark.parametrize("name", ["manifest.json", "vad.onnx", "."])
    def test_bundle_without_read_permission(self, moment: Path, tmp_path: Path, name: str) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        (folder / name).chmod(0)
        done = self.run("infer", moment, "--bundle", folder)
        (folder / name).chmod(0o700)
        assert (done.returncode, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert line.startswith(f"error: {folder}") and "ermission" in line

    @pytest.mark.parametrize("mode", [0o000, 0o500], ids=["closed", "read only"])
    @pytest.mark.parametrize("option", ["--json", "--plot"])
    def test_output_folder_without_permission(self, closed: Path, option: str, mode: int) -> None:
        closed.chmod(mode)
        done = self.run("infer", "nowhere.mp4", option, closed / "out.png")
        assert (done.returncode, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert line.startswith(f"error: {closed / 'out.png'}: ") and "ermission" in line
