"""Worker process of `processes.run_job`: run one job, and print its times as JSON."""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.harness.processes import REPEAT_S, PassResult
from mfer_edge.bench.machine import peak_memory
from mfer_edge.errors import MferError


def run(opener: str, arguments: Sequence[str]) -> None:
    """Run a job in this process, and print what `run_job` reads."""
    module, function = opener.split(":")
    one_pass = getattr(importlib.import_module(module), function)(*arguments)
    one_pass()
    first_pass_end = time.time()
    passes: list[tuple[float, PassResult]] = []
    end_s = time.perf_counter() + REPEAT_S
    while not passes or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        result = one_pass()
        seconds = time.perf_counter() - start_s
        passes.append((seconds, result if isinstance(result, PassResult) else PassResult()))
    passes.sort(key=lambda timed: timed[0])
    _, median_pass = passes[len(passes) // 2]
    measured = {
        "first_pass_end": first_pass_end,
        "pass_s": statistics.median(seconds for seconds, _ in passes),
        "peak_bytes": peak_memory() or 0,
    }
    print("\n" + json.dumps(measured | asdict(median_pass)))


if __name__ == "__main__":
    try:
        run(sys.argv[1], sys.argv[2:])
    except MferError as error:
        sys.exit(str(error))
