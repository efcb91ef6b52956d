"""Bundles: an exported model on disk, a manifest beside the files of its engines."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from mfer_edge.engine import Tensor
from mfer_edge.errors import BundleError

SCHEMA = 1
MANIFEST = "manifest.json"
CARD = "README.md"
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
        try:
            if not folder.exists():
                raise BundleError(f"{folder}: no such folder")
            if not path.is_file():
                raise BundleError(f"{folder}: not a bundle (it has no {MANIFEST})")
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise BundleError(f"{path}: too large for a manifest")
            text = path.read_bytes()
            manifest = _read_manifest(text, path)
            for engine in manifest.engines.values():
                _verify(folder, engine)
        except OSError as error:
            raise BundleError(f"{error.filename}: {error.strerror}") from error
        return cls(folder, manifest, hashlib.sha256(text).hexdigest())

    def engine_path(self, name: str) -> Path:
        """Where a network's file is."""
        return self.folder / self.manifest.engines[name].file


def save_bundle(
    folder: Path, manifest: Manifest, files: Mapping[str, Path], card: str = ""
) -> Bundle:
    """Write a bundle beside its place, verify it, and move it there.

    Args:
        folder: where the bundle will be; a bundle that is there is replaced, anything else is
            left alone.
        manifest: with the name and sha256 of each engine's file already filled in.
        files: the file to copy for each engine.
        card: the model card, in Markdown.

    Raises:
        BundleError: `folder` holds something else, can't be written, or a file does not match.
    """
    try:
        if folder.exists() and not _may_be_replaced(folder):
            raise BundleError(f"{folder}: in the way, and more than a bundle; choose another place")
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, engine in manifest.engines.items():
                shutil.copyfile(files[name], fresh / engine.file)
            text = json.dumps({"schema": SCHEMA, **asdict(manifest)}, indent=1)
            (fresh / MANIFEST).write_text(text + "\n")
            if card:
                (fresh / CARD).write_text(card, encoding="utf-8")
            Bundle.open(fresh)
            fresh.chmod(0o755)
            _move(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise BundleError(f"{folder}: can't be written ({error})") from error
    return Bundle.open(folder)


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder is empty, or holds a bundle, whole or damaged, and nothing else."""
    try:
        found = {path.name for path in folder.iterdir()}
        if not found:
            return True
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return found <= {
            MANIFEST,
            CARD,
            *(engine["file"] for engine in manifest["engines"].values()),
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _move(fresh: Path, folder: Path) -> None:
    """Put a folder in the place of another, which comes back if that fails."""
    if not folder.exists():
        os.rename(fresh, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        os.rename(folder, old / "old")
        try:
            os.rename(fresh, folder)
        except OSError:
            os.rename(old / "old", folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


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
        if not isinstance(data, dict):
            raise ValueError("it is no JSON object")
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            raise BundleError(
                f"{path}: schema {schema}, but this version of mfer-edge reads schema {SCHEMA}"
            )
        manifest: Manifest = _read(Manifest, data, "")
        _check(manifest)
    except (ValueError, OverflowError, RecursionError) as error:
        raise BundleError(f"{path}: not a valid manifest: {error}") from error
    return manifest


def _read(kind: Any, value: Any, name: str) -> Any:
    """Read what JSON gave as a type of the manifest's; the dataclasses above are its schema.

    Raises:
        ValueError: it is of another type; the message names the field.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        _expect(isinstance(value, dict), name, value, "an object")
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        dot = f"{name}." if name else ""
        for missing in [field for field in names if field not in value]:
            raise ValueError(f"it has no {dot}{missing}")
        for unknown in [field for field in value if field not in names]:
            raise ValueError(f"{dot}{unknown} is unknown to this version of mfer-edge")
        return kind(**{field: _read(hints[field], value[field], dot + field) for field in names})
    of = get_args(kind)
    if get_origin(kind) is tuple:
        _expect(isinstance(value, list), name, value, "a list")
        return tuple(_read(of[0], item, f"{name}[{index}]") for index, item in enumerate(value))
    if get_origin(kind) is Mapping:
        _expect(isinstance(value, dict), name, value, "an object")
        return {key: _read(of[1], item, f"{name}.{key}") for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    allowed = of or (kind,)  # of a union, or the type itself
    _expect(type(value) in allowed, name, value, " or ".join(JSON_NAMES[one] for one in allowed))
    return value


JSON_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _expect(fits: bool, name: str, value: Any, what: str) -> None:
    if not fits:
        raise ValueError(f"{name} is {json.dumps(value)[:40]}, not {what}")


def _check(manifest: Manifest) -> None:
    for missing in [name for name in ENGINES if name not in manifest.engines]:
        raise ValueError(f"it has no engines.{missing}")
    for name in ("window_s", "hop_s", "max_window_s", "frame_rate"):
        _expect(0 < getattr(manifest, name) < math.inf, name, getattr(manifest, name), "over 0")
    _expect(manifest.min_speech_s >= 0, "min_speech_s", manifest.min_speech_s, "0 or more")
    _expect(manifest.crop.size > 0, "crop.size", manifest.crop.size, "over 0")
    _expect(0 < manifest.crop.scale < math.inf, "crop.scale", manifest.crop.scale, "over 0")
    if not manifest.hop_s <= manifest.window_s <= manifest.max_window_s - manifest.hop_s / 2:
        raise ValueError("its window_s, hop_s and max_window_s do not go together")
    if not manifest.labels or len(set(manifest.labels)) < len(manifest.labels):
        raise ValueError("the labels are not several different ones")
    for name in ("visual", "audio", "fusion"):
        shapes = {tensor.name: tensor.shape for tensor in manifest.engines[name].outputs}
        if shapes.get("scores", ())[-1:] != (len(manifest.labels),):
            labels = len(manifest.labels)
            raise ValueError(f"it has {labels} labels, and the engine {name} not as many scores")
