"""What the runtime expects of a bundle's engines: their tensors, and sizes that fit together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.errors import EngineError
from mfer_edge.manifest import Arm, EngineFile, Manifest

TENSORS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "vad": (("input", "h", "c"), ("speech_probs", "hn", "cn")),
    "pnet": (("image",), ("probability", "offsets")),
    "rnet": (("candidates",), ("probability", "offsets")),
    "onet": (("candidates",), ("probability", "offsets", "landmarks")),
    "face": (("faces",), ("embedding",)),
    "visual": (("embeddings",), ("scores", "embedding")),
    "audio": (("wave",), ("scores", "embedding")),
    "fusion": (("visual", "audio"), ("scores",)),
}
"""Inputs and outputs that each engine has to have."""

ADAPTABLE: tuple[tuple[str, ...], tuple[str, ...]] = (("shift", "scale"), ("observations",))
"""Further ones of an arm's engine that can be adapted: all or none of them."""

ARMS: tuple[Arm, ...] = ("visual", "audio")

SAME_SIZE = (
    (("face", "embedding"), ("visual", "embeddings")),
    (("visual", "embedding"), ("fusion", "visual")),
    (("audio", "embedding"), ("fusion", "audio")),
    *(((arm, "shift"), (arm, "scale")) for arm in ARMS),
    *(((arm, "shift"), (arm, "observations")) for arm in ARMS),
)
"""Tensors, by engine and name, whose last dimensions are one and the same."""


def check_described(name: str, engine: OnnxEngine, entry: EngineFile) -> None:
    """Check that a loaded engine is what the manifest says.

    Raises:
        EngineError: a tensor is missing, superfluous, or of another type or shape.
    """
    for kind, found, listed in (
        ("inputs", engine.inputs, entry.inputs),
        ("outputs", engine.outputs, entry.outputs),
    ):
        if [_nameless(t) for t in found] != [_nameless(t) for t in listed]:
            raise EngineError(
                f"{entry.file}: the {kind} of {name} are {_listed(found)}, but the manifest says "
                f"{_listed(listed)}"
            )


def check_interface(manifest: Manifest) -> None:
    """Check that the engines have the tensors that the runtime uses, and fit together.

    Raises:
        EngineError: they have not, or don't.
    """
    sizes: dict[tuple[str, str], int | str] = {}
    for name, (inputs, outputs) in TENSORS.items():
        engine = manifest.engines[name]
        if name in ARMS and {t.name for t in engine.inputs} & {*ADAPTABLE[0]}:
            inputs, outputs = inputs + ADAPTABLE[0], outputs + ADAPTABLE[1]
        found = {t.name: t for t in engine.inputs}, {t.name: t for t in engine.outputs}
        missing = [n for n in inputs if n not in found[0]]
        missing += [n for n in outputs if n not in found[1]]
        if missing or len(found[0]) > len(inputs):
            wrong = f"has no {', '.join(missing)}" if missing else "has inputs that are not known"
            raise EngineError(f"{engine.file}: the engine {name} {wrong}")
        sizes |= {(name, t.name): t.shape[-1] for t in (*engine.inputs, *engine.outputs) if t.shape}
    for one, other in SAME_SIZE:
        if one in sizes and other in sizes and sizes[one] != sizes[other]:
            raise EngineError(
                f"{manifest.engines[one[0]].file}: {one[0]}'s {one[1]} has {sizes[one]} numbers, "
                f"but {other[0]}'s {other[1]} {sizes[other]}"
            )
    if sizes.get(("face", "faces")) != manifest.crop.size:
        raise EngineError(
            f"{manifest.engines['face'].file}: it takes faces of {sizes.get(('face', 'faces'))} "
            f"pixels, but the manifest says {manifest.crop.size}"
        )


def _nameless(tensor: TensorSpec) -> tuple[str, str, tuple[int, ...]]:
    """A tensor without the names of its dynamic dimensions, which mean nothing."""
    shape = tuple(size if isinstance(size, int) else -1 for size in tensor.shape)
    return tensor.name, tensor.dtype, shape


def _listed(tensors: Iterable[TensorSpec]) -> str:
    parts = (f"{t.name} {t.dtype} ({', '.join(map(str, t.shape))})" for t in tensors)
    return "; ".join(parts)[:200] or "none"
