"""Native TensorRT as a backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.gpu.backends import Backend, attempt
from export.parity import Call
from export.targets.tensorrt import add_plans
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import ACCELERATED, load_engines
from mfer_edge.engines.onnx import providers_for
from mfer_edge.errors import EngineError


class TensorRtRunner:
    """An engine in native TensorRT, which manages its own device buffers."""

    note = ""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run it; the engine copies there and back."""
        return self._engine(**arrays)

    def bind(self, call: Call) -> Callable[[], object]:
        """Unavailable.

        Raises:
            EngineError: always.
        """
        raise EngineError("the TensorRT engine manages its own device buffers")


def tensorrt_backends(bundles: dict[str, Bundle]) -> list[Backend]:
    """List the TensorRT backends of bundles that have TensorRT engines, by precision."""
    return [
        Backend("TensorRT", precision, partial(_open_plan, bundle), engines=ACCELERATED)
        for precision, bundle in bundles.items()
        if bundle.manifest.plans
    ]


def _open_plan(bundle: Bundle, name: str) -> TensorRtRunner:
    return TensorRtRunner(load_engines(bundle, "tensorrt")[name])


def with_plans(
    bundles: dict[str, Bundle], folder: Path, not_run: dict[str, str]
) -> dict[str, Bundle]:
    """Build TensorRT engines for bundles that have none, where TensorRT is installed.

    Args:
        folder: for the bundles with engines.
        not_run: gets what is unavailable, and why.
    """
    with attempt("TensorRT", not_run):
        providers_for("tensorrt")
    if "TensorRT" in not_run:
        return bundles
    built = dict(bundles)
    for precision, bundle in bundles.items():
        if not bundle.manifest.plans:
            with attempt(f"TensorRT {precision}", not_run):
                built[precision] = add_plans(bundle, folder / f"{bundle.folder.name}-tensorrt")
    return built
