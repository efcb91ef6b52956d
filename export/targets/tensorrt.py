"""TensorRT engines for a bundle's networks, built on the machine that will run them."""

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
from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.tensorrt_target import Target, error_log, import_tensorrt, start, this_target
from mfer_edge.errors import EngineError
from mfer_edge.manifest import Manifest, Plan, ShapeRange
from mfer_edge.model import ACCELERATED
from mfer_edge.outputs.files import check_output, make_folder, replacing
from mfer_edge.speech.vad import SAMPLE_RATE

WORKSPACE_MB = 1024  # GPU memory that a layer may take while it works
LEAST_SAMPLES = 400  # of speech that the backbones take: emotion2vec's first feature
CPU_ONLY = ("MatMulInteger", "ConvInteger", "DynamicQuantizeLinear")  # TensorRT has none of them


def profiles_for(name: str, manifest: Manifest) -> tuple[dict[str, ShapeRange], ...]:
    """Cut the shapes that sessions give a network into a few spans; TensorRT tunes for each.

    Tuned for one wide span, speech networks run at half the speed of ONNX Runtime. The longest
    covers a window and half a hop, of any hop.

    Args:
        name: `audio` or `face`.

    Returns:
        Spans by input: disjoint, without gaps, the smallest first.
    """
    longest_s = min(1.5 * manifest.window_s, manifest.max_window_s)
    if name == "audio":
        least = max(int(manifest.min_speech_s * SAMPLE_RATE), LEAST_SAMPLES)
        window, most = (math.ceil(s * SAMPLE_RATE) for s in (manifest.window_s, longest_s))
        steps = [(end, end) for end in (window // 4, window // 2) if end > least]
    else:
        least = 1
        # The sampler may be a picture late at either end.
        most = math.ceil(longest_s * manifest.frame_rate) + 1
        window = math.ceil(manifest.hop_s * manifest.frame_rate)  # the others are known by then
        steps = [(1, 1)]
    [tensor] = manifest.engines[name].inputs
    spans = []
    for usual, end in [*steps, (window, most)]:
        sizes = (least, min(max(usual, least), end), end)
        spans.append({tensor.name: ShapeRange(*(_with_size(tensor, size) for size in sizes))})
        least = end + 1
    return tuple(spans)


def _with_size(tensor: TensorSpec, size: int) -> tuple[int, ...]:
    return tuple(size if isinstance(n, str) else n for n in tensor.shape)


def plan_name(name: str, target: Target) -> str:
    """Name a network's engine after what it runs on: `audio-sm87-trt10.3.0.plan`."""
    return f"{name}-{_architecture(target)}-trt{target.tensorrt}.plan"


def _architecture(target: Target) -> str:
    return f"sm{target.gpu.compute_capability.replace('.', '')}"


def add_plans(
    bundle: Bundle,
    out: Path | None = None,
    workspace_mb: int = WORKSPACE_MB,
    timing_cache: Path | None = None,
) -> Bundle:
    """Build TensorRT engines from a bundle's networks, and save the bundle with them.

    Args:
        out: where to; by default in place of the bundle.
        workspace_mb, timing_cache: as for `build_plans`.

    Raises:
        EngineError: an engine can't be built here.
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
    """Build the TensorRT engines of a bundle for this machine; this takes minutes.

    Args:
        folder: where to write them.
        workspace_mb: GPU memory that a layer may take while it works, MB.
        timing_cache: TensorRT's measurements, which make the next build quick; by default in the
            user's cache folder.

    Raises:
        EngineError: TensorRT or a GPU is missing, or TensorRT refuses a network.
        OutputError: the timing cache can't be written.
    """
    for name in ACCELERATED:
        _check_operators(bundle.engine_path(name))
    target = this_target()
    cache = timing_cache or _cache_folder() / f"{_architecture(target)}-trt{target.tensorrt}.timing"
    make_folder(cache.parent, "TensorRT's timings")
    check_output(cache)  # before the minutes
    plans = {}
    for name in ACCELERATED:
        file = folder / plan_name(name, target)
        profiles = profiles_for(name, bundle.manifest)
        _build(bundle.engine_path(name), file, profiles, workspace_mb, cache)
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
    operators = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    if found := sorted(operators.intersection(CPU_ONLY)):
        raise EngineError(
            f"{path}: its 8-bit products are for CPUs ({', '.join(found)}); TensorRT takes a "
            "bundle that was exported with --fp16 or --int8-gpu"
        )


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfer-edge"


def _build(
    graph: Path,
    out: Path,
    profiles: tuple[dict[str, ShapeRange], ...],
    workspace_mb: int,
    cache: Path,
) -> None:
    """Build one engine, at the types that its graph has, and remember what TensorRT measured."""
    trt = import_tensorrt()
    log = error_log(trt)
    builder = start(trt.Builder, log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        raise EngineError(f"{graph}: TensorRT can't read it: {_parser_error(parser)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and fp32 only by its name
    for spans in profiles:
        profile = builder.create_optimization_profile()
        for name, span in spans.items():
            profile.set_shape(name, span.least, span.usual, span.most)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{graph}: TensorRT refuses the shapes {spans}: {log.reason()}")
    _take_timings(config, cache)
    log.errors.clear()  # those of a cache that was of no use
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineError(f"{graph}: TensorRT can't build it: {log.reason()}")
    out.write_bytes(serialized)
    with replacing(cache) as beside:
        beside.write_bytes(config.get_timing_cache().serialize())


def _strongly_typed(trt: ModuleType) -> int:
    """The flags that make TensorRT keep a graph's types.

    Version 10 has to be told; 11 knows nothing else, so that its flag may go.
    """
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parser_error(parser: Any) -> str:
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        description = " ".join(error.desc().split())
        return f"node {error.node_name()} ({error.node_operator()}): {description}"
    return "TensorRT gives no reason"


def _take_timings(config: Any, cache: Path) -> None:
    """Start from earlier measurements, if they are of this GPU; else from none."""
    try:
        known = cache.read_bytes()
    except OSError:  # not there, or closed to us; the new one takes its place
        known = b""
    timings = config.create_timing_cache(known)
    if timings is None or not config.set_timing_cache(timings, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
