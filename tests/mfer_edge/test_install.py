"""How to install an extra, as this copy of mfer-edge was installed."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mfer_edge import install
from mfer_edge.install import install_command, install_hint
from tests.support.paths import ROOT


def test_a_checkout() -> None:
    assert install_command("train") == f"pip install -e '{ROOT}[train]'"


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'mfer-edge[train]'"),  # from an index: it has such an entry
        ({"url": "file:///my%20code", "dir_info": {}}, "pip install '/my code[train]'"),
        (
            {"url": "file:///w/mfer_edge-1.0-py3-none-any.whl", "archive_info": {}},
            "pip install '/w/mfer_edge-1.0-py3-none-any.whl[train]'",
        ),
        (
            {"url": "https://host/m.whl", "archive_info": {}},
            "pip install 'mfer-edge[train] @ https://host/m.whl'",
        ),
        (
            {"url": "https://host/m.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'mfer-edge[train] @ git+https://host/m.git@abc'",
        ),
    ],
    ids=["index", "folder", "wheel", "url", "git"],
)
def test_an_installed_copy(
    origin: dict[str, Any] | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "INSTALL_FOLDER", tmp_path)
    noted = SimpleNamespace(read_text=lambda _: None if origin is None else json.dumps(origin))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: noted)
    assert install_command("train") == command


@pytest.mark.parametrize(
    ("has_runtime", "extra", "extras"),
    [(True, "train", "[train]"), (False, "train", "[cpu,train]"), (False, "gpu", "[gpu]")],
)
def test_an_onnx_runtime_that_is_there_is_kept(
    has_runtime: bool, extra: str, extras: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builds for CPU and GPU must not be installed together."""
    monkeypatch.setattr(install, "_has_onnxruntime", lambda: has_runtime)
    hint = install_hint(extra)
    assert hint.startswith(f"install mfer-edge's extra {extra}: pip install") and extras in hint
