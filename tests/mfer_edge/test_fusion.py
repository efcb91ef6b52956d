"""Both arms together, one alone, or none."""

from __future__ import annotations

import numpy as np
import pytest

from mfer_edge.arms import ArmOutput, Fusion
from mfer_edge.model import load_engines
from mfer_edge.pipeline import Pipeline

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def fusion(pipeline: Pipeline) -> Fusion:
    return Fusion(load_engines(pipeline.bundle)["fusion"])


def output(pipeline: Pipeline, arm: str) -> ArmOutput:
    """Scores and an embedding of the bundle's widths."""
    tensors = {t.name: t for t in pipeline.bundle.manifest.engines[arm].outputs}
    scores = RNG.dirichlet(np.ones(tensors["scores"].shape[1])).astype(np.float32)
    return ArmOutput(scores, RNG.normal(0, 1, tensors["embedding"].shape).astype(np.float32))


def test_an_arm_alone_gives_its_own_scores(pipeline: Pipeline, fusion: Fusion) -> None:
    visual, audio = output(pipeline, "visual"), output(pipeline, "audio")
    assert fusion(visual, None) is visual.scores
    assert fusion(None, audio) is audio.scores


def test_nothing_gives_nothing(fusion: Fusion) -> None:
    assert fusion(None, None) is None


def test_both_arms_give_a_distribution_over_every_label(pipeline: Pipeline, fusion: Fusion) -> None:
    for _ in range(20):
        scores = fusion(output(pipeline, "visual"), output(pipeline, "audio"))
        assert scores is not None
        assert scores.shape == (len(pipeline.bundle.manifest.labels),)
        assert scores.min() >= 0 and scores.sum() == pytest.approx(1, abs=1e-5)


def test_both_arms_count(pipeline: Pipeline, fusion: Fusion) -> None:
    visual, audio = output(pipeline, "visual"), output(pipeline, "audio")
    both = fusion(visual, audio)
    other_face = fusion(output(pipeline, "visual"), audio)
    other_voice = fusion(visual, output(pipeline, "audio"))
    assert both is not None and other_face is not None and other_voice is not None
    assert np.abs(both - other_face).max() > 1e-3
    assert np.abs(both - other_voice).max() > 1e-3
