"""Adaptation with exported bundles of one model."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from export.checkpoint import Source, model_identity
from export.torch_reference import reference_engines
from mfer_edge.adapt import Adaptation
from mfer_edge.errors import AdaptationError
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from tests.export.conftest import Built


def opened(built: Built) -> Pipeline:
    return Pipeline.open(built.bundle.folder, "cpu", 1)


def test_every_precision_of_a_model_takes_its_adaptation(
    fp32: Built, int8: Built, source: Source, samples: list[Path], tmp_path: Path
) -> None:
    assert fp32.bundle.manifest.model == int8.bundle.manifest.model == model_identity(source.model)
    one, other = opened(fp32), opened(int8)
    heard = [p.collect(samples[0]) + p.collect(samples[1]) for p in (one, other)]
    assert heard[0].voice.windows == heard[1].voice.windows == 2
    assert heard[0].face.windows == heard[1].face.windows == 2
    heard[1].adaptation().save(tmp_path / "office.npz")
    made = Adaptation.load(tmp_path / "office.npz")
    assert (tmp_path / "office.npz").stat().st_size < 16_000
    readings = [p.adapted(made).analyze(samples[0]).windows[0] for p in (one, other)]
    assert readings[0].audio == pytest.approx(readings[1].audio, abs=0.15)
    assert readings[0].visual == pytest.approx(readings[1].visual, abs=0.15)
    assert readings[0].visual != one.analyze(samples[0]).windows[0].visual
    assert readings[0].audio != one.analyze(samples[0]).windows[0].audio


def test_an_adapted_bundle_scores_as_pytorch_does(
    fp32: Built, source: Source, samples: list[Path]
) -> None:
    pipeline = opened(fp32)
    made = pipeline.collect(samples[1]).adaptation()
    assert made.voice is not None and made.face is not None
    voice, face = (replace(part, windows=40) for part in (made.voice, made.face))
    made = replace(made, voice=voice, face=face)  # a large weight
    torch_model = Model.of(fp32.bundle, reference_engines(source.model))
    expected = Pipeline(torch_model).adapted(made).analyze(samples[0]).windows[0]
    actual = pipeline.adapted(made).analyze(samples[0]).windows[0]
    assert actual.scores == pytest.approx(expected.scores, abs=1e-4)


def test_another_models_bundle_refuses_it(fp32: Built, source: Source, samples: list[Path]) -> None:
    made = opened(fp32).collect(samples[0]).adaptation()
    changed = copy.deepcopy(source.model)
    changed.fusion.bias += 1e-3
    assert model_identity(changed) != made.model
    with pytest.raises(AdaptationError, match="another model"):
        opened(fp32).adapted(replace(made, model=model_identity(changed)))
