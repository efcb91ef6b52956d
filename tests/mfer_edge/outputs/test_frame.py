"""Data frames of an analysis, by the real libraries."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mfer_edge.batch.inputs import BatchInput
from mfer_edge.batch.tables import TableSet
from mfer_edge.errors import OutputError
from mfer_edge.outputs.frame import LIBRARIES
from tests.support.analyses import SEVEN, analysis, reading, scores

HAPPY = scores("happy", 0.5, SEVEN)
READINGS = [
    reading(0, 4, scores=HAPPY, visual=HAPPY, audio=None),
    reading(0, 4, scores=HAPPY, visual=HAPPY, audio=None, track=1, main=False),
    reading(1, 5, None),
]
MADE = analysis(READINGS, 5.0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_row_for_each_reading(library: str) -> None:
    pytest.importorskip(library)
    frame = MADE.to_frame(library)
    assert type(frame).__module__.startswith(library)
    assert frame["source"].to_list() == ["clip.mp4"] * 3
    assert frame["start_s"].to_list() == [0.0, 0.0, 1.0]
    assert frame["main"].to_list() == [True, False, True]
    assert frame["happy"].to_list()[:2] == [0.5, 0.5]
    assert frame["visual_happy"].to_list()[0] == 0.5
    assert frame["modalities"].to_list() == ["visual", "visual", ""]


def test_what_is_missing_is_missing_in_pandas() -> None:
    frame = pytest.importorskip("pandas") and MADE.to_frame("pandas")
    assert frame["track"].isna().tolist() == [False, False, True]
    assert frame["label"].isna().tolist() == [False, False, True]
    assert frame["happy"].isna().tolist() == [False, False, True]
    assert frame["audio_happy"].isna().all()
    assert frame.groupby("track")["happy"].mean().to_dict() == {0: 0.5, 1: 0.5}


def test_what_is_missing_is_missing_in_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = MADE.to_frame("polars")
    assert frame["track"].to_list() == [0, 1, None]
    assert frame["happy"].null_count() == 1
    assert frame["audio_happy"].dtype == polars.Float64
    assert frame["audio_happy"].null_count() == 3


def test_without_readings_it_has_the_same_columns() -> None:
    pytest.importorskip("pandas")
    seen = MADE.to_frame("pandas").iloc[:0]
    bundle = replace(MADE.bundle, labels=SEVEN)
    empty = replace(MADE, windows=(), bundle=bundle).to_frame("pandas")
    assert empty.dtypes.to_dict() == seen.dtypes.to_dict()


def test_columns_are_those_of_a_batch() -> None:
    pytest.importorskip("pandas")
    table = TableSet(SEVEN, [BatchInput(Path("clip.mp4"))]).windows
    batch = {"source" if one.name == "path" else one.name for one in table.columns}
    assert set(MADE.to_frame("pandas").columns) <= batch


def test_pandas_comes_first() -> None:
    pytest.importorskip("pandas")
    assert type(MADE.to_frame()).__module__.startswith("pandas")


def test_polars_is_taken_where_pandas_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("polars")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert type(MADE.to_frame()).__module__.startswith("polars")


def test_neither_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(OutputError, match="needs pandas or polars: pip install pandas"):
        MADE.to_frame()
    with pytest.raises(OutputError, match="needs polars: pip install polars"):
        MADE.to_frame("polars")


def test_another_library() -> None:
    with pytest.raises(ValueError, match="'excel'"):
        MADE.to_frame("excel")
