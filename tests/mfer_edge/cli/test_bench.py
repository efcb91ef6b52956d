"""`mfer-edge bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from mfer_edge.bench.result import read_result
from tests.support.commands import python, refused, run


def bench(*arguments: object) -> Result:
    """Call `mfer-edge bench`."""
    return run("bench", *arguments)


class TestCommand:
    def test_table_json_and_comparison(self, voice: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.json"
        options = ("--clip", voice, "--runs", 1, "--device", "cpu", "--threads", 1)
        first = bench(*options, "--json", out)
        assert (first.exit_code, first.stderr) == (0, "")
        assert "clip.wav" not in first.stdout and "voice.wav: 1.60 s" in first.stdout
        assert "not run" in first.stdout  # there is no face
        assert read_result(out).clip.name == "voice.wav"
        second = bench(*options, "--json", "-", "--compare", out)
        assert json.loads(second.stdout)["schema"] == 1
        assert "too few runs" in second.stderr  # the comparison; stdout is the JSON's

    @pytest.mark.parametrize(
        ("arguments", "code", "fact"),
        [
            (("--runs", 0), 2, "--runs"),
            (("--clip", "none.mp4"), 1, "none.mp4: No such file"),
            (("--bundle", "none"), 1, "none: no such folder"),
            (("--json", "no/such/out.json"), 1, "no folder"),
            (("--json", "out.mp4"), 2, "name of a clip"),
            (("--compare", "none.json"), 1, "none.json: No such file"),
            (("--streams", 2), 2, "--streams is for --scenario streams"),
            (("--sweep", "--scenario", "offline"), 2, "don't go together"),
            (("--bundle", "a", "--bundle", "b"), 2, "for --sweep"),
        ],
    )
    def test_wrong_usage_is_one_line(
        self,
        arguments: tuple,
        code: int,
        fact: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert fact in refused(bench(*arguments), code)

    def test_never_overwrites_an_input(self, voice: Path, tmp_path: Path) -> None:
        assert "this is a source" in refused(bench("--clip", voice, "--json", voice), 2)
        other = tmp_path / "other.json"
        other.write_text("{}")
        assert "this is a source" in refused(bench("--compare", other, "--json", other), 2)

    def test_help_imports_no_benchmark(self) -> None:
        code = (
            "import sys\n"
            "from mfer_edge.cli.main import main\n"
            "try: main(['bench', '--help'])\n"
            "except SystemExit: pass\n"
            "print(sorted({'numpy', 'mfer_edge.bench.run', 'av'} & set(sys.modules)))\n"
        )
        assert python(code).stdout.splitlines()[-1] == "[]"
