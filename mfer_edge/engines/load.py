"""Loading of a bundle's engines on the best device that works, in the background if wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mfer_edge.bundle import Bundle
from mfer_edge.cpu import usable_threads
from mfer_edge.engines.base import Engine
from mfer_edge.engines.graph_file import check_graph
from mfer_edge.engines.interface import check_described, check_interface
from mfer_edge.engines.malloc import memory_returned
from mfer_edge.engines.onnx import (
    PROVIDER_OF_DEVICE,
    OnnxEngine,
    import_onnxruntime,
    providers_for,
)
from mfer_edge.errors import EngineError
from mfer_edge.manifest import ENGINES

ACCELERATED = ("face", "audio")
"""Engines that gain from a second CPU thread, and from a GPU. A call of the others takes less time
than the way to a GPU and back, and the detector's inputs change size from call to call."""


@dataclass(frozen=True)
class LoadedEngines:
    """The engines of a bundle, and where they run."""

    bundle: Bundle
    engines: Mapping[str, Engine]  # one for each of `ENGINES`
    device: str = "cpu"  # where the accelerated ones run: `cpu`, `cuda` or `tensorrt`
    threads: int = 1  # CPU threads of each accelerated one
    load_s: float = 0.0  # seconds that opening and loading took
    notes: tuple[str, ...] = ()  # what could not be had as asked


def load(
    bundle: Bundle | Path | str | None = None, device: str = "auto", threads: int = 0
) -> LoadedEngines:
    """Open a bundle and load its engines.

    Args:
        bundle: opened, or its folder; by default the compact bundle in the package.
        device: where the accelerated engines run: `cpu`, `cuda`, `tensorrt` (the bundle's plans),
            or `auto`, the best of them that works.
        threads: CPU threads, at most one for each core; 0 takes all cores that this process may
            use.

    Raises:
        BundleError: the bundle is not whole.
        EngineError: the device can't be used, or an engine does not load.
    """
    start = time.perf_counter()
    asked, threads = threads, usable_threads(threads)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    notes: list[str] = []
    if asked > threads:
        cores = "1 core" if threads == 1 else f"{threads} cores"
        notes.append(f"{asked} threads were asked for, and {cores} used: there are no more")
    *better, last = _devices_to_try(opened, device)
    for choice in better:
        try:
            engines = load_engines(opened, choice, threads)
            break
        except EngineError as error:
            notes.append(f"--device auto could not take {choice}: {error}")
    else:
        choice, engines = last, load_engines(opened, last, threads)
    load_s = time.perf_counter() - start
    return LoadedEngines(opened, engines, choice, threads, load_s, tuple(notes))


@dataclass(frozen=True)
class Loading:
    """A bundle whose engines are loading; the calls wait, and raise what `load` raises."""

    bundle: Callable[[], Bundle]
    engines: Callable[[], LoadedEngines]
    threads: int  # as in `LoadedEngines`


@contextmanager
def loading(
    bundle: Path | str | None = None, device: str = "auto", threads: int = 0
) -> Iterator[Loading]:
    """Context manager: `load` in a thread of its own.

    ONNX Runtime makes an engine without Python's lock, so that the block can import modules
    meanwhile.

    Raises:
        EngineError: ONNX Runtime is not installed.
    """
    start = time.perf_counter()
    import_onnxruntime()  # here: two threads that import hold each other up
    with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
        opened = thread.submit(Bundle.open, bundle)

        def engines() -> LoadedEngines:
            loaded = load(opened.result(), device, threads)
            return replace(loaded, load_s=time.perf_counter() - start)

        loaded = thread.submit(engines)
        yield Loading(opened.result, loaded.result, usable_threads(threads))


def load_engines(
    bundle: Bundle, device: str = "cpu", threads: int = 1, *, described: bool = True
) -> dict[str, Engine]:
    """Load every engine of a bundle, by name.

    Args:
        device: where the accelerated ones run: `cpu`, `cuda` or `tensorrt`.
        threads: CPU threads for each of them.
        described: check that they are what the manifest says and fit together. The parity gate
            names all that is wrong itself.

    Raises:
        EngineError: the device can't be used, or an engine does not load.
    """
    providers, cpu = providers_for(device), providers_for("cpu")
    if described:
        check_interface(bundle.manifest)
    if device == "tensorrt":
        _check_plans(bundle)

    def load_one(name: str) -> Engine:
        if device == "tensorrt" and name in ACCELERATED:
            return _plan_engine(bundle, name)
        path = bundle.engine_path(name)
        check_graph(path)
        if name in ACCELERATED:
            engine = OnnxEngine(path, providers, threads)
        else:
            engine = OnnxEngine(path, cpu, threads=1, large=False)
        if described:
            check_described(name, engine, bundle.manifest.engines[name])
        return engine

    with (
        memory_returned(bundle.manifest.weights_bytes),
        ThreadPoolExecutor(len(ACCELERATED)) as pool,
    ):
        parallel = device == "cpu" and threads > 1  # on a GPU this is untested
        loaded = (pool.map if parallel else map)(load_one, ENGINES)
        return dict(zip(ENGINES, loaded, strict=True))


def _check_plans(bundle: Bundle) -> None:
    from mfer_edge.engines.tensorrt_target import check_plans, this_target

    check_plans(bundle, ACCELERATED, this_target())


def _plan_engine(bundle: Bundle, name: str) -> Engine:
    from mfer_edge.engines.tensorrt import TensorRtEngine

    plan = bundle.manifest.plans[name]
    return TensorRtEngine(bundle.folder / plan.file, plan)


def _devices_to_try(bundle: Bundle, device: str) -> list[str]:
    """Devices in the order in which to try them."""
    if device != "auto":
        return [device]
    cuda = providers_for("auto")[0] == PROVIDER_OF_DEVICE["cuda"]
    return ["tensorrt"] * bool(bundle.manifest.plans) + ["cuda"] * cuda + ["cpu"]
