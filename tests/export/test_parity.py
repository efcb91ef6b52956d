"""The parity gate: it passes what is right, and stops what was broken on purpose."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.build import save_proven
from export.parity import Difference, Parity, ParityError, measure
from mfer_edge.bundle import ENGINES
from mfer_edge.errors import MferError
from tests.export.conftest import Built, Exported
from tests.paths import shared_data
from train.labels import EMOTIONS
from train.model import EmotionModel

Damage = Callable[[onnx.ModelProto], None]

WHOLE = Parity(tuple(Difference(name, "scores", 1e-6, 1.0) for name in ENGINES), 3, 3, 1e-6)
REAL = ("01-01-01-01-01-02-01", "01-01-01-01-01-02-04", "01-01-05-02-02-01-01",
        "01-01-06-02-01-02-04")  # fmt: skip


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
    parity = measure(fp32.bundle, model, real_clips)
    assert parity.readings == parity.same_label >= len(real_clips)
    assert parity.max_score <= 1e-3
    assert parity.failures("fp32") == []


def test_int8_gives_pytorchs_labels_on_real_clips(
    int8: Built, model: EmotionModel, real_clips: list[Path]
) -> None:
    parity = measure(int8.bundle, model, real_clips)
    assert parity.readings == parity.same_label >= len(real_clips)
    assert parity.failures("int8") == []


def test_a_good_export_has_no_failures() -> None:
    assert WHOLE.failures("fp32") == WHOLE.failures("int8") == []


@pytest.mark.parametrize("precision", ["fp32", "int8"])
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


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("max_abs", "cosine"),
    [(0.5, 0.97), (float("nan"), float("nan")), (1e-6, float("nan")), (float("nan"), 1.0)],
)
def test_an_engine_out_of_tolerance_is_named(precision: str, max_abs: float, cosine: float) -> None:
    wrong = Difference("audio", "embedding", max_abs, cosine)
    (failure,) = replace(WHOLE, differences=(*WHOLE.differences, wrong)).failures(precision)
    assert failure.startswith("audio.embedding: ")


def test_all_failures_are_said_at_once() -> None:
    wrong = Difference("face", "embedding", 1.0, 0.5)
    parity = Parity((*WHOLE.differences, wrong), 3, 1, 0.5)
    assert len(parity.failures("fp32")) == 3


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


def attempt(
    name: str,
    damage: Damage,
    precision: str,
    model: EmotionModel,
    exported: Exported,
    clip: Path,
    out: Path,
) -> None:
    graph = onnx.load(exported.files[name])
    before = graph.SerializeToString()
    damage(graph)
    assert graph.SerializeToString() != before
    broken = out.parent / f"{name}.onnx"
    onnx.save(graph, broken)
    try:
        save_proven(model, {**exported.files, name: broken}, precision, [clip], out)
    finally:
        broken.unlink()


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
    model: EmotionModel,
    exported: Exported,
    clip: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(ParityError, match=rf"\b{name}\."):
        attempt(name, damage, precision, model, exported, clip, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_scores_is_named_and_nothing_is_written(
    model: EmotionModel, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(MferError, match=r"\bfusion\b"):
        attempt("fusion", renamed("scores"), "fp32", model, exported, clip, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_bundle_that_is_there(
    model: EmotionModel, exported: Exported, fp32: Built, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(fp32.bundle.folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ParityError, match="visual"):
        attempt("visual", flipped, "fp32", model, exported, clip, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]
