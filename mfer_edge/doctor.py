"""Checks of what this machine can run, by trying it, with the reason where something can't."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfer_edge.cpu import core_count
from mfer_edge.errors import MferError
from mfer_edge.install import install_hint
from mfer_edge.samples import ANGER

EXTRAS = {
    "batch": ("pyarrow",),
    "ray": ("ray",),
    "serve": (
        "anyio",
        "h11",
        "prometheus-client",
        "python-multipart",
        "starlette",
        "uvicorn",
        "websockets",
    ),
    "export": ("onnx", "onnxscript", "safetensors", "torch"),
    "paper": ("huggingface-hub",),
    "train": ("matplotlib", "scikit-learn", "scipy"),
}
"""Packages that each extra adds to those before it."""
IMPORTED = ("numpy", "cv2", "av", "click", "onnxruntime")  # modules that the runtime needs
TITLES = {"cv2": "opencv"}  # whoever's build it is: opencv-python, -headless, contrib, JetPack's


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    what: str
    ok: bool
    detail: str
    needed: bool  # whether `mfer-edge infer` needs it


def checkup(bundle: Path | None = None) -> list[Check]:
    """Check the interpreter, the packages, the bundle and every device.

    Nothing is taken for granted: modules are imported, engines loaded, a clip is read and a picture
    drawn. A check that fails, in whatever way, does not keep the others from being made.
    """
    # Imported in a check, as any of these may need a module that is broken here.
    checks = [
        _check("python", _python, True),
        _check("cpu", _cores, True),
        *(_check(TITLES.get(name, name), lambda name=name: _module(name), True)  # type: ignore[misc]
          for name in IMPORTED),
        _check("device cpu", lambda: _provider("cpu"), True),
        _check("device cuda", lambda: _provider("cuda")),
        _check("device tensorrt", lambda: _tensorrt(bundle)),
        _check("gpu for tensorrt", _gpu),
        _check("bundle", lambda: _bundle(bundle), True),
        _check("engines", lambda: _engines(bundle), True),
        _check("clip", _clip, True),
        _check("analysis", lambda: _analysis(bundle), True),
        _check("pictures", _pictures, True),
    ]  # fmt: skip
    return checks + [
        _check(f"extra {extra}", lambda e=extra, p=packages: _extra(e, p))  # type: ignore[misc]
        for extra, packages in EXTRAS.items()
    ]


def _check(what: str, run: Callable[[], str], needed: bool = False) -> Check:
    """Run a check that returns a detail, or raises an error with the reason."""
    try:
        return Check(what, True, run(), needed)
    except MferError as error:
        return Check(what, False, str(error).removeprefix(f"--{what}: "), needed)
    except Exception as error:
        reason = " ".join([f"{type(error).__name__}:", *str(error).split()])
        return Check(what, False, reason, needed)


def _python() -> str:
    return f"{platform.python_version()} on {platform.machine()} {platform.system()}"


def _cores() -> str:
    return f"{core_count()} core{'s' * (core_count() != 1)} for this process"


def _module(name: str) -> str:
    """Version of a module, which is imported."""
    if name == "onnxruntime":
        from mfer_edge.engines.onnx import import_onnxruntime

        return str(import_onnxruntime().__version__)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MferError(f"not installed: {install_hint('cpu')}") from error
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # OpenCV, whoever's build it is
        return str(getattr(module, "__version__", "unknown version"))


def _extra(extra: str, packages: Sequence[str]) -> str:
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise MferError(f"{', '.join(missing)} {are} not installed: {install_hint(extra)}")
    return ", ".join(found)


def _provider(device: str) -> str:
    from mfer_edge.engines.onnx import providers_for

    return providers_for(device)[0]


def _tensorrt(folder: Path | None) -> str:
    from mfer_edge.bundle import Bundle
    from mfer_edge.engines.load import ACCELERATED
    from mfer_edge.engines.tensorrt_target import check_plans, this_target

    target = this_target()
    check_plans(Bundle.open(folder), ACCELERATED, target)
    return f"the bundle's engines for {target}"


def _gpu() -> str:
    from mfer_edge.engines.tensorrt_target import this_gpu

    return str(this_gpu())


def _bundle(folder: Path | None) -> str:
    from mfer_edge.bundle import Bundle
    from mfer_edge.engines.tensorrt_target import Gpu, Target

    manifest = Bundle.open(folder).manifest
    size_mb = manifest.weights_bytes / 1e6
    trained = "trained" if manifest.trained else "untrained"
    detail = f"{manifest.name} {manifest.precision}, {trained}, {size_mb:.1f} MB, files intact"
    for plan in list(manifest.plans.values())[:1]:  # all are built for the same target
        built_for = Target(plan.tensorrt, Gpu(plan.gpu, plan.compute_capability))
        detail += f"; with engines for {built_for}"
    return detail


def _engines(folder: Path | None) -> str:
    from mfer_edge.bundle import Bundle
    from mfer_edge.engines.load import load_engines

    return f"{len(load_engines(Bundle.open(folder)))} loaded on the cpu"


def _clip() -> str:
    from mfer_edge.sources.base import Frame
    from mfer_edge.sources.clip import Clip

    with Clip(ANGER) as clip:
        frames = sum(isinstance(item, Frame) for item in clip)
        return f"{ANGER}: {frames} frames and {clip.duration_s:.1f} s read"


def _analysis(folder: Path | None) -> str:
    from mfer_edge.pipeline import Pipeline

    found = Pipeline.open(folder, "cpu").analyze(ANGER)
    if found.overall is None or len(found.overall.modalities) < 2:
        raise MferError(f"{ANGER}: this machine finds no face or no voice in it")
    return f"{ANGER}: {found.overall.label}, from face and voice, in {found.timing.wall_s:.1f} s"


def _pictures() -> str:
    """Draw a timeline and a video, without looking at a clip."""
    import cv2
    import numpy as np

    from mfer_edge.outputs.canvas import WHITE, fill, put_text
    from mfer_edge.outputs.video import ClipWriter

    image = np.zeros((120, 240, 3), np.uint8)
    fill(image, 10, 10, 110, 110, WHITE)
    put_text(image, "face", (120, 60), 10, WHITE, True)
    with tempfile.TemporaryDirectory(prefix="mfer-edge-") as folder:
        png, mp4 = Path(folder, "a.png"), Path(folder, "a.mp4")
        if not cv2.imwrite(str(png), image) or cv2.imread(str(png)) is None:
            raise MferError("OpenCV can't write and read a .png")
        with ClipWriter(mp4, ANGER, 0, None) as writer:
            writer.write(image, 0.0)
        return f"a .png and an .mp4 written in {Path(folder).parent}"
