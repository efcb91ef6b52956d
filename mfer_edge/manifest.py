"""Manifests: what a bundle's `manifest.json` says about a model and its engine files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from mfer_edge.engines.base import TensorSpec
from mfer_edge.schema import expect, read_as, upgrade_schema_2, upgrade_schema_3

SCHEMA = 4
MANIFEST = "manifest.json"
CARD = "README.md"
SUBSTANTIAL = 0.1  # share of the MACs from which on a type is part of a model's precision
SMALL_MODEL = 32_000_000  # bytes of weights, at most
WINDOWS_S = 0.1, 60.0  # of windows and hops
FRAME_RATES = 0.1, 240.0  # frames per second
CROP_SIZES = 8, 1024  # pixels
CROP_SCALES = 0.1, 10.0
MAX_LABELS, MAX_LABEL_LENGTH = 100, 60
MAX_DIMENSIONS, MAX_SIZE = 8, 1 << 24  # of a tensor
TYPES = ("int8", "fp16", "fp32")  # of the factors of products, narrowest first

ENGINES = ("vad", "pnet", "rnet", "onet", "face", "visual", "audio", "fusion")
"""Engines of every bundle, in the order in which a clip passes through them."""

Arm = Literal["visual", "audio"]

MODEL_ENGINES = ("face", "visual", "audio", "fusion")
"""Engines exported from the trained model; the detectors are the same in every bundle."""


@dataclass(frozen=True)
class EngineFile:
    """An engine's ONNX file."""

    file: str  # name within the bundle
    sha256: str
    bytes: int
    parameters: int
    opset: int  # ONNX operator set version
    macs: Mapping[str, int]
    """Multiply-accumulates for one window, by the type of their factors, counted in the graph."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ShapeRange:
    """Shapes of one input in a TensorRT optimization profile."""

    min: tuple[int, ...]
    opt: tuple[int, ...]  # the shape that TensorRT optimizes for
    max: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A TensorRT plan: an engine built from one of the bundle's ONNX files for one kind of GPU."""

    file: str  # name within the bundle
    sha256: str
    bytes: int
    graph_sha256: str  # of the ONNX file that it was built from
    tensorrt: str  # version that built it; no other version can load it
    gpu: str  # name, for messages
    compute_capability: str  # such as 8.7
    profiles: tuple[Mapping[str, ShapeRange], ...]  # by input; disjoint, smallest shapes first


@dataclass(frozen=True)
class Crop:
    """Crops for the face engine: square and grey."""

    size: int  # pixels on a side
    scale: float  # side of the square over the longer side of the detector's box
    mirror: bool = field(default=False, repr=False)
    """Whether every second crop of a face is mirrored, and with few in a window both views of each
    are embedded. Not in `repr`, which names crops in caches: they are stored as they are."""


@dataclass(frozen=True)
class Weights:
    """Origin and licence of a part of the weights."""

    part: str
    source: str
    licence: str


