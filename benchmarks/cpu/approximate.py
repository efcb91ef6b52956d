"""What the approximations gain, and what they do to the scores.

`python -m benchmarks.cpu.approximate [CLIP...] [--bundle DIR] [--merged DIR]
[--skip-still LEVELS]... [--rounds N] [--json PATH]`
reads the clips exactly, then with still faces skipped, then with a
bundle of the same model whose face network merges tokens (`mfer-edge export --merge-tokens`), then
with both. Times are taken round by round, every way in a process of its own, and divided by the
exact one's of the same round. Scores and embeddings are compared window by window and face by face.
Without bundles it is the compact one that ships, which has no tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness.processes import (
    Series,
    Spread,
    Work,
    machine_line,
    publish,
    ratio,
    read_options,
    run_script,
    take_turns,
    tell,
)
from benchmarks.harness.systems import SAMPLES, levels, reading
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.errors import MferError
from mfer_edge.model import Model, load_engines
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading

LEVELS = (3.0, 5.0, 8.0)


@dataclass(frozen=True)
class Way:
    """A way to read clips."""

    name: str
    bundle: str  # its folder; empty: the one that ships
    skip_still: float

    def work(self, clips: Sequence[str]) -> Work:
        """Give what a process is to do."""
        return reading(self.name, self.bundle, self.skip_still, clips)


@dataclass(frozen=True)
class Effect:
    """What a way changes, as against the exact one."""

    faces: int  # in all windows together
    reused: int  # of them, with the embedding of another
    readings: int
    other_label: int  # readings
    mean_score: float  # difference, over all labels and readings
    largest_score: float
    mean_cosine: float  # of embeddings, face by face
    least_cosine: float


@dataclass(frozen=True)
class Row:
    """A way, its gain and its effect."""

    name: str
    visual: Spread | None  # how many times faster; None where the stage took no time
    whole: Spread
    effect: Effect

    def line(self) -> str:
        """Give a line of the table."""
        e, visual = self.effect, f"{self.visual.median:.2f}" if self.visual else ""
        return (
            f"| {self.name} | {visual} | {self.whole.median:.2f} | {e.reused} of {e.faces} "
            f"| {e.mean_score:.4f} | {e.largest_score:.4f} | {e.other_label} of {e.readings} "
            f"| {e.mean_cosine:.4f} | {e.least_cosine:.4f} |"
        )


@dataclass(frozen=True)
class Report:
    """All that was measured."""

    command: list[str]
    machine: Machine
    bundle: str
    trained: bool
    clips: list[str]
    any_two: float  # cosine of two faces' exact embeddings, on average: a scale for the others
    exact: Series
    rows: list[Row]


class _Seen:
    """Keeps the embeddings that the image arm is given."""

    def __init__(self, network: Engine) -> None:
        self._network = network
        self.embeddings: list[np.ndarray] = []  # (faces, width), of each window

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        self.embeddings.append(arrays["embeddings"][0])
        return self._network(**arrays)


def observe(way: Way, clips: Sequence[str]) -> tuple[list[Reading], np.ndarray]:
    """Read clips one way; give the readings, and (faces, width) embeddings of all windows."""
    bundle = Bundle.open(way.bundle or None)
    networks = load_engines(bundle)
    seen = _Seen(networks["visual"])
    pipeline = Pipeline(Model.of(bundle, {**networks, "visual": seen}))
    windows = pipeline.options(skip_still=way.skip_still)
    readings = [reading for clip in clips for reading in pipeline.analyze(clip, windows).windows]
    if not seen.embeddings:
        raise MferError("no face in these clips: nothing to approximate")
    return readings, np.concatenate(seen.embeddings)


def effect(
    exact: tuple[list[Reading], np.ndarray], given: tuple[list[Reading], np.ndarray]
) -> Effect:
    """Compare what two ways gave for the same clips.

    Raises:
        MferError: they are of different models.
    """
    (readings, embeddings), (others, other_embeddings) = exact, given
    if embeddings.shape != other_embeddings.shape:
        raise MferError("--merged is not of the model that --bundle is of")
    gaps = [
        abs(a.scores[label] - b.scores[label])
        for a, b in zip(readings, others, strict=True)
        if a.scores is not None and b.scores is not None
        for label in a.scores
    ]
    cosines = (directions(embeddings) * directions(other_embeddings)).sum(1)
    return Effect(
        faces=len(embeddings),
        reused=sum(reading.reused for reading in others),
        readings=len(readings),
        other_label=sum(a.label != b.label for a, b in zip(readings, others, strict=True)),
        mean_score=float(np.mean(gaps)),
        largest_score=max(gaps),
        mean_cosine=float(cosines.mean()),
        least_cosine=float(cosines.min()),
    )


def directions(embeddings: np.ndarray) -> np.ndarray:
    """Give (faces, width) vectors the length 1."""
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def ways(bundle: str, merged: str | None, levels: Sequence[float]) -> list[Way]:
    """Name the ways to compare, the exact one first."""
    listed = [Way("exact", bundle, 0.0)]
    listed += [Way(f"skip still, {level:g}", bundle, level) for level in levels]
    if merged is not None:
        listed.append(Way("merge tokens", merged, 0.0))
        listed += [Way(f"both, {level:g}", merged, level) for level in levels]
    return listed


def measure(
    compared: Sequence[Way], clips: Sequence[str], rounds: int, tell: Callable[[str], None]
) -> Report:
    """Time every way in turn, and compare what they give.

    Args:
        compared: ways, the exact one first.
        tell: called with a line before each step.

    Raises:
        MferError: a clip or a bundle can't be used.
    """
    tell("comparing scores")
    observed = [observe(way, clips) for way in compared]
    exact, *others = take_turns([way.work(clips) for way in compared], rounds, tell)
    rows = []
    for series, given in zip(others, observed[1:], strict=True):
        whole = ratio(exact, series)
        if whole is None:
            raise MferError(series.failure or exact.failure or f"{series.name} took no time")
        visual = ratio(exact, series, "visual")
        rows.append(Row(series.name, visual, whole, effect(observed[0], given)))
    manifest = Bundle.open(compared[0].bundle or None).manifest
    faces = directions(observed[0][1])
    return Report(
        command=sys.argv,
        machine=describe_machine(),
        bundle=f"{manifest.name} {manifest.precision}",
        trained=manifest.trained,
        clips=[Path(clip).name for clip in clips],
        any_two=float((faces @ faces.T).mean()),
        exact=exact,
        rows=rows,
    )


def table(report: Report) -> str:
    """Give the report in Markdown."""
    exact = report.exact
    visual = Spread.of([run.stages_s["visual"] for run in exact.runs])
    lines = [
        f"{report.bundle}, exact: {exact.pass_s.median:.2f} s for all clips, the visual stage of "
        f"it {visual.median:.2f} s; {len(exact.runs)} rounds. Clips: {', '.join(report.clips)}. "
        f"Exact embeddings of two faces have a cosine of {report.any_two:.4f} on average.",
        machine_line(report.machine, []),
        "",
        "| way | visual, times faster | end to end | faces reused | mean score difference "
        "| largest | other label | embedding cosine, mean | least |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row.line() for row in report.rows),
    ]
    if not report.trained:
        lines += [
            "",
            "The weights are random: neither scores nor cosines tell what a trained model would "
            "lose; the times hold.",
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", metavar="CLIP", default=list(map(str, SAMPLES)))
    parser.add_argument("--bundle", default="")
    parser.add_argument("--merged")
    parser.add_argument("--skip-still", type=levels, action="append", metavar="LEVELS")
    options = read_options(parser, arguments)
    compared = ways(options.bundle, options.merged, options.skip_still or LEVELS)
    report = measure(compared, options.clips, options.rounds, tell)
    publish(table(report), report, options.json)


if __name__ == "__main__":
    run_script(main)
