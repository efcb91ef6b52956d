"""Models: where they run, and what `auto` says of devices that it could not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfer_edge import model as model_module
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.errors import BundleError, EngineError
from mfer_edge.faces.mtcnn import FaceDetector
from mfer_edge.manifest import ENGINES
from mfer_edge.model import Model, load_engines
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


def test_auto_says_why_it_did_not_take_a_better_device(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline
) -> None:
    def load(bundle: Bundle, device: str, threads: int) -> dict[str, Engine]:
        if device != "cpu":
            raise EngineError(f"no {device} here")
        return load_engines(bundle, device, threads)

    monkeypatch.setattr(model_module, "load_engines", load)
    monkeypatch.setattr(
        model_module, "_devices_to_try", lambda bundle, device: ["tensorrt", "cuda", "cpu"]
    )
    model = Model.load(pipeline.bundle, "auto", 1)
    assert model.device == "cpu"
    assert model.notes == (
        "--device auto could not take tensorrt: no tensorrt here",
        "--device auto could not take cuda: no cuda here",
    )


def test_a_named_device_is_never_replaced(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline
) -> None:
    def fail(*_: object) -> dict[str, Engine]:
        raise EngineError("it does not load")

    monkeypatch.setattr(model_module, "load_engines", fail)
    with pytest.raises(EngineError, match="does not load"):
        Model.load(pipeline.bundle, "cpu", 1)


def test_bad_bundle_or_device(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Model.load(tmp_path, "cpu")
    with pytest.raises(EngineError, match="abacus"):
        Model.load(device="abacus")
