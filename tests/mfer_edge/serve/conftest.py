"""Servers of the tests: the model and the worker process are loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.options import Limits, ServeOptions
from tests.support.footage import repeat
from tests.support.serving import Served, serving


@pytest.fixture(scope="session")
def once(model: Model) -> Pipeline:
    """A pipeline that searches every frame for faces only once."""
    return Pipeline(model)


@pytest.fixture(scope="session")
def long(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip twice in a row: five windows."""
    return repeat(anger, tmp_path_factory.mktemp("long") / "long.mp4", 2)


@pytest.fixture(scope="session")
def isolated() -> Iterator[IsolatedPool]:
    """A worker process, for all servers."""
    with IsolatedPool(WorkerSetup(device="cpu", threads=1, max_memory_bytes=2 * 10**9)) as pool:
        yield pool


@pytest.fixture(scope="session")
def served(once: Pipeline, isolated: IsolatedPool) -> Iterator[Served]:
    """A server as it is by default."""
    with serving(once, isolated, ServeOptions(port=0, limits=Limits(sessions=4))) as server:
        yield server
