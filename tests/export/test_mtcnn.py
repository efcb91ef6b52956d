"""The exported MTCNN is facenet-pytorch's, and its weights are the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfer_edge.engines.onnx import OnnxEngine, providers_for
from tests.export.exports import Exported
from tests.support.oracles import facenet

NETWORKS = ("pnet", "rnet", "onet")


@pytest.fixture(scope="session")
def engines(exported: Exported) -> dict[str, OnnxEngine]:
    return {
        name: OnnxEngine(exported.files[name], providers_for("cpu"), threads=1) for name in NETWORKS
    }


def test_networks_are_facenets() -> None:
    torch = pytest.importorskip("torch")
    from export.mtcnn import load_mtcnn

    package, ours = facenet(), load_mtcnn()
    theirs = {"pnet": package.PNet(), "rnet": package.RNet(), "onet": package.ONet()}
    for name, shape in (("pnet", (1, 50, 71)), ("rnet", (9, 24, 24)), ("onet", (9, 48, 48))):
        pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.float32)
        red_first = torch.from_numpy(pixels[..., ::-1].copy()).permute(0, 3, 1, 2)
        with torch.no_grad():
            probability, *rest = ours[name](torch.from_numpy(pixels))
            *their_rest, both = theirs[name].eval()((red_first - 127.5) * 0.0078125)
        torch.testing.assert_close(probability, both[:, 1], rtol=1e-4, atol=1e-6)
        assert len(rest) == len(their_rest)
        for mine, other in zip(rest, their_rest, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("pnet", (1, 12, 12)), ("pnet", (1, 13, 40)), ("pnet", (1, 101, 66))]
    + [(name, (n, size, size)) for name, size in (("rnet", 24), ("onet", 48)) for n in (1, 2, 19)],
)
def test_exported_networks_are_the_networks(
    engines: dict[str, OnnxEngine], name: str, shape: tuple[int, ...]
) -> None:
    torch = pytest.importorskip("torch")
    from export.mtcnn import load_mtcnn

    pixels = np.random.default_rng(2).uniform(0, 255, (*shape, 3)).astype(np.float32)
    engine = engines[name]
    exported = engine(**{engine.inputs[0].name: pixels})
    with torch.no_grad():
        direct = load_mtcnn()[name](torch.from_numpy(pixels))
    assert list(exported) == ["probability", "offsets", "landmarks"][: len(direct)]
    for ours, theirs in zip(exported.values(), direct, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


def test_export_is_the_same_each_time_and_stands_alone(exported: Exported, tmp_path: Path) -> None:

    from export.mtcnn import export_mtcnn

    again = export_mtcnn(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "onet.onnx",
        "pnet.onnx",
        "rnet.onnx",
    ]
    for name in NETWORKS:
        written = exported.files[name].read_bytes()
        assert written == again[name].read_bytes()
        assert b".py" not in written
        model = exported.graph(name)
        assert not {node.op_type for node in model.graph.node} & {"If", "Loop", "Scan", "PRelu"}
        assert all(node.domain == "" for node in model.graph.node)


def test_weights_are_the_published_ones(tmp_path: Path) -> None:
    facenet()
    from export.assets import MTCNN
    from export.mtcnn import convert_weights

    convert_weights(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == MTCNN.read_bytes()


@pytest.mark.parametrize("change", ["missing", "extra", "unknown network", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    from export.assets import MTCNN
    from export.mtcnn import load_mtcnn

    weights = load_file(MTCNN)
    if change == "missing":
        del weights["rnet.prelu2.weight"]
    else:
        key = {"extra": "rnet.conv9.bias", "unknown network": "qnet.conv1.bias"}.get(change)
        weights[key or "onet.conv1.bias"] = torch.zeros(3)
    save_file(weights, tmp_path / "changed.safetensors")
    with pytest.raises(RuntimeError):
        load_mtcnn(tmp_path / "changed.safetensors")
