"""Measure what approximations gain in time, and how they change scores.

`python -m benchmarks.cpu.approximate [CLIP...] [--bundle DIR] [--merged DIR]
[--skip-still LEVELS]... [--rounds N] [--json PATH]` analyses the clips exactly, then with still
faces skipped, then with a bundle of the same model whose face engine merges tokens
(`mfer-edge export --merge-tokens`), then with both. Each variant is timed in a process of its own,
and divided by the exact one's time of the same round. Scores and embeddings are compared window by
window and face by face. Without `--bundle` it is the compact one that ships, which has no tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpu.score_differences import Change, Observation, unit
from benchmarks.harness import script
from benchmarks.harness.processes import Job
from benchmarks.harness.rounds import JobSeries, Spread, run_rounds, time_ratio
from benchmarks.harness.systems import analysis_job, grey_levels
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from mfer_edge.samples import CLIPS

LEVELS = (3.0, 5.0, 8.0)
UNTRAINED = (
    "The weights are random: neither scores nor cosines tell what a trained model would lose; the "
    "times hold."
)


@dataclass(frozen=True)
class Variant:
    """A bundle with or without an approximation."""

    name: str
    bundle: str  # its folder; empty: the one that ships
    skip_still: float  # grey levels; 0: every face is embedded

    def job(self, clips: Sequence[str]) -> Job:
        """Make the job that analyses clips."""
        return analysis_job(self.name, self.bundle, self.skip_still, clips)

    def observe(self, clips: Sequence[str]) -> Observation:
        """Analyse clips, and keep the face embeddings.

        Raises:
            MferError: there is no face in them.
        """
        return Observation.of(clips, Bundle.open(self.bundle or None), self.skip_still)


@dataclass(frozen=True)
class VariantResult:
    """Gain of an approximation, and its effect."""

    name: str
    visual: Spread | None  # how many times faster; None where the stage took no time
    whole: Spread
    effect: Change

    def cells(self) -> tuple[str, ...]:
        """Format a row of the table."""
        change = self.effect
        return (
            self.name,
            f"{self.visual.median:.2f}" if self.visual else "",
            f"{self.whole.median:.2f}",
            f"{change.reused} of {change.faces}",
            f"{change.mean_score:.4f}",
            f"{change.largest_score:.4f}",
            f"{change.other_label} of {change.readings}",
            f"{change.mean_cosine:.4f}",
            f"{change.least_cosine:.4f}",
        )


@dataclass(frozen=True)
class ApproximateResult:
    """Gains and effects of all approximations."""

    command: list[str]
    machine: Machine
    bundle: str
    trained: bool
    clips: list[str]
    any_two: float  # mean cosine of two faces' exact embeddings: a scale for the others
    exact: JobSeries
    rows: list[VariantResult]


def list_variants(bundle: str, merged: str | None, levels: Sequence[float]) -> list[Variant]:
    """List the variants to compare, the exact one first."""
    variants = [Variant("exact", bundle, 0.0)]
    variants += [Variant(f"skip still, {level:g}", bundle, level) for level in levels]
    if merged is not None:
        variants.append(Variant("merge tokens", merged, 0.0))
        variants += [Variant(f"both, {level:g}", merged, level) for level in levels]
    return variants


def measure(variants: Sequence[Variant], clips: Sequence[str], rounds: int) -> ApproximateResult:
    """Time the variants in turn, and compare their scores.

    Args:
        variants: the exact one first.

    Raises:
        MferError: a clip or a bundle can't be used.
    """
    script.log("comparing scores")
    observed = [variant.observe(clips) for variant in variants]
    exact, *others = run_rounds([one.job(clips) for one in variants], rounds, script.log)
    rows = []
    for series, approximate in zip(others, observed[1:], strict=True):
        whole = time_ratio(exact, series)
        if whole is None:
            raise MferError(series.failure or exact.failure or f"{series.name} took no time")
        visual = time_ratio(exact, series, "visual")
        change = Change.between(observed[0], approximate)
        rows.append(VariantResult(series.name, visual, whole, change))
    manifest = Bundle.open(variants[0].bundle or None).manifest
    faces = unit(observed[0].embeddings)
    return ApproximateResult(
        command=sys.argv,
        machine=describe_machine(),
        bundle=f"{manifest.name} {manifest.precision}",
        trained=manifest.trained,
        clips=[Path(clip).name for clip in clips],
        any_two=float((faces @ faces.T).mean()),
        exact=exact,
        rows=rows,
    )


def markdown(result: ApproximateResult) -> str:
    """Format the table."""
    exact = result.exact
    visual = Spread.of([run.stages_s["visual"] for run in exact.runs])
    summary = (
        f"{result.bundle}, exact: {exact.pass_s.median:.2f} s for all clips, the visual stage of "
        f"it {visual.median:.2f} s; {len(exact.runs)} rounds. Clips: {', '.join(result.clips)}. "
        f"Exact embeddings of two faces have a cosine of {result.any_two:.4f} on average."
    )
    headings = (
        "way | visual, times faster | end to end | faces reused | mean score difference | largest "
        "| other label | embedding cosine, mean | least"
    )
    table = markdown_table(headings, [row.cells() for row in result.rows])
    note = "" if result.trained else UNTRAINED
    return document(f"{summary}\n{script.machine_line(result.machine)}", table, note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clips", nargs="*", metavar="CLIP", default=list(map(str, CLIPS)))
    parser.add_argument("--bundle", default="")
    parser.add_argument("--merged")
    parser.add_argument("--skip-still", type=grey_levels, action="append", metavar="LEVELS")
    options = script.parse(parser, arguments)
    variants = list_variants(options.bundle, options.merged, options.skip_still or LEVELS)
    result = measure(variants, options.clips, options.rounds)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
