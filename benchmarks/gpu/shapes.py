"""What a shape costs that an engine has not seen, by how cuDNN's algorithms are chosen.

`python -m benchmarks.gpu.shapes BUNDLE` calls the face and the voice engine of a bundle on the CUDA
provider with one size after another, each for the first time and then again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.script import log, machine_line
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.bench.machine import describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.load import ACCELERATED
from mfer_edge.engines.onnx import (
    PROVIDER_OF_DEVICE,
    PROVIDER_OPTIONS,
    import_onnxruntime,
    open_session,
    providers_for,
)
from mfer_edge.errors import MferError
from mfer_edge.speech.vad import SAMPLE_RATE

SEARCHES = ("EXHAUSTIVE", "HEURISTIC", "DEFAULT")
SIZES = {"face": range(1, 13), "audio": range(SAMPLE_RATE, 4 * SAMPLE_RATE, SAMPLE_RATE // 4)}
AGAIN = 5  # calls of a size after the first
HEADINGS = (
    "engine | search | first call of the engine | first of another size, median | again, median"
)


def rows(bundle: Bundle) -> Iterable[tuple[str, ...]]:
    """Time every engine with every search: rows of the table, in ms.

    Raises:
        EngineError: there is no CUDA provider.
    """
    for name in ACCELERATED:
        for search in SEARCHES:
            log(f"{name}, {search}")
            session = _session(bundle.engine_path(name), search)
            first_ms: list[float] = []
            again_ms: list[float] = []
            for size in SIZES[name]:
                call = _call(bundle.manifest.engines[name].inputs, size)
                first_ms.append(_timed(session, call))
                again_ms.append(min(_timed(session, call) for _ in range(AGAIN)))
            median_ms = statistics.median(first_ms[1:]), statistics.median(again_ms)
            yield name, search, *(f"{ms:.3g}" for ms in (first_ms[0], *median_ms))


def _session(path: Path, search: str) -> Any:
    cuda = PROVIDER_OF_DEVICE["cuda"]
    chosen = {cuda: {**PROVIDER_OPTIONS[cuda], "cudnn_conv_algo_search": search}}
    options = import_onnxruntime().SessionOptions()
    return open_session(path, options, providers_for("cuda"), chosen)


def _call(inputs: Sequence[TensorSpec], size: int) -> dict[str, np.ndarray]:
    """Arrays whose one free dimension has this size."""
    return {tensor.name: np.ones(tensor.with_size(size), tensor.dtype) for tensor in inputs}


def _timed(session: Any, call: dict[str, np.ndarray]) -> float:
    start_s = time.perf_counter()
    session.run(None, call)
    return (time.perf_counter() - start_s) * 1000


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.shapes", description=__doc__)
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args(arguments)
    try:
        table = markdown_table(HEADINGS, list(rows(Bundle.open(options.bundle))), align="llrrr")
    except MferError as error:
        log(f"error: {error}")
        return 1
    print(document(machine_line(describe_machine()), table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
