"""What this machine can run, and why not the rest."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

from mfer_edge.bundle import Bundle
from mfer_edge.engine import import_onnxruntime, providers_for
from mfer_edge.errors import MferError
from mfer_edge.pipeline import cores


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str
    needed: bool  # whether `mfer-edge infer` can't do without it


def checkup(bundle: Path | None = None) -> list[Check]:
    """Look at the interpreter, the packages, the bundle, and every device."""
    python = platform.python_version()
    checks = [
        Check("python", True, f"{python} on {platform.machine()} {platform.system()}", True),
        Check("cpu", True, f"{cores()} core{'s' * (cores() != 1)} for this process", True),
    ]
    for package in ("numpy", "opencv-python-headless", "av", "click"):
        checks.append(_package(package))
    try:
        version = import_onnxruntime().__version__
        checks.append(Check("onnxruntime", True, version, True))
    except MferError as error:
        return [*checks, Check("onnxruntime", False, str(error), True)]
    for device in ("cpu", "cuda", "tensorrt"):
        try:
            detail = providers_for(device)[0]
            checks.append(Check(f"device {device}", True, detail, device == "cpu"))
        except MferError as error:
            why = str(error).removeprefix(f"--device {device}: ")
            checks.append(Check(f"device {device}", False, why, device == "cpu"))
    checks.append(_bundle(bundle))
    for extra, package in {"export": "onnx", "train": "torch"}.items():
        try:
            detail = f"{package} {importlib.metadata.version(package)}"
            checks.append(Check(f"extra {extra}", True, detail, False))
        except importlib.metadata.PackageNotFoundError:
            detail = f"{package} is not installed: pip install 'mfer-edge[{extra}]'"
            checks.append(Check(f"extra {extra}", False, detail, False))
    return checks


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, f"not installed: pip install {name}", True)


def _bundle(folder: Path | None) -> Check:
    try:
        bundle = Bundle.open(folder)
    except MferError as error:
        return Check("bundle", False, str(error), True)
    manifest = bundle.manifest
    size_mb = sum(engine.bytes for engine in manifest.engines.values()) / 1e6
    trained = "trained" if manifest.trained else "untrained"
    detail = f"{manifest.name} {manifest.precision}, {trained}, {size_mb:.1f} MB, files intact"
    return Check("bundle", True, detail, True)
