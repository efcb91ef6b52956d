"""Loading of engines: what `auto` says of devices that it could not take; in the background."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.engines import load as load_module
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load, load_engines, loading
from mfer_edge.errors import BundleError, EngineError
from mfer_edge.manifest import ENGINES

WAIT_S = 60.0  # for what must happen


def fail(bundle: Bundle, device: str, threads: int) -> dict[str, Engine]:
    raise EngineError(f"no {device} here")


def test_auto_says_why_it_did_not_take_a_better_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def cpu_alone(bundle: Bundle, device: str, threads: int) -> dict[str, Engine]:
        return (load_engines if device == "cpu" else fail)(bundle, device, threads)

    monkeypatch.setattr(load_module, "load_engines", cpu_alone)
    monkeypatch.setattr(
        load_module, "_devices_to_try", lambda bundle, device: ["tensorrt", "cuda", "cpu"]
    )
    loaded = load(device="auto", threads=1)
    assert loaded.device == "cpu"
    assert tuple(loaded.engines) == ENGINES
    assert loaded.notes == (
        "--device auto could not take tensorrt: no tensorrt here",
        "--device auto could not take cuda: no cuda here",
    )


def test_a_named_device_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "load_engines", fail)
    with pytest.raises(EngineError, match="no cpu here"):
        load(device="cpu", threads=1)


def test_engines_are_loaded_while_the_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def waiting(bundle: Bundle, device: str, threads: int) -> dict[str, Engine]:
        begun.set()
        assert may_end.wait(WAIT_S)
        return load_engines(bundle, device, threads)

    monkeypatch.setattr(load_module, "load_engines", waiting)
    with loading(device="cpu", threads=1) as loaded:
        assert begun.wait(WAIT_S)
        may_end.set()  # this block goes on before the engines are there
        assert tuple(loaded.engines().engines) == ENGINES
        assert loaded.engines().bundle is loaded.bundle()
        assert loaded.engines().threads == loaded.threads == 1
    assert loaded.engines().load_s > 0


def test_errors_are_raised_where_the_engines_are_asked_for(tmp_path: Path) -> None:
    with loading(tmp_path) as loaded:
        for call in (loaded.bundle, loaded.engines, loaded.bundle):
            with pytest.raises(BundleError, match="no manifest"):
                call()


def test_a_block_that_fails_waits_for_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    def recording(bundle: Bundle, device: str, threads: int) -> dict[str, Engine]:
        ended.append(device)
        return {}

    monkeypatch.setattr(load_module, "load_engines", recording)
    with pytest.raises(KeyError), loading(device="cpu"):
        raise KeyError
    assert ended == ["cpu"]
