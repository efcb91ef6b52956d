"""From a checkpoint to a bundle, in Python and from the command line."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from export import build
from export.build import PRECISIONS, build_bundle, save_proven, set_precision
from export.checkpoint import Source, open_source
from export.parity import ParityError
from export.precision.graph import PrecisionError
from mfer_edge.bundle import CARD, ENGINES, MANIFEST, Bundle
from mfer_edge.cli.main import main
from mfer_edge.errors import BundleError
from mfer_edge.pipeline import Pipeline
from tests.export.conftest import Built, Exported
from tests.export.test_parity import changed, weight
from tests.support.clips import sine, write_clip
from tests.train.synthetic import small_presets
from train.labels import EMOTIONS
from train.models.emotion_model import CHECKPOINT, EmotionModel, save_model
from train.models.fer_resnet import FACE_SIZE
from train.models.registry import DEPTH
from train.models.whisper import WIDTH
from train.presets import COMPACT, PRESETS


@pytest.fixture
def quick(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the export take the networks that were exported before."""

    def copied(model: EmotionModel, folder: Path) -> dict[str, Path]:
        return {
            name: Path(shutil.copyfile(path, folder / path.name))
            for name, path in exported.files.items()
        }

    monkeypatch.setattr(build, "export_networks", copied)


def export(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["export", *map(str, arguments)])


