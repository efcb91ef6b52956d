"""Token merging: against a plain implementation, and as a graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from export.checkpoint import Source
from export.graphs import model_graphs, to_onnx
from export.precision.fp16 import emulate_fp16, to_fp16
from export.precision.int8 import quantize_dynamic
from export.rewrites.token_merging import MergingError, merge, merge_tokens
from export.rewrites.vit import simplify_vit
from mfer_edge.engines.onnx import OnnxEngine
from tests.export.exports import small_paper
from tests.export.small_graphs import cosine
from train.models.emotion_model import EmotionModel
from train.models.vit import Vit, VitConfig
from train.presets import COMPACT

SMALL = VitConfig(size=32, patch=8, width=24, depth=4, heads=4, feed_forward=48)
PATCHES = 16
MERGED = 3  # of 16 patches in each of three blocks: the last looks at 7
FACES = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32)).astype(np.uint8)


def merge_naively(
    x: np.ndarray, size: np.ndarray, keys: np.ndarray, merged: int
) -> dict[frozenset[int], np.ndarray]:
    """Merge the tokens of one face; return the means by the tokens in each."""
    odd, even = range(1, len(x), 2), range(2, len(x), 2)

    def similarity(a: int, b: int) -> float:
        return float(keys[a] @ keys[b] / np.linalg.norm(keys[a]) / np.linalg.norm(keys[b]))

    partner = {a: max(even, key=lambda b: similarity(a, b)) for a in odd}
    sources = sorted(odd, key=lambda a: -similarity(a, partner[a]))[:merged]
    groups = [
        [n, *(a for a in sources if partner[a] == n)] for n in range(len(x)) if n not in sources
    ]
    return {
        frozenset(group): sum(x[n] * size[n] for n in group) / sum(size[n] for n in group)
        for group in groups
    }


@settings(max_examples=60)
@given(tokens=st.integers(3, 20), merged=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_the_most_similar_tokens_become_their_mean(tokens: int, merged: int, seed: int) -> None:
    merged = min(merged, (tokens - 1) // 2)
    random = np.random.default_rng(seed)
    x, keys = (random.normal(0, 1, (2, tokens, width)) for width in (5, 3))
    size = random.integers(1, 9, (2, tokens, 1)).astype(float)
    y, sizes = (t.numpy() for t in merge(*map(torch.tensor, (x, size, keys)), merged))
    assert y.shape == (2, tokens - merged, 5)
    for face in range(2):
        expected = merge_naively(x[face], size[face], keys[face], merged)
        np.testing.assert_allclose(y[face, 0], x[face, 0])
        assert sizes[face, 0] == size[face, 0]
        given_ = sorted([*row, of[0]] for row, of in zip(y[face], sizes[face], strict=True))
        wanted = sorted([*mean, sum(size[face][n, 0] for n in of)] for of, mean in expected.items())
        np.testing.assert_allclose(given_, wanted, rtol=1e-9)


def random_vit(config: VitConfig = SMALL) -> Vit:
    """A transformer with random weights, biases and norms too."""
    torch.manual_seed(0)
    model = Vit(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def source(vit: Vit) -> Source:
    paper = small_paper()
    model = EmotionModel(paper.preset, vit, paper.speech).eval()
    return Source(model, False, (), ("Untrained.",))


@pytest.fixture(scope="module")
def exact() -> Source:
    return source(random_vit())


@pytest.fixture(scope="module")
def merging(exact: Source) -> Source:
    return merge_tokens(exact, MERGED)


def embed(of: Source, faces: np.ndarray = FACES) -> Tensor:
    with torch.inference_mode():
        return of.model.face(torch.from_numpy(faces))


def test_embeddings_are_approximate(exact: Source, merging: Source) -> None:
    given_, expected = embed(merging), embed(exact)
    assert given_.shape == expected.shape == (5, SMALL.width)
    assert not torch.allclose(given_, expected, atol=1e-3)
    assert cosine(given_.numpy(), expected.numpy()) > 0.9


def test_merging_equal_patches_changes_nothing(exact: Source) -> None:
    """Proportional attention weighs a merged token by its number of patches."""
    model = random_vit()
    model.vit.get_submodule("embeddings").position_embeddings.data[:] = 0.1
    plain = np.repeat(np.arange(40, 240, 40, dtype=np.uint8), 32 * 32).reshape(5, 1, 32, 32)
    same = source(model)
    merged = embed(merge_tokens(same, 4), plain)
    torch.testing.assert_close(merged, embed(same, plain), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(merged[0], merged[1])


def test_faces_of_a_batch_are_independent(merging: Source) -> None:
    alone = torch.cat([embed(merging, FACES[n : n + 1]) for n in range(len(FACES))])
    torch.testing.assert_close(alone, embed(merging), atol=1e-5, rtol=1e-5)


def test_the_source_is_not_changed(exact: Source) -> None:
    before = embed(exact)
    made = merge_tokens(exact, 1)
    assert torch.equal(embed(exact), before)
    assert exact.notes == ("Untrained.",)
    assert made.notes == exact.notes and exact.approximations == ()
    assert "merges 1 tokens; the last looks at 13 of 16 patches" in made.approximations[0]
    # Names and weights are the same.
    old, new = exact.model.state_dict(), made.model.state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize("merged", [0, -1, 5])
def test_invalid_numbers_of_tokens(exact: Source, merged: int) -> None:
    with pytest.raises(MergingError, match=f"--merge-tokens {merged}: .* 1 to 4 tokens per block"):
        merge_tokens(exact, merged)


@pytest.mark.parametrize(("depth", "merged"), [(2, 8), (4, 4), (5, 3)])
def test_largest_number_of_tokens(depth: int, merged: int) -> None:
    made = merge_tokens(source(random_vit(replace(SMALL, depth=depth))), merged)
    assert embed(made).isfinite().all()
    with pytest.raises(MergingError):
        merge_tokens(source(random_vit(replace(SMALL, depth=depth))), merged + 1)


def test_models_without_transformer() -> None:
    compact = Source(EmotionModel(COMPACT).eval(), False, (), ())
    with pytest.raises(MergingError, match="compact has no vision transformer"):
        merge_tokens(compact, 1)


@pytest.fixture(scope="module")
def shallow() -> Source:
    """A transformer of three blocks, of which two merge tokens: tracing each takes seconds."""
    return merge_tokens(source(random_vit(replace(SMALL, depth=3))), MERGED)


@pytest.fixture(scope="module")
def file(shallow: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX file of the face engine."""
    path = tmp_path_factory.mktemp("merging") / "face.onnx"
    to_onnx(model_graphs(shallow.model)["face"], path)
    return path


