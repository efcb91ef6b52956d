"""The parity gate: it passes what is right, and stops what was broken on purpose."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from export.build import build_from_engines
from export.checkpoint import Source
from export.measure import measure
from export.options import ExportOptions
from export.parity import (
    TOLERANCES,
    Difference,
    Distance,
    Failure,
    Parity,
    ParityError,
    tolerance,
)
from export.torch_reference import reference_engines
from mfer_edge.errors import MferError
from mfer_edge.manifest import ENGINES, MODEL_ENGINES
from tests.export.conftest import Built, Exported
from tests.support.paths import shared_data
from train.labels import EMOTIONS
from train.models.emotion_model import EmotionModel

Damage = Callable[[onnx.ModelProto], None]

WHOLE = Parity(tuple(Difference(name, "scores", 1e-6, 1.0, 5) for name in ENGINES), 3, 3, 1e-6)
REAL = ("01-01-01-01-01-02-01", "01-01-06-02-01-02-04")


@pytest.fixture(scope="module")
def real_clips() -> list[Path]:
    return [shared_data("RAVDESS_AV", f"{name}.mp4") for name in REAL]


def test_single_precision_is_pytorch_on_the_samples(fp32: Built, samples: list[Path]) -> None:
    parity = fp32.parity
    assert parity.readings == parity.same_label == len(samples)
    assert parity.max_score <= 1e-3
    assert {d.engine for d in parity.differences} == set(ENGINES)
    assert max(d.max_abs for d in parity.differences) <= 1e-3


def test_int8_gives_pytorchs_labels_on_the_samples(int8: Built, samples: list[Path]) -> None:
    parity = int8.parity
    assert parity.readings == parity.same_label == len(samples)
    assert parity.failures("int8") == []
    assert parity.failures("fp32")  # it is not taken for more than it is


def test_single_precision_is_pytorch_on_real_clips(
    fp32: Built, model: EmotionModel, real_clips: list[Path]
) -> None:
    parity = measure(fp32.bundle, reference_engines(model), real_clips)
    assert parity.readings == parity.same_label >= len(real_clips)
    assert parity.max_score <= 1e-3
    assert parity.failures("fp32") == []


def test_int8_gives_pytorchs_labels_on_real_clips(
    int8: Built, model: EmotionModel, real_clips: list[Path]
) -> None:
    parity = measure(int8.bundle, reference_engines(model), real_clips)
    assert parity.readings == parity.same_label >= len(real_clips)
    assert parity.failures("int8") == []


def test_a_good_export_has_no_failures() -> None:
    assert [WHOLE.failures(precision) for precision in TOLERANCES] == [[]] * len(TOLERANCES)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_score": 0.2}, "scores: one differs by 0.2"),
        ({"max_score": float("nan")}, "scores: one differs by nan"),
        ({"same_label": 2}, "labels: 2 of 3"),
    ],
)
def test_whatever_is_out_of_tolerance_is_said(
    precision: str, change: dict[str, float], said: str
) -> None:
    (failure,) = replace(WHOLE, **change).failures(precision)
    assert said in failure


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("max_abs", "cosine"),
    [
        (0.5, 0.97),
        (float("nan"), float("nan")),
        (1e-6, float("nan")),
        (float("nan"), 1.0),
        (float("inf"), 1.0),
    ],
)
def test_an_engine_out_of_tolerance_is_named(precision: str, max_abs: float, cosine: float) -> None:
    wrong = Difference("audio", "embedding", max_abs, cosine, 5)
    (failure,) = replace(WHOLE, differences=(*WHOLE.differences, wrong)).failures(precision)
    assert failure.startswith("audio.embedding: ")


def test_all_failures_are_said_at_once() -> None:
    wrong = Difference("face", "embedding", 1.0, 0.5, 5)
    broken = (Failure("audio", "embedding", "missing"), Failure("vad", "", "does not run"))
    parity = Parity((*WHOLE.differences, wrong), 3, 1, 0.5, broken)
    assert parity.failures("fp32") == [
        "vad: does not run",
        "face.embedding: max-abs 1, cosine 0.500000",
        "audio.embedding: missing",
        "labels: 1 of 3 readings agree",
        "scores: one differs by 0.5",
    ]


@pytest.mark.parametrize("precision", TOLERANCES)
def test_what_finds_faces_and_speech_has_single_precision_in_every_bundle(precision: str) -> None:
    for name in ENGINES:
        off = Difference(name, "scores", 0.01, 0.9995, 5)
        allowed = name in MODEL_ENGINES and precision != "fp32"
        assert (off.failure(precision) is None) is allowed, name
        assert (
            tolerance(name, precision) is TOLERANCES[precision if name in MODEL_ENGINES else "fp32"]
        )


def test_a_narrower_type_is_never_allowed_less() -> None:
    fp32, fp16, int8 = (TOLERANCES[name] for name in ("fp32", "fp16", "int8"))
    assert fp32.cosine > fp16.cosine > int8.cosine
    assert fp32.max_abs <= fp16.max_abs <= int8.max_abs
    assert fp32.score < fp16.score < int8.score
    assert fp32.inner < fp16.inner < int8.inner
    assert TOLERANCES["int8-gpu"] == int8


def test_labels_of_random_weights_are_chance_but_their_scores_are_not() -> None:
    parity = replace(WHOLE, same_label=1)
    assert parity.failures("fp32") == ["labels: 1 of 3 readings agree"]
    assert parity.failures("fp32", trained=False) == []
    (failure,) = replace(parity, max_score=0.5).failures("fp32", trained=False)
    assert failure.startswith("scores: ")


@given(
    arrays.arrays(np.float32, (2, 3, 40), elements=strategies.floats(-100, 100, width=32)),
)
def test_sums_over_calls_are_those_of_all_numbers_at_once(pair: np.ndarray) -> None:
    total = sum((Distance.between(a, b) for a, b in zip(*pair, strict=True)), Distance())
    a, b = pair.astype(np.float64).reshape(2, -1)
    assert total.calls == 3
    assert total.max_abs == np.abs(a - b).max()
    size, length = np.linalg.norm(a) * np.linalg.norm(b), np.linalg.norm(b)
    if size > 1e-6:
        assert total.cosine == pytest.approx(a @ b / size, abs=1e-9)
        assert total.relative == pytest.approx(np.linalg.norm(a - b) / length, rel=1e-9)


def test_zeros_are_right_only_where_zeros_are_due() -> None:
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert (Distance.between(zeros, zeros).cosine, Distance.between(zeros, zeros).relative) == (
        1,
        0,
    )
    assert Distance.between(zeros, ones).cosine == Distance.between(ones, zeros).cosine == 0
    assert Distance.between(ones, zeros).relative == np.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_not_forgotten(wrong: float) -> None:
    ones = np.ones(3, np.float32)
    total = Distance.between(np.float32([1, wrong, 1]), ones) + Distance.between(ones, ones)
    assert not np.isfinite(total.max_abs)
    assert total.relative == np.inf


def test_the_table_marks_what_failed() -> None:
    wrong = Difference("audio", "embedding", 0.25, 0.5, 7)
    broken = (Failure("face", "", "does not run"),)
    parity = Parity((*WHOLE.differences, wrong), 3, 2, 1e-6, broken)
    lines = parity.table("int8")
    (row,) = (line.split() for line in lines if line.startswith("audio    embedding"))
    assert row == ["audio", "embedding", "0.25", "0.5000000", "7", "cosine", ">=", "0.98", "FAILED"]
    (row,) = (line.split() for line in lines if line.startswith("pnet"))
    assert row[-6:] == ["cosine", ">=", "0.99999,", "max-abs", "<=", "0.001"]
    assert "labels: 2 of 3 readings agree" in lines[-3]
    assert lines[-2:] == ["FAILED face: does not run", "FAILED labels: 2 of 3 readings agree"]
    assert sum("FAILED" in line for line in lines) == len(parity.failures("int8")) == 3
    assert not any("FAILED" in line for line in WHOLE.table("int8"))


def test_the_manifest_keeps_how_much_was_compared() -> None:
    figures = WHOLE.figures()
    assert figures["audio.calls"] == 5 and figures["readings"] == 3
    assert figures["audio.scores.max_abs"] == 1e-6 and figures["audio.scores.cosine"] == 1


def test_failing_engines_have_a_call_to_show(fp32: Built) -> None:
    parity = fp32.parity
    assert set(parity.worst_calls) == set(ENGINES) and parity.failed_calls("fp32") == {}
    wrong = Difference("audio", "embedding", 1.0, 0.5, 5)
    ((name, call),) = (
        replace(parity, differences=(*parity.differences, wrong)).failed_calls("fp32").items()
    )
    assert name == "audio"
    assert call["wave"].shape[0] == 1 and call["wave"].dtype == np.float32


def test_an_engine_that_was_never_tried_is_not_proven() -> None:
    parity = replace(WHOLE, differences=WHOLE.differences[:-2])
    failures = parity.failures("fp32")
    assert [failure.split(":")[0] for failure in failures] == list(ENGINES[-2:])
    assert Parity((), 0, 0, 0.0).failures("fp32")


# Each breaks one network in a way that a slip in the export could.


def weight(model: onnx.ModelProto, largest: int = 0) -> onnx.TensorProto:
    """The largest weight by its size, or the second largest and so on."""
    floats = [w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
    return sorted(floats, key=lambda w: -np.prod(w.dims))[largest]


def changed(tensor: onnx.TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    values = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def flipped(model: onnx.ModelProto) -> None:
    changed(weight(model), np.negative)


def one_number_flipped(model: onnx.ModelProto) -> None:
    def flip(values: np.ndarray) -> np.ndarray:
        values.flat[np.abs(values).argmax()] *= -1
        return values

    changed(weight(model), flip)


def gates_in_pytorchs_order(model: onnx.ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.op_type == "GRU"]
    (recurrent,) = (w for w in model.graph.initializer if w.name == nodes[-1].input[2])
    width = recurrent.dims[1] // 3
    changed(recurrent, lambda r: np.concatenate([r[:, width : 2 * width], r[:, :width],
                                                 r[:, 2 * width :]], 1))  # fmt: skip


def reset_before_the_product(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "linear_before_reset":
                attribute.i = 0


def labels_in_another_order(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if len(EMOTIONS) in tensor.dims:
            axis = list(tensor.dims).index(len(EMOTIONS))
            changed(tensor, functools.partial(np.roll, shift=1, axis=axis))


def renamed(name: str) -> Damage:
    """Give an output another name."""

    def rename(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["other" if output == name else output for output in node.output]
            node.input[:] = ["other" if taken == name else taken for taken in node.input]
        for output in model.graph.output:
            output.name = "other" if output.name == name else output.name

    return rename


def embedding_dropped(model: onnx.ModelProto) -> None:
    (gone,) = (output for output in model.graph.output if output.name == "embedding")
    model.graph.output.remove(gone)


def followed(
    model: onnx.ModelProto, value: str, kind: str, operand: object = None, **attributes: int
) -> None:
    """Put an operator after a value; what it gives has the value's name from there on."""
    nodes = list(model.graph.node)
    (at,) = (index for index, node in enumerate(nodes) if value in node.output)
    before = f"{value} before {kind}"
    nodes[at].output[:] = [before if output == value else output for output in nodes[at].output]
    inputs = [before]
    if operand is not None:
        inputs.append(f"{value} operand")
        kept = np.asarray(operand, np.int64 if isinstance(operand, list) else np.float32)
        model.graph.initializer.append(numpy_helper.from_array(kept, inputs[1]))
    node = helper.make_node(kind, inputs, [value], name=f"inserted_{kind}", **attributes)
    model.graph.node.insert(at + 1, node)


