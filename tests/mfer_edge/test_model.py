"""Models: loaded with all their engines, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfer_edge.engines.load import load_engines
from mfer_edge.errors import BundleError, EngineError
from mfer_edge.faces.mtcnn import FaceDetector
from mfer_edge.manifest import ENGINES
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline


def test_a_bundle_is_loaded_with_all_its_engines(pipeline: Pipeline) -> None:
    engines = load_engines(pipeline.bundle)
    assert tuple(engines) == ENGINES
    model = Model.of(pipeline.bundle, engines)
    assert model.vad is engines["vad"]
    assert isinstance(model.detector, FaceDetector)
    assert (model.detector.pnet, model.detector.onet) == (engines["pnet"], engines["onet"])
    assert (model.device, model.providers, model.threads) == ("cpu", ("CPUExecutionProvider",), 1)
    assert model.manifest is pipeline.bundle.manifest


def test_a_folder_an_opened_bundle_and_none_are_the_same(pipeline: Pipeline) -> None:
    bundle = pipeline.bundle
    for given in (None, bundle, bundle.folder, str(bundle.folder)):
        model = Model.load(given, "cpu", threads=1)
        assert model.bundle == bundle
        assert model.load_s > 0 and model.notes == ()


def test_bad_bundle_or_device(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Model.load(tmp_path, "cpu")
    with pytest.raises(EngineError, match="abacus"):
        Model.load(device="abacus")
