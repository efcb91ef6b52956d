"""MTCNN's three networks (Zhang et al. 2016): published weights in PyTorch and in ONNX.

`python -m export.mtcnn` writes `assets/mtcnn.safetensors` from the files in the `facenet-pytorch`
package.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from export.assets import MTCNN
from export.onnx_io import save_onnx, trace_module
from export.rewrites.mtcnn import rewrite_mtcnn

WINDOW = 12  # pixels on a side of P-Net's sliding window

PACKAGE = "facenet-pytorch"  # 2.6.0, which ships the weights
PUBLISHED_SHA256 = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}


class Normalize(nn.Module):
    """Convert (n, height, width, 3), 0 to 255, to (n, 3, height, width), -1 to 1."""

    def forward(self, images: Tensor) -> Tensor:
        return (images.permute(0, 3, 1, 2) - 127.5) / 128


class ProposalNet(nn.Module):
    """P-Net: face proposals from a 12x12 sliding window with stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score every window of an image.

        Args:
            image: (1, height, width, 3) float32, BGR, 0 to 255, at least 12 pixels on a side.

        Returns:
            probability of a face: (1, rows, columns); offsets of its left, top, right and bottom
            from the window's, in widths and heights of the window: (1, 4, rows, columns).
        """
        x = self.prelu1(self.conv1(self.normalize(image)))
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        return face_probability(self.conv4_1(x)), self.conv4_2(x)


class RefinementNet(nn.Module):
    """R-Net: face probability and box offsets of candidates."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(64 * 3 * 3, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Score candidates.

        Args:
            candidates: (n, 24, 24, 3) float32, BGR, 0 to 255.

        Returns:
            probability of a face: (n,); offsets as P-Net's: (n, 4).
        """
        x = self.prelu1(self.conv1(self.normalize(candidates)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu2(self.conv2(x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(x.flatten(1)))
        return face_probability(self.dense5_1(x)), self.dense5_2(x)


class OutputNet(nn.Module):
    """O-Net: face probability, box offsets and landmarks of candidates, at twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(128 * 3 * 3, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score candidates and locate their landmarks.

        Args:
            candidates: (n, 48, 48, 3) float32, BGR, 0 to 255.

        Returns:
            probability of a face: (n,); offsets as P-Net's: (n, 4); landmarks: (n, 10), the x
            coordinates of both eyes, the nose and both mouth corners, in widths of the candidate
            from its left, then their y coordinates.
        """
        x = self.prelu1(self.conv1(self.normalize(candidates)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu2(self.conv2(x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x))
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(x.flatten(1)))
        return face_probability(self.dense6_1(x)), self.dense6_2(x), self.dense6_3(x)


NETWORKS: dict[str, type[nn.Module]] = {
    "pnet": ProposalNet,
    "rnet": RefinementNet,
    "onet": OutputNet,
}


def face_probability(logits: Tensor) -> Tensor:
    """Softmax probability of the second of two classes along dimension 1, which is removed."""
    # Written out: ONNX Runtime's Sigmoid is so coarse near 1 that confident candidates change
    # their order, and its Softmax over dimension 1 of P-Net's output takes a tenth of P-Net's time.
    return 1 / (1 + (logits[:, 0] - logits[:, 1]).exp())


def convert_weights(path: Path = MTCNN) -> None:
    """Write the weights of the installed `facenet-pytorch` as one file, for BGR images.

    Only their order changes: that of the first layers' input channels, and that of the first dense
    layers' inputs, which facenet-pytorch flattens width first.

    Raises:
        importlib.metadata.PackageNotFoundError: the package is not installed.
        ValueError: a file is not that of release 2.6.0.
    """
    files = {file.stem: file.locate() for file in importlib.metadata.files(PACKAGE) or []}
    converted: dict[str, Tensor] = {}
    for name, network_class in NETWORKS.items():
        file = Path(str(files[name]))
        if hashlib.sha256(file.read_bytes()).hexdigest() != PUBLISHED_SHA256[name]:
            raise ValueError(f"{file}: not the file in {PACKAGE} 2.6.0")
        weights = torch.load(file, weights_only=True)
        weights["conv1.weight"] = weights["conv1.weight"].flip(1)
        dense = "dense5.weight" if name == "onet" else "dense4.weight"
        if dense in weights:
            width_first = weights[dense].unflatten(1, (3, 3, -1))
            weights[dense] = width_first.permute(0, 3, 2, 1).flatten(1)
        network_class().load_state_dict(weights, strict=True)
        converted |= {f"{name}.{key}": value.contiguous() for key, value in weights.items()}
    save_file(converted, path)


def load_mtcnn(path: Path = MTCNN) -> dict[str, nn.Module]:
    """Build the networks with their published weights, by name: pnet, rnet, onet.

    Raises:
        RuntimeError: a weight is missing, unknown, or of another shape.
    """
    states: dict[str, dict[str, Tensor]] = {name: {} for name in NETWORKS}
    for key, value in load_file(path).items():
        name, _, weight = key.partition(".")
        states.setdefault(name, {})[weight] = value
    if unknown := states.keys() - NETWORKS.keys():
        raise RuntimeError(f"{path}: weights of unknown networks: {', '.join(sorted(unknown))}")
    networks = {}
    for name, network_class in NETWORKS.items():
        networks[name] = network_class().eval()
        networks[name].load_state_dict(states[name], strict=True)
    return networks


def export_mtcnn(folder: Path) -> dict[str, Path]:
    """Export pnet.onnx, rnet.onnx and onet.onnx to a folder; reproducible.

    Returns:
        The files by the engines' names.
    """
    image = {1: Dim("height", min=WINDOW), 2: Dim("width", min=WINDOW)}
    candidates = {0: Dim("n", min=1)}
    detection = ("probability", "offsets")
    # Odd sizes: from even ones the exporter infers that all sizes are even.
    signatures: dict[str, tuple[str, tuple[int, ...], dict[int, Dim], tuple[str, ...]]] = {
        "pnet": ("image", (1, 63, 85, 3), image, detection),
        "rnet": ("candidates", (5, 24, 24, 3), candidates, detection),
        "onet": ("candidates", (5, 48, 48, 3), candidates, (*detection, "landmarks")),
    }
    networks, paths = load_mtcnn(), {}
    for name, (input_name, shape, dynamic, outputs) in signatures.items():
        example = {input_name: torch.zeros(shape)}
        network = rewrite_mtcnn(name, networks[name])
        model = trace_module(network, example, outputs, (dynamic,)).model_proto
        _name_output_sizes(model)
        paths[name] = folder / f"{name}.onnx"
        save_onnx(model, paths[name])
    return paths


def _name_output_sizes(model: onnx.ModelProto) -> None:
    """Name the dynamic dimensions of P-Net's outputs `rows` and `columns`, not by formulas."""
    for value in model.graph.output:
        free = [size for size in value.type.tensor_type.shape.dim if size.dim_param]
        if len(free) == 2:
            free[0].dim_param, free[1].dim_param = "rows", "columns"


if __name__ == "__main__":
    convert_weights()
