"""The check of the oldest and the newest dependencies: `make test-versions` runs it whole."""

from __future__ import annotations

from tests.support.paths import ROOT
from tests.versions import OLDEST, differences, minimums

PYPROJECT = (ROOT / "pyproject.toml").read_text()


def test_every_dependency_of_the_runtime_has_a_minimum() -> None:
    assert set(minimums(PYPROJECT)) == {
        "av", "click", "numpy", "opencv-python-headless", "onnxruntime",
    }  # fmt: skip


def test_minimums() -> None:
    text = 'dependencies = [\n  "av>=17.1",\n  "numpy>=1.26",\n]\n[x]\ncpu = ["onnxruntime>=1.20"]'
    assert minimums(text) == {"av": "17.1", "numpy": "1.26", "onnxruntime": "1.20"}


def test_the_oldest_python_is_the_declared_one() -> None:
    assert f'requires-python = ">={OLDEST[0]}.{OLDEST[1]}"' in PYPROJECT


def test_differences() -> None:
    one = {"a": {"angry": 0.6, "sad": 0.4}}
    assert differences(one, {"a": {"angry": 0.58, "sad": 0.42}}) == []
    [line] = differences(one, {"a": {"angry": 0.4, "sad": 0.6}})
    assert line.startswith("a: angry and sad, ")
    [line] = differences(one, {"a": {"angry": 0.9, "sad": 0.1}})
    assert "differs by 0.300" in line