def assert_one_line(result: click.testing.Result, *said: object) -> None:
    """A person reads one line, and no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for part in said:
        assert str(part) in line


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


TYPES = {  # of the products in each network that is not in single precision
    "fp32": {},
    "fp16": {name: {"fp16"} for name in ("face", "visual", "fusion")} | {"audio": {"fp16", "fp32"}},
    "int8": {"audio": {"int8", "fp32"}},
    "int8-gpu": {"face": {"int8"}, "audio": {"int8", "fp32"}},
}
NAMES = {"fp32": "fp32", "fp16": "fp16", "int8": "int8+fp32", "int8-gpu": "int8"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_manifest_says_what_is_in_the_bundle(
    precision: str, request: pytest.FixtureRequest, samples: list[Path]
) -> None:
    built: Built = request.getfixturevalue(precision.replace("-", "_"))
    manifest = Bundle.open(built.bundle.folder).manifest  # checks every file
    assert manifest == built.bundle.manifest
    assert manifest.name == "compact"
    assert manifest.labels == EMOTIONS
    assert manifest.trained is True
    assert manifest.precision == NAMES[precision]
    assert manifest.crop.size == FACE_SIZE
    assert set(manifest.engines) == set(ENGINES)
    assert manifest.parity == built.parity.figures()
    assert manifest.parity["readings"] == len(samples)
    assert {name.split(".")[0] for name in manifest.parity} >= set(ENGINES)
    for name, engine in manifest.engines.items():
        assert set(engine.work) == TYPES[precision].get(name, {"fp32"}), name
    files = {engine.file for engine in manifest.engines.values()}
    assert {path.name for path in built.bundle.folder.iterdir()} == {MANIFEST, CARD, *files}
    assert (built.bundle.folder / CARD).read_text() == "# A card\n"


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, dict[str, Path]]:
    """The paper's model with small backbones, untrained, and its exported networks."""
    with small_presets():
        source = open_source("paper", random_init=True)
    return source, build.export_networks(source.model, tmp_path_factory.mktemp("paper"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_papers_model_goes_the_same_way(
    precision: str, paper: tuple[Source, dict[str, Path]], clip: Path, tmp_path: Path
) -> None:
    source, networks = paper
    bundle, parity = save_proven(source, networks, precision, [clip], tmp_path / "bundle")
    assert parity.readings == 1
    assert bundle.manifest.name == "paper"
    assert not bundle.manifest.trained
    assert bundle.manifest.crop.size == source.model.face.size
    kind = precision.removesuffix("-gpu")
    for name in ("face", "audio"):
        assert kind in bundle.manifest.engines[name].work, name
    assert bundle.manifest.precision.startswith(kind)
    analysis = Pipeline.open(bundle.folder, "cpu", threads=1).analyze(clip)
    assert analysis.overall is not None
    assert analysis.bundle.name == "paper"
    (warning,) = analysis.warnings
    assert "scores mean nothing" in warning


def test_the_longest_window_fits_the_networks(fp32: Built) -> None:
    manifest = fp32.bundle.manifest
    engine = Pipeline.open(fp32.bundle.folder, "cpu", threads=1)
    wave = np.zeros((1, round(manifest.max_window_s * 16_000)), np.float32)
    assert engine._chain.audio(wave[0]).scores.shape == (len(EMOTIONS),)


def test_single_precision_files_are_the_exported_ones(fp32: Built, exported: Exported) -> None:
    for name, path in exported.files.items():
        assert fp32.bundle.engine_path(name).read_bytes() == path.read_bytes(), name


def test_int8_is_less_than_half_the_size(fp32: Built, int8: Built) -> None:
    def size(built: Built) -> int:
        return sum(e.bytes for n, e in built.bundle.manifest.engines.items() if n != "vad")

    assert size(int8) < size(fp32) / 2


def test_detection_is_not_rounded(fp32: Built, int8: Built) -> None:
    """A box more or less moves every crop: MTCNN and the VAD stay as they are."""
    for name in ("vad", "pnet", "rnet", "onet"):
        one, other = (built.bundle.manifest.engines[name].sha256 for built in (fp32, int8))
        assert one == other, name


def test_int8_spares_the_attention_of_the_first_layer(int8: Built) -> None:
    graph = onnx.load(int8.bundle.engine_path("audio")).graph
    square = [w.data_type for w in graph.initializer if tuple(w.dims) == (WIDTH, WIDTH)]
    assert square.count(onnx.TensorProto.INT8) == 4 * (DEPTH - 1)
    assert square.count(onnx.TensorProto.FLOAT16) == 4
    first = [node.op_type for node in graph.node if node.op_type.startswith("MatMul")]
    assert first.index("MatMulInteger") >= 4


def test_nothing_of_this_machine_is_in_the_bundle(int8: Built) -> None:
    for name, data in content(int8.bundle.folder).items():
        for trace in (str(build.SAMPLES.parent), str(Path.home()), "/tmp", "site-packages"):
            assert name == "vad.onnx" or trace.encode() not in data, (name, trace)


def test_building_says_nothing(fp32: Built, int8: Built) -> None:
    assert fp32.noise == int8.noise == ""


def test_the_bundle_reads_a_clip(int8: Built, clip: Path) -> None:
    analysis = Pipeline.open(int8.bundle.folder, "cpu", threads=1).analyze(clip)
    assert analysis.bundle.precision == "int8+fp32"
    assert analysis.overall is not None
    assert set(analysis.overall.scores) == set(EMOTIONS)
    assert sum(analysis.overall.scores.values()) == pytest.approx(1)
    assert analysis.overall.modalities == ("visual", "audio")


def test_untrained_weights_are_told(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    untrained = replace(source, trained=False, card="")
    bundle, _ = save_proven(untrained, exported.files, "fp32", [clip], tmp_path / "out")
    assert bundle.manifest.trained is False
    assert not (bundle.folder / CARD).exists()


@pytest.mark.usefixtures("quick")
def test_the_same_checkpoint_gives_the_same_bundle_in_the_place_of_the_old(
    source: Source, int8: Built, samples: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "a" / "bundle"
    shutil.copytree(int8.bundle.folder, out)
    (out / MANIFEST).write_text(json.dumps({"engines": {}}) + "\n")  # damaged
    for path in out.glob("*.onnx"):
        path.unlink()
    bundle, _ = build_bundle(source, "int8", samples, out)
    assert content(out) == content(int8.bundle.folder)
    assert bundle.sha256 == int8.bundle.sha256
    assert list(out.parent.iterdir()) == [out]


def test_what_is_no_bundle_is_never_replaced(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter-1.md").write_text("once upon a time")
    with pytest.raises(BundleError, match="thesis"):
        save_proven(source, exported.files, "fp32", [clip], out)
    assert content(tmp_path) == {"thesis/chapter-1.md": b"once upon a time"}


def test_a_weight_beyond_half_precision_stops_the_export(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    graph = onnx.load(exported.files["visual"])
    changed(weight(graph), lambda values: values + 1e6)
    onnx.save(graph, tmp_path / "visual.onnx")
    networks = {**exported.files, "visual": tmp_path / "visual.onnx"}
    with pytest.raises(PrecisionError, match=r"visual\.onnx"):
        save_proven(source, networks, "int8", [clip], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick")
def test_the_command_tells_how_near_the_bundle_is_to_pytorch(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "bundle"
    result = export("--int8", "--out", out, "--verify", clip)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines[1:-2]} == set(ENGINES)
    assert "labels: 1 of 1 readings agree" in result.stdout
    assert lines[-1].startswith(f"{out}: compact int8+fp32, ")
    assert Bundle.open(out).manifest.precision == "int8+fp32"


@pytest.mark.usefixtures("quick")
def test_by_default_it_exports_the_packages_checkpoint_in_single_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: list[Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = export()
    assert result.exit_code == 0, result.output
    assert f"labels: {len(samples)} of {len(samples)} readings agree" in result.stdout
    bundle = Bundle.open(tmp_path / "compact-fp32")
    assert bundle.manifest.precision == "fp32"
    card = CHECKPOINT.with_name(CARD)
    if card.exists():
        assert (bundle.folder / CARD).read_bytes() == card.read_bytes()


def stop(*_: Any, **__: Any) -> Any:
    raise ParityError("stopped here")


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_checkpoint_may_be_a_file_or_its_folder(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    def networks(model: EmotionModel, folder: Path) -> Any:
        taken.append(float(model.temperature[0]))
        return stop()

    monkeypatch.setattr(build, "export_networks", networks)
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
        ("another shape", "fusion.bias is (7,) instead of (8,)"),
        ("the other preset", "a model of the preset paper, not compact"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_one_line(
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
        state["fusion.bias"] = state["fusion.bias"][:7].contiguous()
        save_file(state, path, {"model": "mfer-edge compact"})
    with small_presets():
        if kind == "the other preset":
            save_model(EmotionModel(PRESETS["paper"]), path)
        assert_one_line(export("--checkpoint", path, "--preset", "compact"), path, said)
    assert not list(tmp_path.glob("compact-*"))


def test_without_a_clip_to_verify_on_there_is_no_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel has no samples."""
    monkeypatch.setattr(build, "SAMPLES", tmp_path / "samples")
    monkeypatch.setattr(build, "export_networks", stop)  # says so before the work
    assert_one_line(export("--out", tmp_path / "out"), "no clip", "--verify")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["missing", "no clip"])
def test_a_clip_that_cannot_be_read_is_one_line(kind: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    if kind == "no clip":
        clip.write_bytes(b"no clip")
    assert_one_line(export("--verify", clip, "--out", tmp_path / "out"), clip)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick")
def test_a_clip_without_face_and_speech_proves_nothing(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "tone.mp4", 1.0, sound=sine(1.0))
    result = export("--verify", clip, "--out", tmp_path / "out")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    for name in ("face", "audio", "fusion"):
        assert f"{name}: never ran" in line
        assert f"FAILED {name}: never ran" in result.stdout
    assert not (tmp_path / "out").exists()


LONG = "x" * 300  # more than a name may have


@pytest.mark.parametrize("place", ["file", "file/below", LONG])
def test_a_place_that_cannot_be_written_is_one_line(
    place: str, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "export_networks", stop)  # says so before the work
    (tmp_path / "file").write_text("in the way")
    assert_one_line(export("--verify", clip, "--out", tmp_path / place), tmp_path / place, ": ")
    assert content(tmp_path) == {"file": b"in the way"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "export_networks", stop)
    tmp_path.chmod(0o555)
    result = export("--verify", clip, "--out", tmp_path / "a" / "b")
    assert_one_line(result, f"no permission to write to the folder {tmp_path}")


@pytest.mark.parametrize("option", ["--checkpoint", "--weights"])
def test_a_model_that_cannot_be_looked_for_is_one_line(option: str, tmp_path: Path) -> None:
    assert_one_line(export(option, tmp_path / LONG), tmp_path / LONG)


def test_a_card_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    shutil.copyfile(CHECKPOINT, tmp_path / CHECKPOINT.name)
    (tmp_path / CARD).write_bytes("# Müller".encode("latin-1"))
    assert_one_line(export("--checkpoint", tmp_path), tmp_path / CARD, "UTF-8")


@pytest.mark.usefixtures("quick")
def test_a_folder_for_temporary_files_that_is_gone_is_one_line(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    result = export("--verify", clip, "--out", tmp_path / "out")
    assert_one_line(result, tmp_path / "gone", "TMPDIR")
    assert not (tmp_path / "out").exists()


def test_no_work_is_counted_to_fix_scales(
    source: Source, exported: Exported, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.manifest.macs_by_type", stop)
    files = {
        name: Path(shutil.copyfile(path, tmp_path / path.name))
        for name, path in exported.files.items()
    }
    set_precision(files, source, "int8-gpu", [clip])
    kinds = {node.op_type for node in onnx.load(files["face"]).graph.node}
    assert "QuantizeLinear" in kinds
