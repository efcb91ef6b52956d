"""Data frames for pandas and polars, which are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from mfer_edge.errors import OutputError
from mfer_edge.outputs.json import round_s, round_scores
from mfer_edge.results import Analysis, Reading, Scores

LIBRARIES = ("pandas", "polars")  # in the order in which they are looked for

ARMS = ("visual", "audio")

Cell = str | int | float | bool | None


def window_frame(analysis: Analysis, library: str | None = None) -> Any:
    """A row for each reading, with the columns of the table `windows` of `mfer-edge batch`.

    Args:
        library: one of `LIBRARIES`; by default the first that is installed.

    Returns:
        A `pandas.DataFrame` or a `polars.DataFrame`. Missing are: the scores of a window without
        a reading or of an arm without input, its label, the track of a window without a face.

    Raises:
        OutputError: no library is installed, or not the one that was named.
        ValueError: it is none of `LIBRARIES`.
    """
    found, labels = _find(library), analysis.labels
    kinds = _columns(labels)
    rows = [_row(analysis, index, one, labels) for index, one in enumerate(analysis.windows)]
    cells = {name: [row[place] for row in rows] for place, name in enumerate(kinds)}
    return _MAKERS[found.__name__](found, kinds, cells)


def _columns(labels: Sequence[str]) -> dict[str, type]:
    arms = [f"{arm}_{label}" for arm in ARMS for label in labels]
    return {
        "source": str, "window": int, "start_s": float, "end_s": float, "track": int,
        "main": bool, "label": str, "modalities": str,
        **dict.fromkeys((*labels, *arms), float),
        "frames": int, "faces": int, "reused": int, "speech_s": float,
    }  # fmt: skip


def _row(analysis: Analysis, index: int, reading: Reading, labels: Sequence[str]) -> list[Cell]:
    def values(scores: Scores | None) -> list[float | None]:
        rounded = round_scores(scores) or {}
        return [rounded.get(label) for label in labels]

    return [
        analysis.source, index, round_s(reading.start_s), round_s(reading.end_s), reading.track,
        reading.main, reading.label, "+".join(reading.modalities),
        *values(reading.scores), *values(reading.visual), *values(reading.audio),
        reading.frames, reading.faces, reading.reused, round_s(reading.speech_s),
    ]  # fmt: skip


def _find(library: str | None) -> ModuleType:
    if library is not None and library not in LIBRARIES:
        raise ValueError(f"library is {library!r}, not one of {', '.join(LIBRARIES)}")
    wanted = LIBRARIES if library is None else (library,)
    for name in wanted:
        try:
            return import_module(name)
        except ImportError:
            continue
    names = " or ".join(wanted)
    raise OutputError(f"a data frame needs {names}: pip install {wanted[0]}")


def _pandas(pandas: ModuleType, kinds: dict[str, type], cells: dict[str, list[Cell]]) -> Any:
    types = {str: "string", int: "Int64", float: "float64", bool: "bool"}
    return pandas.DataFrame(
        {name: pandas.Series(cells[name], dtype=types[kind]) for name, kind in kinds.items()}
    )


def _polars(polars: ModuleType, kinds: dict[str, type], cells: dict[str, list[Cell]]) -> Any:
    types = {str: polars.String, int: polars.Int64, float: polars.Float64, bool: polars.Boolean}
    return polars.DataFrame(cells, schema={name: types[kind] for name, kind in kinds.items()})


_MAKERS: dict[str, Callable[[ModuleType, dict[str, type], dict[str, list[Cell]]], Any]] = {
    "pandas": _pandas,
    "polars": _polars,
}
