"""PyTorch's ONNX exporter, without what it does anew for every graph."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry


@contextmanager
def operators_kept() -> Iterator[None]:
    """Keep the table of ONNX operators, which takes a second for every graph."""
    table = functools.cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", lambda *_, **__: table())
        yield
