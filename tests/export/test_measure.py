"""Parity with PyTorch: sound exports pass, damaged ones are stopped."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from export.checkpoint import Source
from export.measure import measure
from export.parity import ParityError
from export.torch_reference import reference_engines
from mfer_edge.errors import MferError
from mfer_edge.manifest import ENGINES
from tests.export.conftest import Built
from tests.export.damage import (
    Damage,
    drop_embedding,
    embedding_float64,
    embedding_infinite,
    export_damaged,
    extra_output,
    fixed_batch_size,
    flip_one_element,
    keep_pytorch_gate_order,
    negate_largest_weight,
    rename_output,
    reset_before_product,
    roll_labels,
    scores_nan,
    scores_reshaped,
)
from tests.export.exports import Exported
from tests.support.paths import shared_data
from train.models.emotion_model import EmotionModel

REAL = ("01-01-01-01-01-02-01", "01-01-06-02-01-02-04")


@pytest.fixture(scope="module")
def real_clips() -> list[Path]:
    return [shared_data("RAVDESS_AV", f"{name}.mp4") for name in REAL]


def test_fp32_equals_pytorch_on_the_samples(fp32: Built, samples: list[Path]) -> None:
    parity = fp32.parity
    assert parity.readings == parity.same_label == 2 * len(samples)
    assert parity.max_score <= 1e-3
    assert {d.engine for d in parity.differences} == set(ENGINES)
    assert max(d.max_abs for d in parity.differences) <= 1e-3


def test_int8_has_pytorchs_labels_on_the_samples(int8: Built, samples: list[Path]) -> None:
    parity = int8.parity
    assert parity.readings == parity.same_label == 2 * len(samples)
    assert parity.failures("int8") == []
    assert parity.failures("fp32")  # but it is not fp32


def test_fp32_equals_pytorch_on_real_clips(
    fp32: Built, model: EmotionModel, real_clips: list[Path]
) -> None:
    parity = measure(fp32.bundle, reference_engines(model), real_clips)
    assert parity.readings == parity.same_label >= len(real_clips)
    assert parity.max_score <= 1e-3
    assert parity.failures("fp32") == []


def test_int8_has_pytorchs_labels_on_real_clips(
    int8: Built, model: EmotionModel, real_clips: list[Path]
) -> None:
    parity = measure(int8.bundle, reference_engines(model), real_clips)
    assert parity.readings == parity.same_label >= len(real_clips)
    assert parity.failures("int8") == []


@pytest.mark.parametrize(
    ("name", "damage", "precision"),
    [
        ("face", negate_largest_weight, "fp32"),
        ("face", negate_largest_weight, "int8"),
        ("face", flip_one_element, "fp32"),
        ("visual", keep_pytorch_gate_order, "fp32"),
        ("visual", rename_output("embedding"), "fp32"),
        ("audio", flip_one_element, "fp32"),
        ("audio", negate_largest_weight, "int8"),
        ("visual", reset_before_product, "fp32"),
        ("audio", drop_embedding, "int8"),
        ("fusion", roll_labels, "int8"),
        ("rnet", negate_largest_weight, "fp32"),
    ],
)
def test_a_damaged_engine_is_named_and_nothing_is_written(
    name: str,
    damage: Damage,
    precision: str,
    source: Source,
    exported: Exported,
    clip: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(ParityError, match=rf"\b{name}\."):
        export_damaged({name: damage}, precision, source, exported, clip, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damages", "said"),
    [
        (
            {
                "rnet": negate_largest_weight,
                "face": embedding_float64,
                "visual": embedding_infinite,
                "audio": scores_nan,
            },
            [
                r"rnet\.offsets: max-abs \S+, cosine [^;]*",
                r"face\.embedding: float64 where PyTorch gives float32",
                r"visual\.embedding: infinite",
                r"audio\.scores: NaN",
                r"readings: not compared, because face, visual, audio can't be used",
            ],
        ),
        (
            {
                "face": fixed_batch_size,
                "audio": rename_output("embedding"),
                "fusion": scores_reshaped,
            },
            [
                r"face: .*inserted_Reshape[^;]*",
                r"audio\.embedding: missing",
                r"audio\.other: an unexpected output",
                r"fusion\.scores: \(1, 1, 7\) where PyTorch gives \(1, 7\)",
                r"readings: not compared, because face, audio, fusion can't be used",
            ],
        ),
        (
            {"visual": extra_output, "fusion": negate_largest_weight},
            [
                r"visual\.linear\w*: an unexpected output",
                r"fusion\.scores: max-abs \S+, cosine [^;]*",
                r"scores: one differs by 0\.",
            ],
        ),
    ],
)
def test_all_failures_are_named_in_one_line(
    damages: dict[str, Damage],
    said: list[str],
    source: Source,
    exported: Exported,
    clip: Path,
    tmp_path: Path,
) -> None:
    """The pipeline does not run with unusable engines: no traceback."""
    with pytest.raises(ParityError) as raised:
        export_damaged(damages, "fp32", source, exported, clip, tmp_path / "out")
    assert re.search("; .*".join(said), str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_does_not_match_its_engines(
    fp32: Built, model: EmotionModel, clip: Path
) -> None:
    manifest = fp32.bundle.manifest
    face, audio = manifest.engines["face"], manifest.engines["audio"]
    (faces,) = face.inputs
    engines = {
        **manifest.engines,
        "face": replace(face, inputs=(replace(faces, shape=(20, *faces.shape[1:])),)),
        "audio": replace(audio, outputs=tuple(t for t in audio.outputs if t.name != "embedding")),
    }
    bundle = replace(fp32.bundle, manifest=replace(manifest, engines=engines))
    failures = measure(bundle, reference_engines(model), [clip]).failures("fp32")
    assert failures == [
        "face.faces: uint8 ('faces', 1, 48, 48) where the manifest has uint8 (20, 1, 48, 48)",
        "audio.embedding: float32 (1, 384) where the manifest has nothing",
    ]


def test_an_engine_without_scores_is_named_and_nothing_is_written(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(MferError, match=r"\bfusion\b"):
        export_damaged(
            {"fusion": rename_output("scores")}, "fp32", source, exported, clip, tmp_path / "out"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_does_not_replace_a_bundle(
    source: Source, exported: Exported, fp32: Built, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(fp32.bundle.folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ParityError, match="visual"):
        export_damaged({"visual": negate_largest_weight}, "fp32", source, exported, clip, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]
