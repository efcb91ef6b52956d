"""Sources of `mfer-edge infer`: stdin, URLs, names that start with a dash; a time limit."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from mfer_edge.cli.infer import check_sources
from mfer_edge.cli.main import main
from mfer_edge.cli.output_paths import OutputPaths
from mfer_edge.errors import MediaError
from mfer_edge.sources import stdin as stdin_module
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.stdin import stdin_clip
from tests.mfer_edge.sources.test_url import web_server
from tests.support.commands import infer, one_error, passed, refused, run, scores_of
from tests.support.html import Document

Pipe = Callable[[bytes], Path]


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Put bytes on stdin, and tell the folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def pipe(data: bytes) -> Path:
        stream = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False)
        monkeypatch.setattr("sys.stdin", stream)
        return folder

    return pipe


class TestStdin:
    def test_a_clip_whose_index_is_at_its_end(self, moment: Path, expected: dict) -> None:
        arguments = ["infer", "-", "--device", "cpu", "--threads", "1", "--json", "-"]
        result = CliRunner().invoke(main, arguments, input=moment.read_bytes())
        made = json.loads(passed(result))
        assert (made["source"], scores_of(made)) == ("stdin", expected)

    def test_report_has_pictures_and_no_link(self, moment: Path, tmp_path: Path) -> None:
        arguments = ["infer", "-", "--html", str(tmp_path / "a.html"), "--quiet"]
        passed(CliRunner().invoke(main, arguments, input=moment.read_bytes()))
        page = Document.of((tmp_path / "a.html").read_text("utf-8"))
        assert page.all("h1")[0].text == "stdin" and "src" not in page.by_id("video").attributes
        assert json.loads(page.by_id("data").text)["pictures"]

    def test_nothing_stays_behind(self, piped: Pipe, moment: Path) -> None:
        folder = piped(moment.read_bytes())
        with stdin_clip() as path:
            assert path.read_bytes() == moment.read_bytes()
        assert not list(folder.iterdir())

    @pytest.mark.parametrize(
        ("data", "fact"), [(b"", "stdin: nothing came"), (b"no clip" * 99, "stdin: not a video")]
    )
    def test_no_clip(self, piped: Pipe, data: bytes, fact: str) -> None:
        folder = piped(data)
        with pytest.raises(MediaError, match=f"^{fact}"), stdin_clip() as path:
            Clip(path)
        assert not list(folder.iterdir())

    def test_a_disk_is_never_filled(self, piped: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = piped(b"x" * 100)
        monkeypatch.setattr(stdin_module, "KEPT_FREE", 1 << 60)
        with pytest.raises(MediaError, match="nearly full"), stdin_clip():
            pass
        assert not list(folder.iterdir())

    def test_read_once_only(self) -> None:
        assert "stdin" in refused(infer("-", "-"), 2)

    def test_a_terminal_is_no_clip(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        with pytest.raises(click.UsageError, match="this is a terminal"):
            check_sources([Path("-")], OutputPaths())


class TestUrls:
    def test_the_same_as_from_the_file(self, moment: Path, expected: dict) -> None:
        with web_server(moment.parent) as address:
            made = json.loads(passed(infer(f"{address}/moment.mp4?key=secret", "--json", "-")))
        assert made["source"] == f"{address}/moment.mp4?..."
        assert scores_of(made) == expected

    @pytest.mark.parametrize("url", ["ftp://me:secret@host/a.mp4", "file:///a.mp4", "http:///a"])
    def test_one_that_is_not_opened_costs_one_line(self, moment: Path, url: str) -> None:
        result = infer(url, moment)
        assert result.exit_code == 1
        line = one_error(result)
        assert line.startswith(url.replace("me:secret@", "") + ": ") and "secret" not in line
        assert str(moment) in result.stdout

    def test_no_overlay_of_a_stream(self, tmp_path: Path) -> None:
        line = refused(infer("http://host/a.mp4", "--video", tmp_path / "a.mp4"), 2)
        assert line.startswith("--video")


class TestNames:
    def test_a_dash_at_the_start(
        self, moment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        shutil.copy(moment, tmp_path / "-clip.mp4")
        line = refused(run("infer", "-clip.mp4"), 2)
        assert line.endswith("; for the file of that name write ./-clip.mp4")
        passed(infer("./-clip.mp4", "--quiet"))
        passed(infer("--quiet", "--", "-clip.mp4"))

    def test_no_hint_without_such_a_file(self) -> None:
        assert "write" not in refused(run("infer", "-clip.mp4"), 2)


class TestTimeout:
    def test_costs_one_clip_and_one_line(self, anger: Path, moment: Path) -> None:
        result = infer(anger, moment, "--timeout", 1e-4)
        assert result.exit_code == 1 and result.stdout == ""
        for line in result.stderr.splitlines():
            assert line.endswith(": stopped as it was not done in 0.0001 s")

    def test_enough_time(self, moment: Path, expected: dict) -> None:
        made = json.loads(passed(infer(moment, "--timeout", 600, "--json", "-")))
        assert scores_of(made) == expected
