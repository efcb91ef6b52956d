"""Rewritten MTCNN networks give the same results, whatever the slopes of their PReLUs."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from tests.export.exports import Exported

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from export.mtcnn import OutputNet, ProposalNet, RefinementNet  # noqa: E402
from export.rewrites.mtcnn import FastProposalNet, PooledPrelu, rewrite_mtcnn  # noqa: E402

SLOPES = {
    "of both signs": (-0.9, 0.9),
    "also steeper than 1": (-1.5, 1.5),
    "all falling": (-0.9, -0.1),
    "none falling": (0.0, 0.9),
}


def _with_slopes(network: nn.Module, lowest: float, highest: float) -> nn.Module:
    """A network with random slopes, also in the later layers, where MTCNN's are below 1."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, layer in network.named_children():
            if isinstance(layer, nn.PReLU):
                first = name == "prelu1"
                layer.weight.uniform_(lowest, highest if first else min(highest, 0.9))
    return network.eval()


def _outputs(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tuple(network(images))


@pytest.mark.parametrize("slopes", SLOPES.values(), ids=list(SLOPES))
@pytest.mark.parametrize(
    ("name", "network_class", "shapes"),
    [
        ("pnet", ProposalNet, [(1, 12, 12), (1, 31, 44), (1, 44, 31)]),
        ("rnet", RefinementNet, [(1, 24, 24), (5, 24, 24)]),
        ("onet", OutputNet, [(3, 48, 48)]),
    ],
)
def test_results_are_the_same(
    name: str,
    network_class: type[nn.Module],
    shapes: list[tuple[int, ...]],
    slopes: tuple[float, float],
) -> None:
    network = _with_slopes(network_class(), *slopes)
    images = [torch.rand(*shape, 3) * 255 for shape in shapes]
    expected = [_outputs(network, image) for image in images]
    rewritten = rewrite_mtcnn(name, network)
    for image, outputs in zip(images, expected, strict=True):
        for ours, theirs in zip(_outputs(rewritten, image), outputs, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_layers_are_whole_blocks_of_channels() -> None:
    network = rewrite_mtcnn("rnet", _with_slopes(RefinementNet(), -0.9, 0.9))
    layers = dict(network.named_children())
    assert layers["conv1"].weight.shape[0] == layers["conv2"].weight.shape[1] == 32
    fast = rewrite_mtcnn("pnet", _with_slopes(ProposalNet(), -0.9, -0.1))
    assert isinstance(fast, FastProposalNet)
    assert fast.conv1.weight.shape[0] == 24  # ten channels and their twins


def test_pooled_prelu_needs_twice_only_what_falls() -> None:
    assert PooledPrelu(torch.tensor([0.5, -0.5, 1.5, -2.0])).falling == [1, 3]


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_values_are_reordered_once_only(exported: Exported, name: str, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(exported.files[name], options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx")
    kinds = [node.op_type for node in optimized.graph.node]
    if not any(node.domain == "com.microsoft.nchwc" for node in optimized.graph.node):
        pytest.skip("this processor has no kernels for blocks of channels")
    assert kinds.count("ReorderInput") == 0
    assert kinds.count("ReorderOutput") == 1
    assert kinds.count("Transpose") == 1
