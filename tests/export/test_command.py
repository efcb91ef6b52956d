"""`mfer-edge export`: models, clips and destinations, good and bad."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click.testing
import pytest
import torch
from safetensors.torch import save_file

from export import build
from export.checkpoint import open_source
from export.parity import ParityError
from mfer_edge.bundle import Bundle
from mfer_edge.cli.main import main
from mfer_edge.manifest import CARD, ENGINES
from tests.support.clips import sine, write_clip
from tests.support.footage import repeat
from tests.train.synthetic import small_presets
from train.models.emotion_model import CHECKPOINT, EmotionModel, save_model
from train.presets import COMPACT, PRESETS


def export(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["export", *map(str, arguments)])


def assert_one_line(result: click.testing.Result, *parts: object) -> None:
    """The command prints one error line, and no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert str(part) in line


def content(folder: Path) -> dict[str, bytes]:
    """Files of a folder, by their relative paths."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stop(*_: Any, **__: Any) -> Any:
    raise ParityError("stopped here")


@pytest.mark.usefixtures("quick")
def test_the_command_prints_the_parity_figures(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "bundle"
    result = export("--int8", "--out", out, "--verify", clip)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines[1:-2]} == set(ENGINES)
    assert "labels: 2 of 2 readings agree" in result.stdout
    assert lines[-1].startswith(f"{out}: compact int8+fp32, ")
    assert Bundle.open(out).manifest.precision == "int8+fp32"


@pytest.mark.usefixtures("quick")
def test_the_default_is_the_packages_checkpoint_at_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: list[Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = export()
    assert result.exit_code == 0, result.output
    assert f"labels: {2 * len(samples)} of {2 * len(samples)} readings agree" in result.stdout
    bundle = Bundle.open(tmp_path / "compact-fp32")
    assert bundle.manifest.precision == "fp32"
    card = CHECKPOINT.with_name(CARD)
    if card.exists():
        assert (bundle.folder / CARD).read_bytes() == card.read_bytes()


@pytest.mark.parametrize("form", ["file", "folder"])
def test_checkpoint_as_a_file_or_its_folder(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    def networks(model: EmotionModel, folder: Path) -> Any:
        taken.append(float(model.temperature[0]))
        return stop()

    monkeypatch.setattr(build, "export_engines", networks)
    model = EmotionModel(COMPACT)
    model.temperature.fill_(1.75)
    save_model(model, tmp_path / CHECKPOINT.name)
    path = tmp_path if form == "folder" else tmp_path / CHECKPOINT.name
    assert_one_line(export("--checkpoint", path), "stopped here")
    assert taken == [1.75]
    (tmp_path / CARD).write_text("# Mine\n")
    assert open_source(checkpoint=path).card == "# Mine\n"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "no usable checkpoint"),
        ("empty folder", "no usable checkpoint"),
        ("no safetensors", "no usable checkpoint"),
        ("tensors of something", "not a model of compact or paper"),
        ("another shape", "fusion.discount is (1,) instead of (2,)"),
        ("the other preset", "a model of the preset paper, not compact"),
    ],
)
def test_unusable_checkpoint(
    kind: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "no safetensors":
        path.write_bytes(b"\xff" * 1000)
    elif kind == "tensors of something":
        save_file({"weight": torch.zeros(8)}, path)
    elif kind == "another shape":
        state = dict(EmotionModel(COMPACT).state_dict())
        state["fusion.discount"] = state["fusion.discount"][:1].contiguous()
        save_file(state, path, {"model": "mfer-edge compact"})
    with small_presets():
        if kind == "the other preset":
            save_model(EmotionModel(PRESETS["paper"]), path)
        assert_one_line(export("--checkpoint", path, "--preset", "compact"), path, said)
    assert not list(tmp_path.glob("compact-*"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["missing", "no clip"])
def test_unreadable_clip(kind: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    if kind == "no clip":
        clip.write_bytes(b"no clip")
    assert_one_line(export("--verify", clip, "--out", tmp_path / "out"), clip)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kinds", "fact"),
    [((), "no face and no speech"), (("video",), "no speech"), (("audio",), "no face")],
    ids=["neither", "face", "speech"],
)
def test_a_clip_without_face_or_speech_is_refused_before_the_export(
    kinds: tuple[str, ...],
    fact: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build, "export_engines", stop)
    poor = tmp_path / "poor.mp4"
    if kinds:
        repeat(clip, poor, kinds=kinds)
    else:
        write_clip(poor, 1.0, audio=sine(1.0))
    assert_one_line(export("--verify", poor, "--out", tmp_path / "out"), f"{poor}: {fact};")
    assert not (tmp_path / "out").exists()


LONG = "x" * 300  # too long for a file name


@pytest.mark.parametrize("place", ["file", "file/below", LONG])
def test_destination_that_can_not_be_created(
    place: str, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "export_engines", stop)  # fails before the export
    (tmp_path / "file").write_text("in the way")
    assert_one_line(export("--verify", clip, "--out", tmp_path / place), tmp_path / place, ": ")
    assert content(tmp_path) == {"file": b"in the way"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_destination_without_permission(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "export_engines", stop)
    tmp_path.chmod(0o555)
    result = export("--verify", clip, "--out", tmp_path / "a" / "b")
    assert_one_line(result, f"no permission to write to the folder {tmp_path}")


@pytest.mark.parametrize("option", ["--checkpoint", "--weights"])
def test_path_that_is_too_long(option: str, tmp_path: Path) -> None:
    assert_one_line(export(option, tmp_path / LONG), tmp_path / LONG)


def test_a_card_that_is_not_text(tmp_path: Path) -> None:
    shutil.copyfile(CHECKPOINT, tmp_path / CHECKPOINT.name)
    (tmp_path / CARD).write_bytes("# Müller".encode("latin-1"))
    assert_one_line(export("--checkpoint", tmp_path), tmp_path / CARD, "UTF-8")


@pytest.mark.usefixtures("quick")
def test_missing_temporary_folder(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    result = export("--verify", clip, "--out", tmp_path / "out")
    assert_one_line(result, tmp_path / "gone", "TMPDIR")
    assert not (tmp_path / "out").exists()
