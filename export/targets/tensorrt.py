"""TensorRT plans of a bundle, built on the machine that will run them."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from export.card import read_card
from mfer_edge.bundle import Bundle, file_sha256, save_bundle
from mfer_edge.engines.load import ACCELERATED
from mfer_edge.engines.tensorrt_target import (
    Target,
    create,
    error_log,
    import_tensorrt,
    this_target,
)
from mfer_edge.errors import EngineError
from mfer_edge.manifest import Manifest, Plan, ShapeRange
from mfer_edge.outputs.files import check_output, make_folder, replacing
from mfer_edge.speech.vad import SAMPLE_RATE

WORKSPACE_MB = 1024  # limit of a layer's temporary GPU memory
MIN_SAMPLES = 400  # shortest speech that the backbones accept: one feature of emotion2vec
CPU_OPERATORS = ("MatMulInteger", "ConvInteger", "DynamicQuantizeLinear")  # not in TensorRT


def profiles_for(name: str, manifest: Manifest) -> tuple[dict[str, ShapeRange], ...]:
    """Optimization profiles for the shapes that sessions use.

    Several narrow ranges: with a single wide one, speech engines run at half the speed of ONNX
    Runtime. The largest covers a window and half a hop, for any hop up to the window.

    Args:
        name: `audio` or `face`.

    Returns:
        Profiles by input: disjoint, without gaps, smallest shapes first.
    """
    longest_s = min(1.5 * manifest.window_s, manifest.max_window_s)
    if name == "audio":
        smallest = max(int(manifest.min_speech_s * SAMPLE_RATE), MIN_SAMPLES)
        typical, largest = (math.ceil(s * SAMPLE_RATE) for s in (manifest.window_s, longest_s))
        shorter = [end for end in (typical // 4, typical // 2) if end > smallest]
    else:
        smallest = 1
        # Sampled frames may be late by one at either end of a window.
        largest = math.ceil(longest_s * manifest.frame_rate) + 1
        # Faces per hop: embeddings of earlier frames are cached.
        typical = math.ceil(manifest.hop_s * manifest.frame_rate)
        shorter = [1]
    profiles = []
    for opt, end in [*((end, end) for end in shorter), (typical, largest)]:
        sizes = (smallest, min(max(opt, smallest), end), end)
        profiles.append(
            {
                tensor.name: ShapeRange(*(tensor.with_size(size) for size in sizes))
                for tensor in manifest.engines[name].inputs
            }
        )
        smallest = end + 1
    return tuple(profiles)


def plan_name(name: str, target: Target) -> str:
    """File name of a plan, with its target: `audio-sm87-trt10.3.0.plan`."""
    return f"{name}-{_architecture(target)}-trt{target.tensorrt}.plan"


def _architecture(target: Target) -> str:
    return f"sm{target.gpu.compute_capability.replace('.', '')}"


def add_plans(
    bundle: Bundle,
    out: Path | None = None,
    workspace_mb: int = WORKSPACE_MB,
    timing_cache: Path | None = None,
) -> Bundle:
    """Build TensorRT plans for a bundle, and save the bundle with them.

    Args:
        out: folder of the new bundle; by default the bundle is replaced.
        workspace_mb, timing_cache: as for `build_plans`.

    Raises:
        EngineError: a plan can't be built here.
        BundleError: `out` can't be written, or something else is there.
        CardError: the bundle's card can't be read.
    """
    source, card = bundle.folder, read_card(bundle.folder)
    with tempfile.TemporaryDirectory() as work:
        plans = build_plans(bundle, Path(work), workspace_mb, timing_cache)
        files = {file.file: source / file.file for file in bundle.manifest.engines.values()}
        files |= {plan.file: Path(work) / plan.file for plan in plans.values()}
        return save_bundle(out or source, replace(bundle.manifest, plans=plans), files, card)


def build_plans(
    bundle: Bundle,
    folder: Path,
    workspace_mb: int = WORKSPACE_MB,
    timing_cache: Path | None = None,
) -> dict[str, Plan]:
    """Build TensorRT plans for this machine; this takes minutes.

    Args:
        folder: to write them to.
        workspace_mb: limit of a layer's temporary GPU memory, MB.
        timing_cache: file of TensorRT's kernel timings, which speeds up the next build; by default
            in the user's cache folder.

    Raises:
        EngineError: TensorRT or a GPU is missing, or TensorRT rejects an engine.
        OutputError: the timing cache can't be written.
    """
    for name in ACCELERATED:
        _check_operators(bundle.engine_path(name))
    target = this_target()
    cache = timing_cache or _cache_folder() / f"{_architecture(target)}-trt{target.tensorrt}.timing"
    make_folder(cache.parent, "TensorRT's timings")
    check_output(cache)  # fails before the long build
    plans = {}
    for name in ACCELERATED:
        file = folder / plan_name(name, target)
        profiles = profiles_for(name, bundle.manifest)
        build_plan(bundle.engine_path(name), file, profiles, workspace_mb, cache)
        plans[name] = Plan(
            file=file.name,
            sha256=file_sha256(file),
            bytes=file.stat().st_size,
            graph_sha256=bundle.manifest.engines[name].sha256,
            tensorrt=target.tensorrt,
            gpu=target.gpu.name,
            compute_capability=target.gpu.compute_capability,
            profiles=profiles,
        )
    return plans


def _check_operators(path: Path) -> None:
    """Refuse a graph that was quantized for CPUs.

    Raises:
        EngineError: it was.
    """
    operators = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    if found := sorted(operators.intersection(CPU_OPERATORS)):
        raise EngineError(
            f"{path}: its int8 operators are for CPUs ({', '.join(found)}); TensorRT takes a "
            "bundle that was exported with --fp16 or --int8-gpu"
        )


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfer-edge"


def build_plan(
    graph: Path,
    out: Path,
    profiles: tuple[dict[str, ShapeRange], ...],
    workspace_mb: int,
    cache: Path,
) -> None:
    """Build one plan, at the types of its graph, and update the timing cache.

    Raises:
        EngineError: TensorRT rejects the graph.
        OutputError: the timing cache can't be written.
    """
    trt = import_tensorrt()
    log = error_log(trt)
    builder = create(trt.Builder, log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        raise EngineError(f"{graph}: TensorRT can't read it: {_parser_error(parser)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; it is less precise than fp32
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, shape in shapes.items():
            profile.set_shape(name, shape.min, shape.opt, shape.max)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{graph}: TensorRT rejects the shapes {shapes}: {log.reason()}")
    _load_timing_cache(config, cache)
    log.errors.clear()  # of an unusable timing cache
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineError(f"{graph}: TensorRT can't build it: {log.reason()}")
    out.write_bytes(serialized)
    with replacing(cache) as beside:
        beside.write_bytes(config.get_timing_cache().serialize())


def _strongly_typed(trt: ModuleType) -> int:
    """Network creation flags that make TensorRT keep a graph's types.

    TensorRT 10 needs the flag; in 11 all networks are strongly typed, and it may be gone.
    """
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parser_error(parser: Any) -> str:
    """First error of an ONNX parser, with its node."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        description = " ".join(error.desc().split())
        return f"node {error.node_name()} ({error.node_operator()}): {description}"
    return "TensorRT logged no reason"


def _load_timing_cache(config: Any, cache: Path) -> None:
    """Use an existing timing cache if it is from this GPU, else an empty one."""
    try:
        data = cache.read_bytes()
    except OSError:  # missing or not readable; it will be replaced
        data = b""
    timings = config.create_timing_cache(data)
    if timings is None or not config.set_timing_cache(timings, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
