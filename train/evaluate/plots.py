"""Plots of a cross-validation: confusion, calibration, and the figures of every fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfer_edge.outputs.files import replacing
from train.evaluate.metrics import ReliabilityBin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DPI = 150
# Okabe and Ito's colours, safe for colour blindness.
COLOURS = {"visual": "#0072b2", "audio": "#d55e00", "combined": "#009e73", "svm": "#666666"}
GREY = "#666666"


@dataclass(frozen=True)
class Column:
    """One arm's figures, one for each fold: shares from 0 to 1."""

    arm: str
    values: tuple[float, ...]
    chance: float
    majority: float


def plot_confusion(out: Path, confusion: np.ndarray, labels: Sequence[str], title: str) -> None:
    """Draw the confusion matrix, in per cent of its rows.

    Args:
        out: a .png file.
        confusion: (classes, classes) counts, true classes down; a class without any stays blank.

    Raises:
        OutputError: the plot can't be written.
    """
    total = confusion.sum(1, keepdims=True)
    share = np.divide(100 * confusion, total, out=np.full(confusion.shape, np.nan), where=total > 0)
    figure, (axes,) = _figure(1.8 + 0.58 * len(labels), 1.5 + 0.5 * len(labels))
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        if not np.isnan(value):
            colour = "white" if value > 60 else "black"
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9
            )
    places = range(len(labels))
    axes.set_xticks(places, labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="recognised as", ylabel="true emotion")
    axes.set_title(title, fontsize=10)
    bar = figure.colorbar(image, ax=axes, label="% of the true emotion", fraction=0.05)
    bar.outline.set_visible(False)
    _save(figure, out)


def plot_reliability(out: Path, bins: Sequence[ReliabilityBin], error: float, title: str) -> None:
    """Draw the reliability diagram: accuracy and number of predictions by confidence.

    Args:
        out: a .png file.
        error: the expected calibration error, from 0 to 1.

    Raises:
        OutputError: the plot can't be written.
    """
    figure, (axes, counts) = _figure(4.6, 5.4, rows=2, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.text(0.05, 0.1, "as sure as right", color=GREY, fontsize=8, rotation=45)
    confidence = [b.confidence for b in bins]
    axes.plot(confidence, [b.accuracy for b in bins], "o-", color=COLOURS["visual"], markersize=4)
    axes.text(0.03, 0.97, f"calibration error (ECE) {100 * error:.1f} %", va="top")
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is right")
    axes.set_title(title, fontsize=10)
    counts.bar(confidence, [b.count for b in bins], width=0.03, color=COLOURS["visual"], alpha=0.6)
    counts.set(xlabel="confidence", ylabel="recordings")
    _save(figure, out)


def plot_folds(out: Path, panels: Mapping[str, Sequence[Column]], title: str) -> None:
    """Draw every fold's figure and their mean for each arm, with chance and majority.

    Args:
        out: a .png file.
        panels: the name of a metric -> its figures, one column for each arm.

    Raises:
        OutputError: the plot can't be written.
    """
    arms = max(map(len, panels.values()))
    figure, every = _figure(
        1.0 + len(panels) * (0.6 + 1.1 * arms), 3.6, columns=len(panels), sharey=True
    )
    for axes, (metric, columns) in zip(every, panels.items(), strict=True):
        for place, column in enumerate(columns):
            _draw_column(axes, place, column)
        axes.set_xticks(range(len(columns)), [column.arm for column in columns])
        axes.set(xlim=(-0.5, len(columns) - 0.3), ylim=(0, 102))
        axes.set_title(metric, fontsize=10)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
    every[0].set_ylabel("per cent")
    figure.suptitle(title, fontsize=10)
    handles, names = every[0].get_legend_handles_labels()
    first = dict(zip(reversed(names), reversed(handles), strict=True))
    figure.legend(
        first.values(), first.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=8
    )
    _save(figure, out)


def _draw_column(axes: Axes, place: int, column: Column) -> None:
    values = 100 * np.array(column.values)
    beside = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(1)
    ends = (place - 0.3, place + 0.3)
    colour = COLOURS[column.arm]
    # Chance and majority often coincide: the dotted line stays visible on the wide one.
    axes.hlines(100 * column.chance, *ends, color="#bbbbbb", linewidth=4, label="chance")
    axes.hlines(100 * column.majority, *ends, color="black", linestyle=":", label="majority class")
    axes.hlines(values.mean(), *ends, color=colour, linewidth=2, label="mean")
    axes.plot(place + beside, values, "o", color=colour, alpha=0.65, markersize=4, label="a fold")
    axes.text(place + 0.34, values.mean(), f"{values.mean():.1f}", va="center", fontsize=9)


def _figure(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    sharex: bool = False,
    sharey: bool = False,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Create a figure of width x height inches, and its panels."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=DPI, layout="constrained")
    figure.subplots(rows, columns, sharex=sharex, sharey=sharey, height_ratios=height_ratios)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, figure.axes


def _save(figure: Figure, out: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with replacing(out, (".png",)) as beside:
        figure.savefig(beside, metadata={"Software": None})  # the same figures, the same file