def output_type(model: onnx.ModelProto, name: str, kind: int) -> None:
    (output,) = (output for output in model.graph.output if output.name == name)
    output.CopyFrom(helper.make_tensor_value_info(name, kind, None))


def not_numbers(model: onnx.ModelProto) -> None:
    followed(model, "scores", "Mul", float("nan"))


def without_end(model: onnx.ModelProto) -> None:
    followed(model, "embedding", "Add", float("inf"))


def in_double(model: onnx.ModelProto) -> None:
    followed(model, "embedding", "Cast", to=TensorProto.DOUBLE)
    output_type(model, "embedding", TensorProto.DOUBLE)


def in_another_shape(model: onnx.ModelProto) -> None:
    followed(model, "scores", "Unsqueeze", [0])
    output_type(model, "scores", TensorProto.FLOAT)


def fit_for_twenty(model: onnx.ModelProto) -> None:
    followed(model, "embedding", "Reshape", [1, 192])
    output_type(model, "embedding", TensorProto.FLOAT)


def with_more(model: onnx.ModelProto) -> None:
    value = next(node.output[0] for node in model.graph.node if node.op_type == "Gemm")
    model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))


def attempt(
    damages: Mapping[str, Damage],
    precision: str,
    source: Source,
    exported: Exported,
    clip: Path,
    out: Path,
    bisect: bool = False,
) -> None:
    """Export with some networks damaged."""
    with tempfile.TemporaryDirectory() as folder:
        files = dict(exported.files)
        for name, damage in damages.items():
            graph = onnx.load(exported.files[name])
            before = graph.SerializeToString()
            damage(graph)
            assert graph.SerializeToString() != before
            files[name] = Path(folder) / f"{name}.onnx"
            onnx.save(graph, files[name])
        build_from_engines(source, files, ExportOptions(out, precision, [clip], bisect))


