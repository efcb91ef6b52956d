"""MTCNN's three networks (Zhang et al. 2016), from the published weights to ONNX.

`python -m export.mtcnn` writes `assets/mtcnn.safetensors` again, out of the files that the
`facenet-pytorch` package ships.
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
from export.onnx_io import save_onnx, traced

WINDOW = 12  # pixels on a side of what P-Net looks at

PACKAGE = "facenet-pytorch"  # 2.6.0, whose weight files these are
PUBLISHED_SHA256 = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}


class Prelu(nn.Module):
    """PReLU without ONNX's operator for it, which took half of MTCNN's time in ONNX Runtime 1.32.

    P-Net on 321x181 pixels, one thread: 6.8 ms with the operator, 4.0 ms with this.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        slope = self.weight.view(-1, *[1] * (x.dim() - 2))
        return F.relu(x) * (1 - slope) + x * slope


class ProposalNet(nn.Module):
    """P-Net: where in a picture, by a 12x12 window every 2 pixels, a face may be."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = Prelu(10)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = Prelu(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = Prelu(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Look at every window of a picture.

        Args:
            image: (1, height, width, 3) float32, BGR, 0 to 255, at least 12 pixels on a side.

        Returns:
            probability of a face: (1, rows, columns); offsets of its left, top, right and bottom
            from the window's, in widths and heights of the window: (1, 4, rows, columns).
        """
        x = self.prelu1(self.conv1(normalised(image)))
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        return face_probability(self.conv4_1(x)), self.conv4_2(x)


class RefinementNet(nn.Module):
    """R-Net: whether a candidate is a face, and where in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = Prelu(28)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = Prelu(48)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = Prelu(64)
        self.dense4 = nn.Linear(64 * 3 * 3, 128)
        self.prelu4 = Prelu(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Judge candidates.

        Args:
            candidates: (n, 24, 24, 3) float32, BGR, 0 to 255.

        Returns:
            probability of a face: (n,); offsets as P-Net's: (n, 4).
        """
        x = self.prelu1(self.conv1(normalised(candidates)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu2(self.conv2(x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(x.flatten(1)))
        return face_probability(self.dense5_1(x)), self.dense5_2(x)


class OutputNet(nn.Module):
    """O-Net: R-Net's judgement at twice the size, and the face's landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = Prelu(32)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = Prelu(64)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = Prelu(64)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = Prelu(128)
        self.dense5 = nn.Linear(128 * 3 * 3, 256)
        self.prelu5 = Prelu(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Judge candidates and find their landmarks.

        Args:
            candidates: (n, 48, 48, 3) float32, BGR, 0 to 255.

        Returns:
            probability of a face: (n,); offsets as P-Net's: (n, 4); landmarks: (n, 10), the
            horizontal places of both eyes, the nose and both mouth corners, in widths of the
            candidate from its left, then their vertical places.
        """
        x = self.prelu1(self.conv1(normalised(candidates)))
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


def normalised(images: Tensor) -> Tensor:
    """Bring (n, height, width, 3), 0 to 255, to the (n, 3, height, width) that MTCNN learnt on."""
    return (images.permute(0, 3, 1, 2) - 127.5) / 128


def face_probability(logits: Tensor) -> Tensor:
    """The second of two classes' softmax, over dimension 1, which goes away."""
    # Written out, because ONNX Runtime's Sigmoid is so coarse near 1 that sure candidates change
    # places, and its Softmax over a picture's dimension 1 takes a tenth of P-Net's time.
    return 1 / (1 + (logits[:, 0] - logits[:, 1]).exp())


def convert_weights(path: Path = MTCNN) -> None:
    """Write the installed `facenet-pytorch`'s weights as one file, for pictures in BGR.

    Only their order changes: of the first layers' input channels, and of the first dense layers'
    inputs, which were flattened width first.

    Raises:
        importlib.metadata.PackageNotFoundError: the package is not installed.
        ValueError: one of its files is not that of release 2.6.0.
    """
    files = {file.stem: file.locate() for file in importlib.metadata.files(PACKAGE) or []}
    converted: dict[str, Tensor] = {}
    for name, network_class in NETWORKS.items():
        file = Path(str(files[name]))
        if hashlib.sha256(file.read_bytes()).hexdigest() != PUBLISHED_SHA256[name]:
            raise ValueError(f"{file}: not the file of {PACKAGE} 2.6.0")
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
        RuntimeError: the file lacks a weight, has one too many, or one of another shape.
    """
    own: dict[str, dict[str, Tensor]] = {name: {} for name in NETWORKS}
    for key, value in load_file(path).items():
        name, _, weight = key.partition(".")
        own.setdefault(name, {})[weight] = value
    if unknown := own.keys() - NETWORKS.keys():
        raise RuntimeError(f"{path}: weights of unknown networks: {', '.join(sorted(unknown))}")
    networks = {}
    for name, network_class in NETWORKS.items():
        networks[name] = network_class().eval()
        networks[name].load_state_dict(own[name], strict=True)
    return networks


def export_mtcnn(folder: Path) -> dict[str, Path]:
    """Write pnet.onnx, rnet.onnx and onet.onnx into a folder, with the same bytes each time.

    Returns:
        The files, by the networks' names.
    """
    picture = {1: Dim("height", min=WINDOW), 2: Dim("width", min=WINDOW)}
    candidates = {0: Dim("n", min=1)}
    judgement = ("probability", "offsets")
    # Odd sizes, or the exporter takes it that sizes are even.
    plans: dict[str, tuple[str, tuple[int, ...], dict[int, Dim], tuple[str, ...]]] = {
        "pnet": ("image", (1, 63, 85, 3), picture, judgement),
        "rnet": ("candidates", (5, 24, 24, 3), candidates, judgement),
        "onet": ("candidates", (5, 48, 48, 3), candidates, (*judgement, "landmarks")),
    }
    networks, paths = load_mtcnn(), {}
    for name, (input_name, shape, dynamic, outputs) in plans.items():
        example = {input_name: torch.zeros(shape)}
        model = traced(networks[name], example, outputs, (dynamic,)).model_proto
        _name_output_sizes(model)
        paths[name] = folder / f"{name}.onnx"
        save_onnx(model, paths[name])
    return paths


def _name_output_sizes(model: onnx.ModelProto) -> None:
    """Call what varies in P-Net's outputs rows and columns; the exporter gives formulas."""
    for value in model.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            for size, name in (("height", "rows"), ("width", "columns")):
                if size in dimension.dim_param:
                    dimension.dim_param = name


if __name__ == "__main__":
    convert_weights()
