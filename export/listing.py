"""What a bundle holds, for a person to read."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import TensorSpec
from mfer_edge.manifest import EngineFile, Plan


def describe(bundle: Bundle) -> str:
    """Tell what an opened bundle holds: its networks, where they come from, how near they are."""
    return "\n".join(_lines(bundle)) + "\n"


def _lines(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    trained = "trained" if manifest.trained else "UNTRAINED: its scores mean nothing"
    size_mb = sum(file.bytes for file in manifest.files) / 1e6
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in manifest.shares.items())
    yield f"{bundle.folder}  {manifest.name} {manifest.precision}, {trained}, {size_mb:.1f} MB"
    yield f"sha256 of the manifest: {bundle.sha256}"
    yield f"labels: {', '.join(manifest.labels)}"
    yield (
        f"window {manifest.window_s:g} s (at most {manifest.max_window_s:g} s), "
        f"hop {manifest.hop_s:g} s, {manifest.frame_rate:g} pictures a second, "
        f"faces of {manifest.crop.size}x{manifest.crop.size}"
    )
    yield f"products of its own networks: {shares}"
    yield ""
    yield f"{'network':<8} {'MB':>6} {'parameters':>11} {'GMAC':>6}  {'types':<10} takes -> gives"
    for name, engine in manifest.engines.items():
        yield (
            f"{name:<8} {engine.bytes / 1e6:6.1f} {engine.parameters:11,} "
            f"{sum(engine.work.values()) / 1e9:6.2f}  {'+'.join(engine.work):<10} "
            f"{_tensors(engine)}"
        )
    yield f"parameters in all: {sum(e.parameters for e in manifest.engines.values()):,}"
    opsets = sorted({engine.opset for engine in manifest.engines.values()})
    yield f"ONNX operators: version {' and '.join(map(str, opsets))}; GMAC: of a window's worth"
    if manifest.plans:
        yield ""
        for name, plan in manifest.plans.items():
            yield f"TensorRT engine of {name}: {_plan(plan)}"
    yield ""
    for weights in manifest.weights:
        yield f"{weights.part}: {weights.source} ({weights.licence})"
    yield from (f"note: {note}" for note in manifest.notes)
    if manifest.parity:
        yield ""
        yield f"{'from PyTorch, at export':<26} {'max-abs':>9}  cosine"
        for name in manifest.parity:
            if (output := name.removesuffix(".cosine")) != name:
                max_abs = manifest.parity.get(f"{output}.max_abs", math.nan)
                yield f"{output:<26} {max_abs:9.2g}  {manifest.parity[name]:.7f}"
        score = manifest.parity.get("scores.max_abs", math.nan)
        yield f"{'scores of whole readings':<26} {score:9.2g}"


def _tensors(engine: EngineFile) -> str:
    return " -> ".join(", ".join(map(_tensor, part)) for part in (engine.inputs, engine.outputs))


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype}[{','.join(map(str, tensor.shape))}]"


def _plan(plan: Plan) -> str:
    return (
        f"{plan.file}, {plan.bytes / 1e6:.1f} MB, TensorRT {plan.tensorrt}, "
        f"{plan.gpu} (compute capability {plan.compute_capability}), "
        f"{len(plan.profiles)} profiles"
    )
