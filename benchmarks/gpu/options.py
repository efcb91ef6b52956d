"""Command line of the GPU benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.options import GPU_PRECISIONS
from train.presets import PRESETS

PARTS = ("pytorch", "compiled", "rtx", "tensorrt", "pipeline")  # that may be left out


@dataclass(frozen=True)
class GpuOptions:
    """What to measure, and how."""

    preset: str
    bundles: tuple[Path, ...]  # of one model; empty: export some
    precisions: tuple[str, ...]  # of those that are exported
    checkpoint: Path | None  # of that model
    clips: tuple[Path, ...]  # empty: the samples
    device: str  # `cuda` or `cpu`
    runs: int  # of each call, at most
    without: frozenset[str]  # of PARTS
    work: Path | None  # folder for exported bundles; None: a temporary one
    json: Path | None
    arguments: tuple[str, ...]  # as given on the command line


def parse(arguments: Sequence[str], description: str | None) -> GpuOptions:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="of one model")
    parser.add_argument(
        "--precision", choices=GPU_PRECISIONS, action="append", help="[default: all]"
    )
    parser.add_argument("--checkpoint", type=Path, help="of that model, trained elsewhere")
    parser.add_argument("--clip", type=Path, action="append", default=[])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--runs", type=int, default=200, help="of each call, at most")
    parser.add_argument("--without", choices=PARTS, action="append", default=[])
    parser.add_argument("--work", type=Path, help="folder in which exported bundles stay")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs: 1 or more")
    return GpuOptions(
        preset=options.preset,
        bundles=tuple(options.bundle),
        precisions=tuple(options.precision or GPU_PRECISIONS),
        checkpoint=options.checkpoint,
        clips=tuple(options.clip),
        device=options.device,
        runs=options.runs,
        without=frozenset(options.without),
        work=options.work,
        json=options.json,
        arguments=tuple(arguments),
    )