def run(path: Path, faces: np.ndarray = FACES) -> np.ndarray:
    return OnnxEngine(path, ["CPUExecutionProvider"], 1)(faces=faces)["embedding"]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_graph_equals_pytorch(n: int, file: Path, shallow: Source) -> None:
    expected = embed(shallow, FACES[:n]).numpy()
    np.testing.assert_allclose(run(file, FACES[:n]), expected, atol=1e-4)


def test_operators_are_supported_on_gpus(file: Path) -> None:
    model = onnx.load(file)
    used = {node.op_type for node in model.graph.node}
    assert not used & {"If", "Loop", "Scan", "NonZero", "Unique", "Where", "OneHot"}
    assert not {name for name in used if name.startswith("Scatter")}
    assert {node.domain for node in model.graph.node} == {""}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    unknown = {
        value.name
        for value in inferred.value_info
        for axis, size in enumerate(value.type.tensor_type.shape.dim)
        if axis and not size.HasField("dim_value")
    }
    assert not unknown  # except the number of faces


def test_fewer_flops(exact: Source, merging: Source) -> None:
    flops = []
    for of in (exact, merging):
        with FlopCounterMode(display=False) as counter:
            embed(of)
        flops.append(counter.get_total_flops())
    assert flops[1] < 0.8 * flops[0]


def test_together_with_simplify_vit(merging: Source) -> None:
    """Both compute only the class token in the last block."""
    simplified = merge_tokens(source(random_vit()), MERGED)
    simplify_vit(simplified.model.face)  # type: ignore[arg-type]
    torch.testing.assert_close(embed(simplified), embed(merging), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_in_other_precisions(precision: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    path.write_bytes(file.read_bytes())
    if precision == "fp16":
        to_fp16(path)
        emulate_fp16(path, path)
    else:
        quantize_dynamic(path)
    # Rounding may change the order of nearly equal pairs, and so which one is merged.
    assert cosine(run(path), run(file)) > 0.98
