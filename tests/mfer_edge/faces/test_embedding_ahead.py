"""Embedding ahead: the same readings, each face embedded once, and no thread left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.engines.base import Engine
from mfer_edge.errors import EngineError
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import Frame
from tests.support.face_engines import CountingEngine


def watched(
    model: Model, threads: int, engine: Engine | None = None
) -> tuple[Pipeline, CountingEngine]:
    face = CountingEngine(engine or model.visual.face)
    return Pipeline(replace(model, visual=replace(model.visual, face=face), threads=threads)), face


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_readings_are_the_same(model: Model, anger: Path) -> None:
    one_thread, alone = watched(model, threads=1)
    two_threads, ahead = watched(model, threads=2)
    options = one_thread.options(2.0, 0.5)
    expected = one_thread.analyze(anger, options)
    assert two_threads.analyze(anger, options).windows == expected.windows
    assert set(alone.threads) == {"MainThread"}
    assert {"embed", "MainThread"} == set(ahead.threads)
    assert ahead.crops == alone.crops  # each is embedded once


def test_readings_of_everybody_are_the_same(model: Model, anger: Path) -> None:
    one_thread, alone = watched(model, threads=1)
    two_threads, ahead = watched(model, threads=2)
    options = one_thread.options(2.0, 0.5, faces="all")
    expected = one_thread.analyze(anger, options)
    assert two_threads.analyze(anger, options).windows == expected.windows
    assert "embed" in ahead.threads
    assert ahead.crops == alone.crops


def test_a_large_model_has_no_such_thread(model: Model, anger: Path) -> None:
    manifest = model.manifest
    face = replace(manifest.engines["face"], bytes=100_000_000)
    large = replace(manifest, engines={**manifest.engines, "face": face})
    assert manifest.small and not large.small
    pipeline, engine = watched(
        replace(model, bundle=replace(model.bundle, manifest=large)), threads=2
    )
    pipeline.analyze(anger)
    assert set(engine.threads) == {"MainThread"}


def test_what_fails_in_the_thread_is_raised(model: Model, anger: Path) -> None:
    def broken(**arrays: np.ndarray) -> dict[str, np.ndarray]:
        raise EngineError("the device is gone")

    pipeline, face = watched(model, threads=2, engine=broken)
    with pytest.raises(EngineError, match="the device is gone"):
        pipeline.analyze(anger)
    assert set(face.threads) == {"embed"}


def test_readings_that_are_not_waited_for(model: Model, anger: Path) -> None:
    pipeline, _ = watched(model, threads=2)
    readings = pipeline.stream(anger, pipeline.options(1.0, 0.5))
    next(readings)
    readings.close()  # type: ignore[attr-defined]


def test_a_session_goes_on_after_a_source_was_left(model: Model, anger: Path) -> None:
    pipeline, _ = watched(model, threads=2)
    session = pipeline.session(pipeline.options(1.0, 0.5))
    with pipeline.clip(anger) as clip:
        reading = session.run(clip)
        first = next(reading)
        reading.close()  # type: ignore[attr-defined]
    with pipeline.clip(anger) as clip:
        for item in clip:
            session.push(replace(item, time_s=item.time_s + 5) if isinstance(item, Frame) else item)
    assert session.readings()
    assert first.start_s == 0.0
