"""Exported bundles: manifest, files and precision."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.build import build_bundle, build_from_engines
from export.checkpoint import Source, model_identity
from export.options import PRECISIONS, ExportOptions
from export.parity import ParityError
from export.precision.convert import convert
from export.precision.graph import PrecisionError
from mfer_edge.bundle import Bundle
from mfer_edge.errors import BundleError
from mfer_edge.manifest import CARD, ENGINES, MANIFEST
from mfer_edge.pipeline import Pipeline
from tests.export.conftest import Built
from tests.export.damage import change_weight, largest_weight
from tests.export.exports import Exported
from tests.support.paths import ROOT
from train.labels import SEVEN_EMOTIONS
from train.models.fer_resnet import FACE_SIZE
from train.models.registry import DEPTH
from train.models.whisper import WIDTH


def content(folder: Path) -> dict[str, bytes]:
    """Files of a folder, by their relative paths."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


TYPES = {  # of the products in each network that is not in single precision
    "fp32": {},
    "fp16": {name: {"fp16"} for name in ("face", "visual", "fusion")} | {"audio": {"fp16", "fp32"}},
    "int8": {"audio": {"int8", "fp32"}},
    "int8-gpu": {"face": {"int8"}, "audio": {"int8", "fp32"}},
}
NAMES = {"fp32": "fp32", "fp16": "fp16", "int8": "int8+fp32", "int8-gpu": "int8"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_manifest_describes_the_bundle(
    precision: str, request: pytest.FixtureRequest, source: Source
) -> None:
    built: Built = request.getfixturevalue(precision.replace("-", "_"))
    manifest = Bundle.open(built.bundle.folder).manifest  # checks every file
    assert manifest == built.bundle.manifest
    assert manifest.name == "compact"
    assert manifest.labels == SEVEN_EMOTIONS
    assert manifest.trained is True
    assert manifest.precision == NAMES[precision]
    assert manifest.crop.size == FACE_SIZE
    assert set(manifest.engines) == set(ENGINES)
    assert manifest.parity == built.parity.figures()
    assert manifest.parity["readings"] == 2 * len(built.clips)  # and their voices in a place
    assert manifest.model == model_identity(source.model)
    assert {name.split(".")[0] for name in manifest.parity} >= set(ENGINES)
    for name, engine in manifest.engines.items():
        assert set(engine.macs) == TYPES[precision].get(name, {"fp32"}), name
    files = {engine.file for engine in manifest.engines.values()}
    assert {path.name for path in built.bundle.folder.iterdir()} == {MANIFEST, CARD, *files}
    assert (built.bundle.folder / CARD).read_text() == "# A card\n"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_paper_preset(
    precision: str, paper_source: Source, paper: Exported, clip: Path, tmp_path: Path
) -> None:
    source = paper_source
    bundle, parity = build_from_engines(
        source, paper.files, ExportOptions(tmp_path / "bundle", precision, [clip])
    )
    assert parity.readings == 2  # one of them of the voice in a place
    assert bundle.manifest.name == "paper"
    assert not bundle.manifest.trained
    assert bundle.manifest.crop.size == source.model.face.size
    kind = precision.removesuffix("-gpu")
    for name in ("face", "audio"):
        assert kind in bundle.manifest.engines[name].macs, name
    assert bundle.manifest.precision.startswith(kind)
    analysis = Pipeline.open(bundle.folder, "cpu", threads=1).analyze(clip)
    assert analysis.overall is not None
    assert analysis.bundle.name == "paper"
    (warning,) = analysis.warnings
    assert "scores mean nothing" in warning


def test_the_longest_window_fits_the_engines(fp32: Built) -> None:
    manifest = fp32.bundle.manifest
    pipeline = Pipeline.open(fp32.bundle.folder, "cpu", threads=1)
    wave = np.zeros((1, round(manifest.max_window_s * 16_000)), np.float32)
    assert pipeline.model.audio(wave[0]).scores.shape == (len(SEVEN_EMOTIONS),)


def test_fp32_files_are_the_exported_ones(fp32: Built, exported: Exported) -> None:
    for name, path in exported.files.items():
        assert fp32.bundle.engine_path(name).read_bytes() == path.read_bytes(), name


def test_int8_is_less_than_half_the_size(fp32: Built, int8: Built) -> None:
    def size(built: Built) -> int:
        return sum(e.bytes for n, e in built.bundle.manifest.engines.items() if n != "vad")

    assert size(int8) < size(fp32) / 2


def test_detectors_are_not_quantized(fp32: Built, int8: Built) -> None:
    """A changed box would shift every crop: MTCNN and the VAD stay in fp32."""
    for name in ("vad", "pnet", "rnet", "onet"):
        one, other = (built.bundle.manifest.engines[name].sha256 for built in (fp32, int8))
        assert one == other, name


def test_int8_skips_the_attention_of_the_first_layer(int8: Built) -> None:
    graph = onnx.load(int8.bundle.engine_path("audio")).graph
    square = [w.data_type for w in graph.initializer if tuple(w.dims) == (WIDTH, WIDTH)]
    assert square.count(onnx.TensorProto.INT8) == 4 * (DEPTH - 1)
    assert square.count(onnx.TensorProto.FLOAT16) == 4
    first = [node.op_type for node in graph.node if node.op_type.startswith("MatMul")]
    assert first.index("MatMulInteger") >= 4


def test_no_paths_of_this_machine_in_the_bundle(int8: Built) -> None:
    for name, data in content(int8.bundle.folder).items():
        for trace in (str(ROOT), str(Path.home()), "/tmp", "site-packages"):
            assert name == "vad.onnx" or trace.encode() not in data, (name, trace)


def test_building_prints_nothing(fp32: Built, int8: Built) -> None:
    assert fp32.output == int8.output == ""


def test_the_bundle_analyzes_a_clip(int8: Built, clip: Path) -> None:
    analysis = Pipeline.open(int8.bundle.folder, "cpu", threads=1).analyze(clip)
    assert analysis.bundle.precision == "int8+fp32"
    assert analysis.overall is not None
    assert set(analysis.overall.scores) == set(SEVEN_EMOTIONS)
    assert sum(analysis.overall.scores.values()) == pytest.approx(1)
    assert analysis.overall.modalities == ("visual", "audio")


def test_untrained_weights_are_in_the_manifest(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    untrained = replace(source, trained=False, card="")
    bundle, _ = build_from_engines(
        untrained, exported.files, ExportOptions(tmp_path / "out", "fp32", [clip])
    )
    assert bundle.manifest.trained is False
    assert not (bundle.folder / CARD).exists()


@pytest.mark.usefixtures("quick")
def test_a_bundle_is_replaced_by_an_identical_one(
    source: Source, int8: Built, samples: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "a" / "bundle"
    shutil.copytree(int8.bundle.folder, out)
    (out / MANIFEST).write_text(json.dumps({"engines": {}}) + "\n")  # damaged
    for path in out.glob("*.onnx"):
        path.unlink()
    bundle, _ = build_bundle(source, ExportOptions(out, "int8", samples))
    assert content(out) == content(int8.bundle.folder)
    assert bundle.sha256 == int8.bundle.sha256
    assert list(out.parent.iterdir()) == [out]


def test_other_folders_are_not_replaced(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter-1.md").write_text("once upon a time")
    with pytest.raises(BundleError, match="thesis"):
        build_from_engines(source, exported.files, ExportOptions(out, "fp32", [clip]))
    assert content(tmp_path) == {"thesis/chapter-1.md": b"once upon a time"}


def test_a_weight_out_of_the_range_of_fp16_stops_the_export(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    graph = onnx.load(exported.files["visual"])
    change_weight(largest_weight(graph), lambda values: values + 1e6)
    onnx.save(graph, tmp_path / "visual.onnx")
    networks = {**exported.files, "visual": tmp_path / "visual.onnx"}
    with pytest.raises(PrecisionError, match=r"visual\.onnx"):
        build_from_engines(source, networks, ExportOptions(tmp_path / "out", "int8", [clip]))
    assert not (tmp_path / "out").exists()


def stop(*_: Any, **__: Any) -> Any:
    raise ParityError("stopped here")


def test_no_macs_are_counted_for_calibration(
    source: Source, exported: Exported, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.manifest.macs_by_type", stop)
    files = {
        name: Path(shutil.copyfile(path, tmp_path / path.name))
        for name, path in exported.files.items()
    }
    convert(files, source, precision="int8-gpu", clips=[clip])
    kinds = {node.op_type for node in onnx.load(files["face"]).graph.node}
    assert "QuantizeLinear" in kinds
