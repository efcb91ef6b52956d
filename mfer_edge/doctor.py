"""Checks of what this machine can run, with the reason where something can't."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count
from mfer_edge.engines.onnx import import_onnxruntime, providers_for
from mfer_edge.engines.tensorrt_target import Gpu, Target, check_plans, this_gpu, this_target
from mfer_edge.errors import MferError
from mfer_edge.model import ACCELERATED
from mfer_edge.pipeline import Pipeline
from mfer_edge.samples import ANGER

EXTRAS = {
    "export": ("onnx", "onnxscript", "safetensors", "torch"),
    "paper": ("huggingface-hub",),
    "train": ("matplotlib", "scikit-learn", "scipy"),
}
"""Packages that each extra adds to those before it."""


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    what: str
    ok: bool
    detail: str
    needed: bool  # whether `mfer-edge infer` needs it


def checkup(bundle: Path | None = None) -> list[Check]:
    """Check the interpreter, the packages, every device, the bundle, and a clip's analysis."""
    python = platform.python_version()
    checks = [
        Check("python", True, f"{python} on {platform.machine()} {platform.system()}", True),
        Check(
            "cpu", True, f"{core_count()} core{'s' * (core_count() != 1)} for this process", True
        ),
    ]
    for package in ("numpy", "opencv-python-headless", "av", "click"):
        checks.append(_package(package))
    checks.append(_check("onnxruntime", lambda: import_onnxruntime().__version__, True))
    if not checks[-1].ok:
        return checks
    checks += [
        _check("device cpu", lambda: providers_for("cpu")[0], True),
        _check("device cuda", lambda: providers_for("cuda")[0]),
        _check("device tensorrt", lambda: _tensorrt(bundle)),
        _check("gpu for tensorrt", lambda: str(this_gpu())),
        _check("bundle", lambda: _bundle(bundle), True),
    ]
    if checks[-1].ok:
        checks.append(_check("analysis", lambda: _analysis(bundle), True))
    return checks + [_extra(extra, packages) for extra, packages in EXTRAS.items()]


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, f"not installed: pip install {name}", True)


def _extra(extra: str, packages: Sequence[str]) -> Check:
    found = [_package(package) for package in packages]
    if missing := [check.what for check in found if not check.ok]:
        are = "is" if len(missing) == 1 else "are"
        detail = f"{', '.join(missing)} {are} not installed: pip install 'mfer-edge[{extra}]'"
        return Check(f"extra {extra}", False, detail, False)
    versions = ", ".join(f"{check.what} {check.detail}" for check in found)
    return Check(f"extra {extra}", True, versions, False)


def _check(what: str, run: Callable[[], str], needed: bool = False) -> Check:
    """Run a check that returns a detail, or raises an `MferError` with the reason."""
    try:
        return Check(what, True, run(), needed)
    except MferError as error:
        return Check(what, False, str(error).removeprefix(f"--{what}: "), needed)


def _bundle(folder: Path | None) -> str:
    manifest = Bundle.open(folder).manifest
    size_mb = manifest.weights_bytes / 1e6
    trained = "trained" if manifest.trained else "untrained"
    detail = f"{manifest.name} {manifest.precision}, {trained}, {size_mb:.1f} MB, files intact"
    for plan in list(manifest.plans.values())[:1]:  # all are built for the same target
        built_for = Target(plan.tensorrt, Gpu(plan.gpu, plan.compute_capability))
        detail += f"; with engines for {built_for}"
    return detail


def _analysis(folder: Path | None) -> str:
    """Analyse a sample; name it with its path, so that its owner can do so too."""
    found = Pipeline.open(folder, "cpu").analyze(ANGER)
    if found.overall is None or len(found.overall.modalities) < 2:
        raise MferError(f"{ANGER}: this machine finds no face or no voice in it")
    return f"{ANGER}: {found.overall.label}, from face and voice, in {found.timing.wall_s:.1f} s"


def _tensorrt(folder: Path | None) -> str:
    target = this_target()
    check_plans(Bundle.open(folder), ACCELERATED, target)
    return f"the bundle's engines for {target}"
