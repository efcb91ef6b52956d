"""Conversion of a bundle's exported engines from fp32 to another precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from export.calibration import record_calls
from export.checkpoint import Source
from export.manifest import create_manifest, unverified_bundle
from export.precision.fp16 import store_fp16, to_fp16
from export.precision.int8 import quantize_dynamic, quantize_static
from mfer_edge.manifest import MODEL_ENGINES

INT8_ENGINES = ("face", "audio")  # the other engines are too small to gain from int8

FP32_PRODUCTS = {"whisper-tiny-en": 4}
"""Matrix products at the start of a backbone that int8 leaves in fp32. Whisper: the attention of
the first layer, whose few large activations would take the resolution of all others. Over 160
RAVDESS recordings every label then agrees with fp32; scores change by 0.007 on average and by 0.05
at most."""


def convert(
    files: Mapping[str, Path], source: Source, *, precision: str, clips: Sequence[Path]
) -> None:
    """Convert exported engines in place.

    Args:
        files: fp32 engine files by name, all in one folder.
        source: the model that they were exported from.
        precision: one of `PRECISIONS`.
        clips: real clips that `int8-gpu` is calibrated on.

    Raises:
        PrecisionError: a weight or an activation does not fit the precision.
    """
    preset = source.model.preset
    fp32_products = {
        "face": FP32_PRODUCTS.get(preset.face, 0),
        "audio": FP32_PRODUCTS.get(preset.speech, 0),
    }
    if precision == "fp16":
        for name in MODEL_ENGINES:
            to_fp16(files[name])
    elif precision == "int8":
        for name in INT8_ENGINES:
            quantize_dynamic(files[name], skip=fp32_products[name])
        for name in MODEL_ENGINES:
            store_fp16(files[name])
    elif precision == "int8-gpu":
        bundle = unverified_bundle(files, create_manifest(source, files, count_macs=False))
        calls = record_calls(bundle, clips, INT8_ENGINES)
        for name in INT8_ENGINES:
            quantize_static(files[name], calls[name], skip=fp32_products[name])
