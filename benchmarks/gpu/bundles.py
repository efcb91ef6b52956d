"""Bundles to measure: named ones, or exported from a preset in every precision."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.backends import attempt
from benchmarks.gpu.options import GpuOptions
from benchmarks.harness.script import log
from export.build import build_from_engines, export_engines
from export.checkpoint import Source, open_source
from export.options import ExportOptions
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError


def bundles_of(
    options: GpuOptions, clips: Sequence[Path], folder: Path, not_run: dict[str, str]
) -> tuple[dict[str, Bundle], Source]:
    """Open the named bundles, or export some.

    Args:
        clips: for calibration and parity of exported bundles.
        folder: for exported bundles.
        not_run: gets the precisions that failed, and why.

    Returns:
        The bundles by precision, and their model in PyTorch.

    Raises:
        MferError: there is no bundle, or they can't be used together.
    """
    if options.bundles:
        return _opened(options)
    return _exported(options, clips, folder, not_run)


def _opened(options: GpuOptions) -> tuple[dict[str, Bundle], Source]:
    opened = [Bundle.open(folder) for folder in options.bundles]
    manifest = opened[0].manifest
    source = open_source(manifest.name, options.checkpoint, random_init=not manifest.trained)
    named = {f"{b.manifest.precision} ({b.folder.name})": b for b in opened}
    if len(named) < len(opened) or any(b.manifest.name != manifest.name for b in opened):
        raise MferError("--bundle: name bundles of one model, in folders of different names")
    return named, source


def _exported(
    options: GpuOptions, clips: Sequence[Path], folder: Path, not_run: dict[str, str]
) -> tuple[dict[str, Bundle], Source]:
    # Trained weights of the full-size model are not in the repository.
    random_init = options.preset != "compact" and options.checkpoint is None
    source = open_source(options.preset, options.checkpoint, random_init=random_init)
    bundles = {}
    log(f"exporting {options.preset}")
    with tempfile.TemporaryDirectory() as temporary:
        graphs = export_engines(source.model, Path(temporary))
        for precision in options.precisions:
            log(f"exporting {options.preset} {precision}")
            with attempt(f"bundle {precision}", not_run):
                out = folder / f"{options.preset}-{precision}"
                wanted = ExportOptions(out, precision, clips)
                bundles[precision] = build_from_engines(source, graphs, wanted)[0]
    if not bundles:
        raise MferError("; ".join(not_run.values()))
    return bundles, source