@pytest.mark.parametrize(
    ("name", "damage", "precision"),
    [
        ("face", flipped, "fp32"),
        ("face", flipped, "int8"),
        ("face", one_number_flipped, "fp32"),
        ("visual", gates_in_pytorchs_order, "fp32"),
        ("visual", renamed("embedding"), "fp32"),
        ("audio", one_number_flipped, "fp32"),
        ("audio", flipped, "int8"),
        ("visual", reset_before_the_product, "fp32"),
        ("audio", embedding_dropped, "int8"),
        ("fusion", labels_in_another_order, "int8"),
        ("rnet", flipped, "fp32"),
    ],
)
def test_a_broken_network_is_named_and_nothing_is_written(
    name: str,
    damage: Damage,
    precision: str,
    source: Source,
    exported: Exported,
    clip: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(ParityError, match=rf"\b{name}\."):
        attempt({name: damage}, precision, source, exported, clip, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damages", "said"),
    [
        (
            {"rnet": flipped, "face": in_double, "visual": without_end, "audio": not_numbers},
            [
                r"rnet\.offsets: max-abs \S+, cosine [^;]*",
                r"face\.embedding: float64 where PyTorch gives float32",
                r"visual\.embedding: infinite",
                r"audio\.scores: NaN",
                r"readings: not compared, because face, visual, audio can't be used",
            ],
        ),
        (
            {"face": fit_for_twenty, "audio": renamed("embedding"), "fusion": in_another_shape},
            [
                r"face: .*inserted_Reshape[^;]*",
                r"audio\.embedding: missing",
                r"audio\.other: an unexpected output",
                r"fusion\.scores: \(1, 1, 8\) where PyTorch gives \(1, 8\)",
                r"readings: not compared, because face, audio, fusion can't be used",
            ],
        ),
        (
            {"visual": with_more, "fusion": flipped},
            [
                r"visual\.linear\w*: an unexpected output",
                r"fusion\.scores: max-abs \S+, cosine [^;]*",
                r"scores: one differs by 0\.",
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_said_in_one_line(
    damages: dict[str, Damage],
    said: list[str],
    source: Source,
    exported: Exported,
    clip: Path,
    tmp_path: Path,
) -> None:
    """Where an engine can't take part, the chain is not run with it: no traceback."""
    with pytest.raises(ParityError) as raised:
        attempt(damages, "fp32", source, exported, clip, tmp_path / "out")
    assert re.search("; .*".join(said), str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_tells_of_another_engine_is_found_out(
    fp32: Built, model: EmotionModel, clip: Path
) -> None:
    manifest = fp32.bundle.manifest
    face, audio = manifest.engines["face"], manifest.engines["audio"]
    (faces,) = face.inputs
    engines = {
        **manifest.engines,
        "face": replace(face, inputs=(replace(faces, shape=(20, *faces.shape[1:])),)),
        "audio": replace(audio, outputs=audio.outputs[:1]),
    }
    bundle = replace(fp32.bundle, manifest=replace(manifest, engines=engines))
    failures = measure(bundle, reference_engines(model), [clip]).failures("fp32")
    assert failures == [
        "face.faces: uint8 ('faces', 1, 48, 48) where the manifest has uint8 (20, 1, 48, 48)",
        "audio.embedding: float32 (1, 256) where the manifest has nothing",
    ]


def test_a_network_without_scores_is_named_and_nothing_is_written(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(MferError, match=r"\bfusion\b"):
        attempt({"fusion": renamed("scores")}, "fp32", source, exported, clip, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_bundle_that_is_there(
    source: Source, exported: Exported, fp32: Built, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(fp32.bundle.folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ParityError, match="visual"):
        attempt({"visual": flipped}, "fp32", source, exported, clip, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]
