"""Bundles: an exported model on disk, a manifest beside the files of its engines."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mfer_edge.engines.base import TensorSpec
from mfer_edge.errors import BundleError
from mfer_edge.schema import expect, read_as

SCHEMA = 2
MANIFEST = "manifest.json"
CARD = "README.md"
MAX_MANIFEST_BYTES = 1 << 20
MAX_GRAPH_BYTES = (1 << 31) - 1  # what ONNX's format, protobuf, can hold in one file
MAX_PLAN_BYTES = 1 << 33  # of a TensorRT engine
APPROXIMATE = "Approximate:"  # how a note begins that every result must show
SUBSTANTIAL = 0.1  # share of the work from which on a type is named in a model's precision
TYPES = ("int8", "fp16", "fp32")  # of products, the narrowest first
COMPACT = Path(__file__).parent / "models" / "compact"

ENGINES = ("vad", "pnet", "rnet", "onet", "face", "visual", "audio", "fusion")
"""The networks of every bundle, in the order in which a clip meets them."""

MODEL_ENGINES = ("face", "visual", "audio", "fusion")
"""Those that make a bundle's model what it is; the others are the same in all."""


@dataclass(frozen=True)
class EngineFile:
    """One network of a bundle."""

    file: str  # name within the bundle
    sha256: str
    bytes: int
    parameters: int
    opset: int  # version of ONNX's operators
    work: Mapping[str, int]
    """Multiply-accumulates of a call on a window's worth, by the type of its factors, as read from
    the graph."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ShapeRange:
    """The shapes of one input that a TensorRT engine takes."""

    least: tuple[int, ...]
    usual: tuple[int, ...]  # what it is fastest at
    most: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A TensorRT engine that was built from one of a bundle's networks, on one machine for it."""

    file: str  # name within the bundle
    sha256: str
    bytes: int
    graph_sha256: str  # of the network that it was built from
    tensorrt: str  # version that built it, the only one that runs it
    gpu: str  # name, for people
    compute_capability: str  # such as 8.7
    profiles: tuple[Mapping[str, ShapeRange], ...]  # each: by input; disjoint, the smallest first


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
    trained: bool  # False: the weights are random, for benchmarks only
    window_s: float
    hop_s: float
    max_window_s: float  # the longest window that the networks take
    frame_rate: float  # pictures per second
    min_speech_s: float  # with less speech in a window, the voice counts as missing
    crop: Crop
    engines: Mapping[str, EngineFile]
    plans: Mapping[str, Plan]  # TensorRT engines, by the network that each is built from
    weights: tuple[Weights, ...]
    parity: Mapping[str, float]  # largest differences from PyTorch, measured at export
    notes: tuple[str, ...]  # what a user should know; shown with every result if untrained

    @property
    def files(self) -> tuple[EngineFile | Plan, ...]:
        """Everything that the bundle holds beside the manifest and the card."""
        return *self.engines.values(), *self.plans.values()

    @property
    def shares(self) -> dict[str, float]:
        """Share of the work done at each type, the narrowest first.

        Of the model's own networks: finding faces and speech is in single precision always.
        """
        work: Counter[str] = Counter()
        for name in MODEL_ENGINES:
            work.update(self.engines[name].work)
        total = work.total() or 1
        return {kind: work[kind] / total for kind in TYPES if work[kind]}

    @property
    def precision(self) -> str:
        """The types that do a substantial share of the work, the narrowest first: `int8+fp32`."""
        return "+".join(kind for kind, share in self.shares.items() if share >= SUBSTANTIAL)

    @property
    def weights_bytes(self) -> int:
        """Size of all networks' files."""
        return sum(engine.bytes for engine in self.engines.values())


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
            for file in manifest.files:
                _verify(folder, file)
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
        manifest: with the name and sha256 of each file already filled in.
        files: what to copy, by its name within the bundle.
        card: the model card, in Markdown.

    Raises:
        BundleError: `folder` holds something else, can't be written, or a file does not match.
    """
    try:
        check_place(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for file in manifest.files:
                shutil.copyfile(files[file.file], fresh / file.file)
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


def check_place(folder: Path) -> None:
    """Refuse a place where a bundle could not be put in the end, before any work is done for it.

    Raises:
        BundleError: something else is there, or its folder can't be made or written to.
    """
    try:
        if folder.exists() and not _may_be_replaced(folder):
            raise BundleError(f"{folder}: in the way, and more than a bundle; choose another place")
        above = next(above for above in folder.absolute().parents if above.exists())
    except OSError as error:
        raise BundleError(f"{folder}: can't be written ({error.strerror})") from error
    if not above.is_dir():
        raise BundleError(f"{folder}: can't be written: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise BundleError(f"{folder}: no permission to write to the folder {above}")


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder is empty, or holds a bundle, whole or damaged, and nothing else."""
    try:
        found = {path.name for path in folder.iterdir()}
        if not found:
            return True
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = [*manifest["engines"].values(), *manifest.get("plans", {}).values()]
        return found <= {MANIFEST, CARD, *(file["file"] for file in files)}
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


