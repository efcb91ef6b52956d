"""`mfer-edge export`: combinations of options, and output without exporting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click.testing
import pytest

from export import build
from export.parity import ParityError
from mfer_edge.bundle import Bundle
from mfer_edge.cli.main import main
from mfer_edge.manifest import ENGINES
from tests.export.conftest import Built
from tests.train.synthetic import small_presets


def export(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["export", *map(str, arguments)])


def error_line(result: click.testing.Result, code: int) -> str:
    """The one line of the error, without a traceback."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--fp16", "--int8"], "--fp16 and --int8 exclude each other: name one"),
        (["--fp32", "--fp16"], "--fp32 and --fp16 exclude each other: name one"),
        (
            ["--random-init", "--weights", "w"],
            "--weights and --random-init exclude each other: name one",
        ),
        (
            ["--checkpoint", "c", "--random-init"],
            "--checkpoint and --random-init exclude each other: name one",
        ),
        (["--list", "--fp16"], "--fp16 can't go with --list"),
        (["--list", "--preset", "paper", "--out", "x"], "--preset, --out can't go with --list"),
        (
            ["--bundle", "b"],
            "--bundle goes with --tensorrt or --triton; the new one's name is --out",
        ),
        (
            ["--bundle", "b", "--tensorrt", "--fp16", "--bisect"],
            "--fp16, --bisect can't go with --bundle",
        ),
        (
            ["--tensorrt", "--int8"],
            "--int8 is for CPUs: --tensorrt takes --int8-gpu, --fp16 or --fp32",
        ),
    ],
)
def test_options_that_exclude_each_other(arguments: list[str], line: str) -> None:
    result = export(*arguments)
    assert error_line(result, 2) == line
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["--tensorrt"], ["--tensorrt", "--fp16"], ["--bundle", "b", "--tensorrt"]]
)
def test_missing_tensorrt_is_reported_before_the_export(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "export_engines", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    line = error_line(export(*arguments), 1)
    assert "TensorRT" in line and "pip install" in line


def test_list_describes_the_packages_bundle() -> None:
    result = export("--list")
    assert result.exit_code == 0, result.output
    bundle = Bundle.open()
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{bundle.folder}  compact int8+fp32, trained, ")
    assert bundle.sha256 in lines[1]
    for name, engine in bundle.manifest.engines.items():
        (line,) = [line for line in lines if line.startswith(f"{name} ") and "->" in line]
        assert f"{engine.parameters:,}" in line
        assert "+".join(engine.macs) in line
    text = "\n".join(lines)
    for weights in bundle.manifest.weights:
        assert f"{weights.part}: {weights.source} ({weights.licence})" in text
    for name, value in bundle.manifest.parity.items():
        if name.endswith(".cosine"):
            assert f"{value:.7f}" in text


def test_list_describes_another_bundle(fp16: Built) -> None:
    result = export("--list", fp16.bundle.folder)
    assert result.exit_code == 0, result.output
    assert "compact fp16, trained" in result.stdout
    assert {line.split()[0] for line in result.stdout.splitlines() if "->" in line} == {
        "engine",
        *ENGINES,
    }


def test_list_of_another_folder(tmp_path: Path) -> None:
    assert error_line(export("--list", tmp_path), 1).startswith(f"{tmp_path}: not a bundle")


def test_list_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from mfer_edge.cli.main import main\n"
        "main(['export', *sys.argv[1:]], standalone_mode=False)\n"
        "print({'torch', 'onnx', 'onnxruntime'} & {*sys.modules})\n"
    )
    for arguments in (["--list"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "set()"


def test_warning_about_an_untrained_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise ParityError("stopped here", ["a table"])

    monkeypatch.setattr(build, "export_engines", stop)
    with small_presets():
        result = export("--preset", "paper", "--random-init", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "warning: Untrained: random weights. The scores mean nothing.",
        "error: stopped here",
    ]
    assert result.stdout == "a table\n"
