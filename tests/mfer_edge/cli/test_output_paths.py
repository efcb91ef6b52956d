"""Outputs that can't be written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click
import pytest

from mfer_edge.cli.output_paths import check_not_read
from tests.support.commands import infer, refused


class TestOutputs:
    """Outputs are checked before any work is done: the clip of these tests does not exist."""

    CLIP = "nowhere.mp4"

    @pytest.mark.parametrize("option", ["--vtt", "--video", "--plot", "--html"])
    def test_of_one_clip_only(self, option: str) -> None:
        line = refused(infer(self.CLIP, self.CLIP, option, "out.mp4"), 2)
        assert line.startswith(option) and "one source" in line

    @pytest.mark.parametrize(
        ("option", "name", "fact"),
        [
            ("--video", "out.avi", ".mp4"),
            ("--video", "-", ".mp4"),
            ("--plot", "out.svg", ".png or .jpg or .jpeg"),
            ("--html", "out.pdf", ".html or .htm"),
            ("--html", "nowhere/out.html", "there is no folder"),
            ("--json", "nowhere/out.json", "there is no folder"),
            ("--csv", "nowhere/out.csv", "there is no folder"),
            ("--plot", "nowhere/out.png", "there is no folder"),
            ("--json", "file/out.json", "there is no folder"),
        ],
    )
    def test_impossible_place(self, tmp_path: Path, option: str, name: str, fact: str) -> None:
        (tmp_path / "file").touch()
        out = name if name == "-" else tmp_path / name
        line = refused(infer(self.CLIP, option, out), 1)
        assert line.startswith(f"{out}: ") and fact in line

    def test_folder(self, tmp_path: Path) -> None:
        assert str(tmp_path) in refused(infer(self.CLIP, "--json", tmp_path), 2)

    def test_device_for_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "null.png").symlink_to("/dev/null")
        line = refused(infer(self.CLIP, "--plot", tmp_path / "null.png"), 1)
        assert "a device or a pipe" in line

    def test_file_system_without_writing(self) -> None:
        line = refused(infer(self.CLIP, "--json", "/proc/mfer-edge/out.json"), 1)
        assert line.startswith("/proc/mfer-edge/out.json: ")

    def test_two_outputs_on_stdout(self) -> None:
        line = refused(infer(self.CLIP, "--json", "-", "--csv", "-"), 2)
        assert "--json, --csv and --vtt" in line and "stdout" in line

    @pytest.mark.parametrize("kind", ["same", "other words", "link", "hard link"])
    def test_two_outputs_in_one_file(self, tmp_path: Path, kind: str) -> None:
        first = tmp_path / "out.txt"
        first.write_text("old")
        second = {"same": first, "other words": tmp_path / "." / ".." / tmp_path.name / "out.txt"}
        other = second.get(kind, tmp_path / "link.txt")
        if kind == "link":
            other.symlink_to(first)
        if kind == "hard link":
            other.hardlink_to(first)
        line = refused(infer(self.CLIP, "--json", first, "--csv", other), 2)
        assert line == f"--json and --csv are the same file, {other}"
        assert first.read_text() == "old"

    def test_two_outputs_in_one_new_file(self, tmp_path: Path) -> None:
        out = tmp_path / "out.mp4"
        assert "same file" in refused(infer(self.CLIP, "--plot", out, "--video", out), 2)

    def test_an_adaptation(self, tmp_path: Path) -> None:
        made = tmp_path / "office.npz"
        made.write_bytes(b"made from ten recordings")
        line = refused(infer(self.CLIP, "--adapt", made, "--json", made), 2)
        assert "this is a source" in line and made.read_bytes() == b"made from ten recordings"

    @pytest.mark.parametrize("option", ["--json", "--video"])
    def test_the_clip_itself(self, moment: Path, tmp_path: Path, option: str) -> None:
        clip = Path(shutil.copy(moment, tmp_path))
        line = refused(infer(clip, option, clip), 2)
        assert "this is a source" in line
        assert clip.read_bytes() == moment.read_bytes()

    def test_a_forgotten_path_does_not_overwrite_the_clip(
        self, moment: Path, tmp_path: Path
    ) -> None:
        """In `--json a.mp4 b.mp4`, a.mp4 is the output."""
        clip = Path(shutil.copy(moment, tmp_path / "a.mp4"))
        line = refused(infer("--json", clip, moment), 2)
        assert "the name of a clip" in line
        assert clip.read_bytes() == moment.read_bytes()


class TestNotRead:
    """What a command reads is compared with all that it writes."""

    @pytest.fixture
    @staticmethod
    def outs(tmp_path: Path) -> list[Path]:
        outs = [tmp_path / name for name in ("clips.csv", "windows.csv", "people.csv")]
        for out in outs:
            out.touch()
        return outs

    @pytest.mark.parametrize("number", [0, 2])
    def test_the_output_is_named(self, outs: list[Path], tmp_path: Path, number: int) -> None:
        link = tmp_path / "list.csv"
        link.hardlink_to(outs[number])
        with pytest.raises(click.UsageError) as caught:
            check_not_read("--out", outs, [tmp_path / "nowhere.mp4", link])
        assert str(caught.value).startswith(f"--out {outs[number]}: this is a source")

    def test_others_are_none(self, outs: list[Path], tmp_path: Path) -> None:
        (tmp_path / "other.csv").touch()
        new = tmp_path / "new.csv"
        check_not_read("--out", [*outs, new], [tmp_path / "other.csv", new, str(outs[0])])

    def test_each_path_is_looked_at_once(self, outs: list[Path], tmp_path: Path) -> None:
        """However many tables there are: a batch reads 100,000 clips."""
        looked: list[str] = []

        class Watched(type(Path())):
            def stat(self, **options: bool) -> os.stat_result:
                looked.append(self.name)
                return super().stat(**options)

        paths = [tmp_path / f"{number}.mp4" for number in range(5)]
        for path in paths[:3]:
            path.touch()
        check_not_read("--out", [Watched(out) for out in outs], [Watched(path) for path in paths])
        assert sorted(looked) == sorted(path.name for path in (*outs, *paths))
