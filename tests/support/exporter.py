"""PyTorch's ONNX exporter, without what it does anew for every graph or every bundle."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from export import build
from mfer_edge.bundle import Bundle


@contextmanager
def operators_kept() -> Iterator[None]:
    """Keep the table of ONNX operators, which takes a second for every graph."""
    table = functools.cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", lambda *_, **__: table())
        yield


@contextmanager
def detectors_kept() -> Iterator[None]:
    """Take the networks that find faces from the package: they are the same in every bundle."""
    packaged = Bundle.open().folder

    def copied(folder: Path) -> dict[str, Path]:
        names = ("pnet", "rnet", "onet")
        return {
            name: Path(shutil.copy(packaged / f"{name}.onnx", folder / f"{name}.onnx"))
            for name in names
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "export_mtcnn", copied)
        yield
