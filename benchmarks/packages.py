"""Other people's packages, imported without what they drag in and don't need here."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from mfer_edge.errors import MferError

VERSIONS = {
    "facenet-pytorch": "2.6.0",
    "funasr": "1.4.16",
    "silero-vad": "6.2.3",
    "transformers": "5.23.0",
}
"""What was measured, by the names under which they are installed."""


@functools.cache
def facenet() -> ModuleType:
    """Import facenet-pytorch without torchvision, which has no build for every PyTorch.

    It takes one function from torchvision for finding faces, `batched_nms`; OpenCV's, which is
    compiled code too, stands in for it.

    Raises:
        MferError: it is not installed.
    """
    with _stand_ins(
        {
            "torchvision": {},
            "torchvision.transforms": {"functional": None},  # brings face crops to tensors
            "torchvision.ops": {},
            "torchvision.ops.boxes": {"batched_nms": batched_nms},
            "facenet_pytorch.models.inception_resnet_v1": {"InceptionResnetV1": None},
        }
    ):
        return _imported("facenet_pytorch", "facenet-pytorch")


@functools.cache
def emotion2vec() -> ModuleType:
    """Import funasr's module with the class `Emotion2vec`.

    At its start the package imports everything it has, and the model one function that reads sound
    with librosa and more: neither is needed for a model that is given samples.

    Raises:
        MferError: it is not installed.
    """
    found = importlib.util.find_spec("funasr")
    if found is None or not found.submodule_search_locations:
        raise _missing("funasr")
    # These two stay: the model imports more from the package as it is built.
    folders = list(found.submodule_search_locations)
    sys.modules["funasr"] = _module("funasr", __path__=folders, __spec__=found)
    name = "funasr.utils.load_utils"
    sys.modules[name] = _module(name, load_audio_text_image_video=None)
    # Gone with Python 3.12; asked whether PyTorch is older than 1.6.
    with _stand_ins({"distutils": {}, "distutils.version": {"LooseVersion": str}}):
        return _imported("funasr.models.emotion2vec.model", "funasr")


def silero() -> ModuleType:
    """Import silero-vad, which sets PyTorch to one thread.

    Raises:
        MferError: it is not installed.
    """
    return _imported("silero_vad", "silero-vad")


def transformers() -> ModuleType:
    """Import transformers.

    Raises:
        MferError: it is not installed.
    """
    return _imported("transformers", "transformers")


def batched_nms(boxes: Any, scores: Any, groups: Any, iou_threshold: float) -> Any:
    """Do what torchvision's function of that name does, by OpenCV.

    Args:
        boxes: (n, 4) tensor of left, top, right, bottom.
        scores: (n,) tensor, above 0.
        groups: (n,) tensor; boxes of different ones don't compete.

    Returns:
        (k,) int64 tensor: the kept boxes' indices, the best first.
    """
    import cv2
    import torch

    sized = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
    kept = cv2.dnn.NMSBoxesBatched(
        sized, scores.tolist(), groups.int().tolist(), 0.0, iou_threshold
    )
    return torch.as_tensor(kept, dtype=torch.int64)


def _imported(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(package, error) from error


def _missing(package: str, error: ImportError | None = None) -> MferError:
    why = f" ({error})" if error else ""
    bare = " ".join(f"{name}=={version}" for name, version in VERSIONS.items())
    return MferError(
        f"{package} can't be imported{why}: pip install 'mfer-edge[dev]', then "
        f"pip install --no-deps {bare}"
    )


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


@contextmanager
def _stand_ins(contents: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Have modules of these contents for a while, whether the real ones are there or not."""
    before = {name: sys.modules.pop(name) for name in contents if name in sys.modules}
    sys.modules.update({name: _module(name, **held) for name, held in contents.items()})
    try:
        yield
    finally:
        for name in contents:
            del sys.modules[name]
        sys.modules.update(before)
