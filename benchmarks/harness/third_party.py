"""Third-party packages of the benchmarks, imported without their unused dependencies."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from mfer_edge.errors import MferError
from mfer_edge.install import install_hint

if TYPE_CHECKING:
    from train.models.emotion2vec import Emotion2vecConfig


VERSIONS = {
    "facenet-pytorch": "2.6.0",
    "funasr": "1.4.16",
    "silero-vad": "6.2.3",
    "transformers": "5.23.0",
}
"""Measured versions, by the names under which the packages are installed."""


@functools.cache
def facenet() -> ModuleType:
    """Import facenet-pytorch without torchvision, which has no build for every PyTorch.

    Face detection uses one function of torchvision, `batched_nms`; ours replaces it. Of boxes with
    equal probability, often exactly 1, the package takes the one that NumPy's unstable sort puts
    last, which differs between processors; here it is the first.

    Raises:
        MferError: it is not installed.
    """
    with _replaced_modules(
        {
            "torchvision": {},
            "torchvision.transforms": {"functional": None},  # for face crops as tensors: unused
            "torchvision.ops": {},
            "torchvision.ops.boxes": {"batched_nms": batched_nms},
            "facenet_pytorch.models.inception_resnet_v1": {"InceptionResnetV1": None},
        }
    ):
        package = _imported("facenet_pytorch", "facenet-pytorch")
    last_is_best = {"argsort": lambda scores: np.argsort(-scores, kind="stable")[::-1]}
    inner: Any = importlib.import_module("facenet_pytorch.models.utils.detect_face")
    inner.np = SimpleNamespace(**vars(np) | last_is_best)
    return package


@functools.cache
def emotion2vec() -> ModuleType:
    """Import funasr's module with the class `Emotion2vec`.

    The package's `__init__` imports all of its models, and the model imports one function that
    reads audio files with librosa and more: a model that takes samples needs neither.

    Raises:
        MferError: it is not installed.
    """
    found = importlib.util.find_spec("funasr")
    if found is None or not found.submodule_search_locations:
        raise _missing("funasr")
    # These two stay: building the model imports more of the package.
    folders = list(found.submodule_search_locations)
    sys.modules["funasr"] = _module("funasr", __path__=folders, __spec__=found)
    name = "funasr.utils.load_utils"
    sys.modules[name] = _module(name, load_audio_text_image_video=None)
    # Removed in Python 3.12; used to compare PyTorch's version with 1.6.
    with _replaced_modules({"distutils": {}, "distutils.version": {"LooseVersion": str}}):
        return _imported("funasr.models.emotion2vec.model", "funasr")


def emotion2vec_conf(config: Emotion2vecConfig) -> dict[str, Any]:
    """Build the `model_conf` of funasr's `Emotion2vec` for these sizes.

    Dropouts and the decoder of the pre-training, which the published configuration also has, are
    left out: inference does not use them.
    """
    audio = {
        "feature_encoder_spec": str(list(config.convolutions)),
        "extractor_mode": "layer_norm",
        "conv_pos_width": config.position_kernel * config.position_depth,
        "conv_pos_depth": config.position_depth,
        "conv_pos_groups": config.position_groups,
        "conv_pos_pre_ln": False,
        "prenet_depth": config.prenet_depth,
        "model_depth": config.depth,
        "use_alibi_encoder": True,
        "num_alibi_heads": config.heads,
        "alibi_scale": 1.0,
        "learned_alibi": False,
        "learned_alibi_scale": True,
        "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False,
        "num_extra_tokens": config.extra_tokens,
        "init_extra_token_zero": True,
        "decoder": None,
        "prenet_layerdrop": 0.0,
        "prenet_dropout": 0.0,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "local_grad_mult": 1.0,
    }
    return {
        "modalities": {"audio": audio},
        "embed_dim": config.width,
        "num_heads": config.heads,
        "depth": config.depth,
        "mlp_ratio": config.feed_forward / config.width,
        "norm_eps": 1e-5,
        "norm_affine": True,
        "layer_norm_first": False,
        "normalize": True,
        "end_of_block_targets": False,
        # Unused in inference, but required.
        "encoder_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "post_mlp_drop": 0.0,
        "dropout_input": 0.0,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "layerdrop": 0.0,
    }


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
    """Non-maximum suppression per group: torchvision's function, with the rounding of its CPU code.

    Args:
        boxes: (n, 4) float32 tensor of left, top, right, bottom.
        scores: (n,) tensor; of equal ones the first counts as the best.
        groups: (n,) tensor; boxes of different groups don't suppress each other.

    Returns:
        (k,) int64 tensor: the kept boxes' indices, the best first.
    """
    import torch

    order = np.argsort(-scores.numpy(), kind="stable")
    corners, group = boxes.numpy()[order], groups.numpy()[order]
    sides = np.minimum(corners[:, None, 2:], corners[:, 2:])
    sides -= np.maximum(corners[:, None, :2], corners[:, :2])
    intersection = np.maximum(sides, 0).prod(2)  # (n, n), as what follows
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    with np.errstate(invalid="ignore"):  # no area: NaN, over no threshold
        iou = intersection / (areas[:, None] + areas - intersection)
    # Compared in double precision, where a single-precision 0.3 is over 0.3.
    suppresses = (iou.astype(float) > iou_threshold) & (group[:, None] == group)
    suppressed = np.zeros(len(order), bool)
    kept: list[int] = []
    for rank, index in enumerate(order):
        if not suppressed[rank]:
            kept.append(index)
            suppressed |= suppresses[rank]
    return torch.tensor(kept, dtype=torch.int64)


def _imported(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(package, error) from error


def _missing(package: str, error: ImportError | None = None) -> MferError:
    reason = f" ({error})" if error else ""
    pinned = " ".join(f"{name}=={version}" for name, version in VERSIONS.items())
    return MferError(
        f"{package} can't be imported{reason}: {install_hint('dev')}, then "
        f"pip install --no-deps {pinned}"
    )


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


@contextmanager
def _replaced_modules(contents: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Replace modules, installed or not, by ones of these contents within the block."""
    before = {name: sys.modules.pop(name) for name in contents if name in sys.modules}
    sys.modules.update({name: _module(name, **attributes) for name, attributes in contents.items()})
    try:
        yield
    finally:
        for name in contents:
            del sys.modules[name]
        sys.modules.update(before)