def _verify(folder: Path, file: EngineFile | Plan) -> None:
    path = folder / file.file
    if Path(file.file).name != file.file:
        raise BundleError(f"{folder}: the manifest names a file outside the bundle: {file.file}")
    if not path.is_file():
        raise BundleError(f"{path}: missing from the bundle")
    if file.bytes > (MAX_GRAPH_BYTES if isinstance(file, EngineFile) else MAX_PLAN_BYTES):
        raise BundleError(f"{path}: of {file.bytes / 1e9:.1f} GB, too large for a network")
    if path.stat().st_size != file.bytes or file_sha256(path) != file.sha256:
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
        manifest: Manifest = read_as(Manifest, data)
        _check(manifest)
    except (ValueError, OverflowError, RecursionError) as error:
        raise BundleError(f"{path}: not a valid manifest: {error}") from error
    return manifest


def _check(manifest: Manifest) -> None:
    for missing in [name for name in ENGINES if name not in manifest.engines]:
        raise ValueError(f"it has no engines.{missing}")
    names = [file.file for file in manifest.files]
    for name in {name for name in names if names.count(name) > 1} | {MANIFEST, CARD} & {*names}:
        raise ValueError(f"it names {name} twice")
    for name, engine in manifest.engines.items():
        for kind, count in engine.work.items():
            expect(kind in TYPES, f"engines.{name}.work", kind, f"one of {', '.join(TYPES)}")
            expect(count >= 0, f"engines.{name}.work.{kind}", count, "0 or more")
        if name in MODEL_ENGINES and not any(engine.work.values()):
            raise ValueError(f"engines.{name}.work is nothing")
    for unknown in [name for name in manifest.plans if name not in manifest.engines]:
        raise ValueError(f"plans.{unknown} is of no engine")
    for name in ("window_s", "hop_s", "max_window_s", "frame_rate"):
        expect(0 < getattr(manifest, name) < math.inf, name, getattr(manifest, name), "over 0")
    expect(manifest.min_speech_s >= 0, "min_speech_s", manifest.min_speech_s, "0 or more")
    expect(manifest.crop.size > 0, "crop.size", manifest.crop.size, "over 0")
    expect(0 < manifest.crop.scale < math.inf, "crop.scale", manifest.crop.scale, "over 0")
    if not manifest.hop_s <= manifest.window_s <= manifest.max_window_s - manifest.hop_s / 2:
        raise ValueError("its window_s, hop_s and max_window_s do not go together")
    if not manifest.labels or len(set(manifest.labels)) < len(manifest.labels):
        raise ValueError("the labels are not several different ones")
    for name in ("visual", "audio", "fusion"):
        shapes = {tensor.name: tensor.shape for tensor in manifest.engines[name].outputs}
        if shapes.get("scores", ())[-1:] != (len(manifest.labels),):
            labels = len(manifest.labels)
            raise ValueError(f"it has {labels} labels, and the engine {name} not as many scores")
