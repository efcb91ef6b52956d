"""Small bundles whose engine files hold arbitrary bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import TensorSpec
from mfer_edge.errors import BundleError
from mfer_edge.manifest import (
    ENGINES,
    MANIFEST,
    Crop,
    EngineFile,
    Manifest,
    Plan,
    ShapeRange,
    Weights,
)
from tests.support.analyses import LABELS


def engine_file(name: str, data: bytes) -> EngineFile:
    """Manifest entry of an engine file with this content."""
    scores = (TensorSpec("scores", "float32", (1, len(LABELS))),)
    inputs = (TensorSpec("faces", "uint8", ("n", 1, 48, 48)),)
    sha256 = hashlib.sha256(data).hexdigest()
    return EngineFile(f"{name}.onnx", sha256, len(data), 7, 18, {"fp32": 100}, inputs, scores)


def plan(name: str, data: bytes, graph: bytes) -> Plan:
    """Manifest entry of a plan with this content."""
    profiles = ({"faces": ShapeRange((1, 1, 48, 48), (1, 1, 48, 48), (20, 1, 48, 48))},)
    sha256, graph_sha256 = (hashlib.sha256(part).hexdigest() for part in (data, graph))
    return Plan(
        f"{name}-sm87.plan", sha256, len(data), graph_sha256, "10.3.0", "Orin", "8.7", profiles
    )


def make_manifest(contents: dict[str, bytes]) -> Manifest:
    """A manifest of engine files with these contents."""
    return Manifest(
        name="small",
        model="cd" * 32,
        labels=LABELS,
        trained=True,
        window_s=4.0,
        hop_s=1.0,
        max_window_s=10.0,
        frame_rate=5.0,
        min_speech_s=0.4,
        crop=Crop(48, 1.0),
        engines={name: engine_file(name, data) for name, data in contents.items()},
        plans={},
        weights=(Weights("all", "a test", "Apache-2.0"),),
        parity={"scores.max_abs": 0.001},
        approximations=("tokens are merged",),
        notes=("a note",),
    )


CONTENTS = {name: name.encode() * 10 for name in ENGINES}


def write_files(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    """Write engine files to a folder, for `save_bundle` to copy."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / f"{name}.onnx").write_bytes(data)
    return {f"{name}.onnx": folder / f"{name}.onnx" for name in contents}


def write_plan(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    """Write a plan of the face engine to the folder."""
    path = folder / "face-sm87.plan"
    path.write_bytes(contents["face"][::-1])
    return {path.name: path}


def manifest_with_plan(contents: dict[str, bytes]) -> Manifest:
    """A manifest of the engines with a plan of the face engine."""
    face = contents["face"]
    return replace(make_manifest(contents), plans={"face": plan("face", face[::-1], face)})


def open_error(folder: Path | str) -> str:
    """Open an invalid bundle; return the one-line error."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    assert str(folder) in message
    return message


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest of a saved bundle."""
    path = folder / MANIFEST
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
