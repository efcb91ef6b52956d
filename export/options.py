"""Options of an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PRECISIONS = ("fp32", "fp16", "int8", "int8-gpu")
GPU_PRECISIONS = tuple(precision for precision in PRECISIONS if precision != "int8")


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported, and to where.

    `int8` scales activations dynamically, for CPUs, and stores the remaining weights as fp16.
    `int8-gpu` has static scales, calibrated on `clips`. MTCNN and the VAD stay in fp32 at every
    precision: a single changed detection would shift all crops after it.
    """

    out: Path  # the bundle's folder; replaced only if every check passes
    precision: str = "fp32"  # one of `PRECISIONS`
    clips: Sequence[Path] = ()  # real clips for parity and calibration; empty: the samples
    bisect: bool = False  # for engines that fail, find the first operator that diverges
    tensorrt: bool = False  # build TensorRT plans for this machine too, and check their parity