@dataclass(frozen=True)
class Manifest:
    """Everything that the runtime needs to know about a model."""

    name: str
    model: str
    """Identity of the model, the same in every precision: SHA-256 of its weights. Empty in bundles
    of schema 2, which can't be adapted."""
    labels: tuple[str, ...]
    trained: bool  # False: the weights are random, for benchmarks only
    window_s: float
    hop_s: float
    max_window_s: float  # longest window that the engines accept
    frame_rate: float  # frames per second
    min_speech_s: float  # with less speech in a window there is no audio modality
    crop: Crop
    engines: Mapping[str, EngineFile]
    plans: Mapping[str, Plan]  # TensorRT plans, by the engine that each was built from
    weights: tuple[Weights, ...]
    parity: Mapping[str, float]  # largest differences from PyTorch, measured at export
    approximations: tuple[str, ...]  # changes at export that alter the scores; in every result
    notes: tuple[str, ...]  # other facts for users; shown with every result if untrained

    @property
    def files(self) -> tuple[EngineFile | Plan, ...]:
        """All files of the bundle except the manifest and the model card."""
        return *self.engines.values(), *self.plans.values()

    @property
    def shares(self) -> dict[str, float]:
        """Share of the model engines' MACs by type, narrowest first.

        Face and speech detection is left out: it is in single precision in every bundle.
        """
        macs: Counter[str] = Counter()
        for name in MODEL_ENGINES:
            macs.update(self.engines[name].macs)
        total = macs.total() or 1
        return {kind: macs[kind] / total for kind in TYPES if macs[kind]}

    @property
    def precision(self) -> str:
        """Types with a substantial share of the MACs, narrowest first, such as `int8+fp32`."""
        return "+".join(kind for kind, share in self.shares.items() if share >= SUBSTANTIAL)

    def observed(self, arm: Arm) -> int:
        """Width of an arm's inputs `shift` and `scale`; 0 if its engine has none."""
        shapes = {tensor.name: tensor.shape for tensor in self.engines[arm].inputs}
        width = shapes.get("shift", (0,))[-1]
        return width if isinstance(width, int) else 0

    @property
    def weights_bytes(self) -> int:
        """Size of all ONNX files."""
        return sum(engine.bytes for engine in self.engines.values())

    @property
    def small(self) -> bool:
        """Whether a model is small: several processes may hold it, and a face takes little time."""
        return self.weights_bytes <= SMALL_MODEL

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every result of this model must show."""
        warnings = [f"Approximate: {text}" for text in self.approximations]
        if not self.trained:
            warnings.append(" ".join([*self.notes, "The scores mean nothing."]))
        return tuple(warnings)


def parse_manifest(text: bytes) -> Manifest:
    """Read and check a manifest of this schema, of schema 2 or 3.

    Raises:
        ValueError: it is not valid JSON, of another schema, or a field is missing, unknown or
            wrong; the message names the field.
    """
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("it is not a JSON object")
        schema = data.pop("schema", None)
        if schema not in (2, 3, SCHEMA):
            raise ValueError(
                f"schema {schema}, but this version of mfer-edge reads schemas 2 to {SCHEMA}"
            )
        if schema == 2:
            data = upgrade_schema_2(data)
        if schema != SCHEMA:
            data = upgrade_schema_3(data)
        manifest: Manifest = read_as(Manifest, data)
        _check(manifest)
    except (OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return manifest


def format_manifest(manifest: Manifest) -> str:
    """Write a manifest as JSON."""
    return json.dumps({"schema": SCHEMA, **asdict(manifest)}, indent=1) + "\n"


def _check(manifest: Manifest) -> None:
    """Check what the types don't say.

    Raises:
        ValueError: a value is out of range, or two fields contradict each other.
    """
    _check_engines(manifest)
    for name, value, (least, most) in (
        ("window_s", manifest.window_s, WINDOWS_S),
        ("hop_s", manifest.hop_s, WINDOWS_S),
        ("max_window_s", manifest.max_window_s, WINDOWS_S),
        ("frame_rate", manifest.frame_rate, FRAME_RATES),
        ("crop.size", manifest.crop.size, CROP_SIZES),
        ("crop.scale", manifest.crop.scale, CROP_SCALES),
        ("min_speech_s", manifest.min_speech_s, (0, manifest.max_window_s)),
    ):
        expect(least <= value <= most, name, value, f"from {least:g} to {most:g}")
    if not manifest.hop_s <= manifest.window_s <= manifest.max_window_s - manifest.hop_s / 2:
        raise ValueError("its window_s, hop_s and max_window_s do not fit together")
    for text in _texts(asdict(manifest)):
        if not text.isprintable():  # it would reach terminals and file names
            raise ValueError(f"{ascii(text)[:40]} holds control characters")
    if not manifest.labels or len(set(manifest.labels)) < len(manifest.labels):
        raise ValueError("the labels are empty or not distinct")
    if len(manifest.labels) > MAX_LABELS or not all(
        label and len(label) <= MAX_LABEL_LENGTH for label in manifest.labels
    ):
        raise ValueError("a label is empty, or labels are too long or too many")
    for name in ("visual", "audio", "fusion"):
        shapes = {tensor.name: tensor.shape for tensor in manifest.engines[name].outputs}
        if shapes.get("scores", ())[-1:] != (len(manifest.labels),):
            labels = len(manifest.labels)
            raise ValueError(f"it has {labels} labels, and the engine {name} not as many scores")


def _texts(value: object) -> Iterator[str]:
    """Every text in a manifest, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (key, *_texts(item))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _texts(item)


def _check_engines(manifest: Manifest) -> None:
    for missing in [name for name in ENGINES if name not in manifest.engines]:
        raise ValueError(f"it has no engines.{missing}")
    files = [file.file for file in manifest.files]
    for file in {file for file in files if files.count(file) > 1} | {MANIFEST, CARD} & {*files}:
        raise ValueError(f"it names {file} twice")
    for name, engine in manifest.engines.items():
        for kind, count in engine.macs.items():
            expect(kind in TYPES, f"engines.{name}.macs", kind, f"one of {', '.join(TYPES)}")
            expect(count >= 0, f"engines.{name}.macs.{kind}", count, "0 or more")
        expect(engine.bytes >= 0, f"engines.{name}.bytes", engine.bytes, "0 or more")
        for tensor in (*engine.inputs, *engine.outputs):
            fixed = [size for size in tensor.shape if isinstance(size, int)]
            if len(tensor.shape) > MAX_DIMENSIONS or not all(0 < s <= MAX_SIZE for s in fixed):
                raise ValueError(f"engines.{name}: the shape of {tensor.name} is impossible")
        if name in MODEL_ENGINES and not any(engine.macs.values()):
            raise ValueError(f"engines.{name}.macs has no count over 0")
    for unknown in [name for name in manifest.plans if name not in manifest.engines]:
        raise ValueError(f"plans.{unknown} belongs to no engine")
