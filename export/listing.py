"""Text description of a bundle, for `mfer-edge export --list`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import TensorSpec
from mfer_edge.manifest import EngineFile, Manifest, Plan


def describe(bundle: Bundle) -> str:
    """Describe a bundle: model, engines, origin of the weights, parity figures."""
    manifest = bundle.manifest
    origin = [f"{w.part}: {w.source} ({w.licence})" for w in manifest.weights]
    origin += [f"approximation: {text}" for text in manifest.approximations]
    origin += [f"note: {note}" for note in manifest.notes]
    plans = [f"TensorRT engine of {name}: {_plan(plan)}" for name, plan in manifest.plans.items()]
    parts = [_model(bundle), _engines(manifest), plans, origin, _parity(manifest.parity)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _model(bundle: Bundle) -> list[str]:
    manifest = bundle.manifest
    trained = "trained" if manifest.trained else "UNTRAINED: its scores mean nothing"
    size_mb = sum(file.bytes for file in manifest.files) / 1e6
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in manifest.shares.items())
    return [
        f"{bundle.folder}  {manifest.name} {manifest.precision}, {trained}, {size_mb:.1f} MB",
        f"sha256 of the manifest: {bundle.sha256}",
        f"labels: {', '.join(manifest.labels)}",
        f"window {manifest.window_s:g} s (at most {manifest.max_window_s:g} s), "
        f"hop {manifest.hop_s:g} s, {manifest.frame_rate:g} frames per second, "
        f"face crops of {manifest.crop.size}x{manifest.crop.size}",
        f"MACs of the model's engines: {shares}",
    ]


def _engines(manifest: Manifest) -> list[str]:
    lines = [
        f"{'engine':<8} {'MB':>6} {'parameters':>11} {'GMAC':>6}  {'types':<10} inputs -> outputs"
    ]
    for name, engine in manifest.engines.items():
        lines.append(
            f"{name:<8} {engine.bytes / 1e6:6.1f} {engine.parameters:11,} "
            f"{sum(engine.macs.values()) / 1e9:6.2f}  {'+'.join(engine.macs):<10} "
            f"{_tensors(engine)}"
        )
    lines.append(f"parameters in total: {sum(e.parameters for e in manifest.engines.values()):,}")
    opsets = sorted({engine.opset for engine in manifest.engines.values()})
    lines.append(f"ONNX opset {' and '.join(map(str, opsets))}; GMAC for one window")
    return lines


def _parity(figures: Mapping[str, float]) -> list[str]:
    if not figures:
        return []
    lines = [f"{'difference from PyTorch':<26} {'max-abs':>9}  cosine"]
    for name, value in figures.items():
        if (output := name.removesuffix(".cosine")) != name:
            max_abs = figures.get(f"{output}.max_abs", math.nan)
            lines.append(f"{output:<26} {max_abs:9.2g}  {value:.7f}")
    score = figures.get("scores.max_abs", math.nan)
    return [*lines, f"{'scores of readings':<26} {score:9.2g}"]


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
