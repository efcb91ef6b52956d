"""Other people's packages, imported without what they drag in and don't need here."""

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

if TYPE_CHECKING:
    from train.models.emotion2vec import Emotion2vecConfig


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

    It takes one function from torchvision for finding faces, `batched_nms`; ours stands in for it.
    Of boxes whose probability is equal, and it often is exactly 1, the package takes the one that
    NumPy's unstable sort puts last, which differs between processors; here it is the first.

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
        package = _imported("facenet_pytorch", "facenet-pytorch")
    last_is_best = {"argsort": lambda scores: np.argsort(-scores, kind="stable")[::-1]}
    inner: Any = importlib.import_module("facenet_pytorch.models.utils.detect_face")
    inner.np = SimpleNamespace(**vars(np) | last_is_best)
    return package


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


def emotion2vec_conf(config: Emotion2vecConfig) -> dict[str, Any]:
    """Give what that class takes as `model_conf` for these sizes, as the published model has it.

    The published one also has dropouts, and the decoder of its pre-training, which take no part in
    inference.
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
        # None of these has a part in inference, but each must be there.
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
    """Do what torchvision's function of that name does, rounding as its CPU code does.

    Args:
        boxes: (n, 4) float32 tensor of left, top, right, bottom.
        scores: (n,) tensor; of equal ones the first counts as the best.
        groups: (n,) tensor; boxes of different ones don't compete.

    Returns:
        (k,) int64 tensor: the kept boxes' indices, the best first.
    """
    import torch

    order = np.argsort(-scores.numpy(), kind="stable")
    corners, group = boxes.numpy()[order], groups.numpy()[order]
    sides = np.minimum(corners[:, None, 2:], corners[:, 2:])
    sides -= np.maximum(corners[:, None, :2], corners[:, :2])
    common = np.maximum(sides, 0).prod(2)  # (n, n), as what follows
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    with np.errstate(invalid="ignore"):  # boxes without an area: NaN, which is over nothing
        overlap = common / (areas[:, None] + areas - common)
    # Compared in double precision, where a single-precision 0.3 is over 0.3.
    beats = (overlap.astype(float) > iou_threshold) & (group[:, None] == group)
    beaten = np.zeros(len(order), bool)
    kept: list[int] = []
    for place, index in enumerate(order):
        if not beaten[place]:
            kept.append(index)
            beaten |= beats[place]
    return torch.tensor(kept, dtype=torch.int64)


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
