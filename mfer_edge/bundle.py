"""Bundles: an exported model on disk, a manifest beside the files of its engines."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mfer_edge.engine import Tensor
from mfer_edge.errors import BundleError

SCHEMA = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
COMPACT = Path(__file__).parent / "models" / "compact"

ENGINES = ("vad", "pnet", "rnet", "onet", "face", "visual", "audio", "fusion")
"""The networks of every bundle, in the order in which a clip meets them."""


@dataclass(frozen=True)
class EngineFile:
    """One network of a bundle."""

    file: str  # name within the bundle
    sha256: str
    bytes: int
    parameters: int
    precision: str  # the type of most of its multiplications, as read from the graph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Crop:
    """How faces are cut out for the face network: grey squares."""

    size: int  # pixels on a side
    scale: float  # the square's side over the longer side of the detector's box


@dataclass(frozen=True)
class Weights:
    """Where a part of the model came from."""

    part: str
    source: str
    licence: str


@dataclass(frozen=True)
class Manifest:
    """Everything that the runtime must know about a model."""

    name: str
    labels: tuple[str, ...]
    precision: str  # of most of the work, as read from the graphs
    trained: bool  # False: the weights are random, for benchmarks only
    window_s: float
    hop_s: float
    max_window_s: float  # the longest window that the networks take
    frame_rate: float  # pictures per second
    min_speech_s: float  # with less speech in a window, the voice counts as missing
    crop: Crop
    engines: Mapping[str, EngineFile]
    weights: tuple[Weights, ...]
    parity: Mapping[str, float]  # largest differences from PyTorch, measured at export
    notes: tuple[str, ...]  # what a user should know; shown with every result if untrained


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, its files checked against the manifest."""

    folder: Path
    manifest: Manifest
    sha256: str  # of the manifest

    @classmethod
    def open(cls, folder: Path | str | None = None) -> Bundle:
        """Open and verify a bundle; without a folder, the compact one in the package.

        Raises:
            BundleError: the bundle is not there, incomplete, altered, or of another version.
        """
        folder = COMPACT if folder is None else Path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise BundleError(f"{folder}: not a bundle (it has no {MANIFEST})")
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path}: too large for a manifest")
        text = path.read_bytes()
        manifest = _read_manifest(text, path)
        for engine in manifest.engines.values():
            _verify(folder, engine)
        return cls(folder, manifest, hashlib.sha256(text).hexdigest())

    def engine_path(self, name: str) -> Path:
        """Where a network's file is."""
        return self.folder / self.manifest.engines[name].file


def save_bundle(folder: Path, manifest: Manifest, files: Mapping[str, Path]) -> Bundle:
    """Write a bundle beside its place, verify it, and move it there.

    Args:
        folder: where the bundle will be; a bundle that is there is replaced, anything else is
            left alone.
        manifest: with the name and sha256 of each engine's file already filled in.
        files: the file to copy for each engine.

    Raises:
        BundleError: `folder` holds something else, can't be written, or a file does not match.
    """
    if (
        folder.exists()
        and not (folder / MANIFEST).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise BundleError(f"{folder}: in the way, and not a bundle; choose another --out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise BundleError(f"{folder}: can't be written ({error.strerror})") from error
    try:
        for name, engine in manifest.engines.items():
            shutil.copyfile(files[name], fresh / engine.file)
        text = json.dumps({"schema": SCHEMA, **asdict(manifest)}, indent=1)
        (fresh / MANIFEST).write_text(text + "\n")
        Bundle.open(fresh)
        fresh.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            os.rename(folder, old / folder.name)
            os.rename(fresh, folder)
            shutil.rmtree(old)
        else:
            os.rename(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return Bundle.open(folder)


def file_sha256(path: Path) -> str:
    """Hash a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _verify(folder: Path, engine: EngineFile) -> None:
    path = folder / engine.file
    if Path(engine.file).name != engine.file:
        raise BundleError(f"{folder}: the manifest names a file outside the bundle: {engine.file}")
    if not path.is_file():
        raise BundleError(f"{path}: missing from the bundle")
    if path.stat().st_size != engine.bytes or file_sha256(path) != engine.sha256:
        raise BundleError(f"{path}: altered or damaged (its sha256 is not the manifest's)")


def _read_manifest(text: bytes, path: Path) -> Manifest:
    try:
        data = json.loads(text)
        schema = data["schema"]
        if schema != SCHEMA:
            raise BundleError(
                f"{path}: schema {schema}, but this version of mfer-edge reads schema {SCHEMA}"
            )
        engines = {name: _read_engine(data["engines"][name]) for name in ENGINES}
        return Manifest(
            name=str(data["name"]),
            labels=tuple(map(str, data["labels"])),
            precision=str(data["precision"]),
            trained=bool(data["trained"]),
            window_s=float(data["window_s"]),
            hop_s=float(data["hop_s"]),
            max_window_s=float(data["max_window_s"]),
            frame_rate=float(data["frame_rate"]),
            min_speech_s=float(data["min_speech_s"]),
            crop=Crop(**data["crop"]),
            engines=engines,
            weights=tuple(Weights(**weights) for weights in data["weights"]),
            parity={str(name): float(value) for name, value in data["parity"].items()},
            notes=tuple(map(str, data["notes"])),
        )
    except KeyError as error:
        raise BundleError(f"{path}: the manifest has no {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: not a valid manifest ({error})") from error


def _read_engine(data: dict[str, Any]) -> EngineFile:
    def tensors(name: str) -> tuple[Tensor, ...]:
        return tuple(Tensor(t["name"], t["dtype"], tuple(t["shape"])) for t in data[name])

    return EngineFile(
        file=str(data["file"]),
        sha256=str(data["sha256"]),
        bytes=int(data["bytes"]),
        parameters=int(data["parameters"]),
        precision=str(data["precision"]),
        inputs=tensors("inputs"),
        outputs=tensors("outputs"),
    )
