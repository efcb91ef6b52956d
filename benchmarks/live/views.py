"""Compare mirroring every second crop of a face with embedding both views of every crop.

`python -m benchmarks.live.views CLIP|FOLDER... [--json PATH]` reads each clip in both ways. The
second takes twice the time for the face network. It prints, for each folder, how many windows show
a face, how many of these have the same label, and how far scores of the face and of both together
are apart: each window's most different one, the mean and the largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.arms import VisualArm
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Scores


@dataclass(frozen=True)
class Pair:
    """One window's scores by mirrored crops, and by both views."""

    fused: tuple[Scores, Scores]
    visual: tuple[Scores, Scores]

    @property
    def same_label(self) -> bool:
        one, other = (max(scores, key=lambda label: scores[label]) for scores in self.fused)
        return one == other


@dataclass(frozen=True)
class ViewsRow:
    """Windows of some clips with a face."""

    clips: str
    windows: int
    same_label: int  # of these
    visual_mean: float  # difference of each window's most different score
    visual_largest: float
    fused_mean: float
    fused_largest: float

    @classmethod
    def of(cls, clips: str, pairs: Sequence[Pair]) -> ViewsRow:
        """Summarise one or more windows."""
        visual, fused = (
            [_apart(*getattr(pair, kind)) for pair in pairs] for kind in ("visual", "fused")
        )
        return cls(
            clips,
            len(pairs),
            sum(pair.same_label for pair in pairs),
            float(np.mean(visual)),
            max(visual),
            float(np.mean(fused)),
            max(fused),
        )


@dataclass(frozen=True)
class ViewsResult:
    """A row of each folder, the last one of all."""

    machine: Machine
    rows: list[ViewsRow]


class BothViews(VisualArm):
    """The visual arm over the mean of every crop's and its mirror image's embeddings."""

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """As the arm's."""
        return (super().embed(faces) + super().embed(faces[:, :, ::-1])) / 2


def both_views(model: Model) -> Model:
    """A model that embeds both views of every crop."""
    manifest = model.manifest
    unchanged = replace(manifest, crop=replace(manifest.crop, mirror=False))
    arm = model.visual
    return replace(
        model,
        bundle=replace(model.bundle, manifest=unchanged),
        visual=BothViews(arm.face, arm.sequence, arm.at_once, arm.place),
    )


def compare(clip: Path, pipelines: tuple[Pipeline, Pipeline]) -> Iterator[Pair]:
    """Read a clip in both ways.

    Raises:
        MediaError: it can't be read.
    """
    mirrored, both = (pipeline.analyze(clip).windows for pipeline in pipelines)
    for one, other in zip(mirrored, both, strict=True):
        if one.visual and other.visual and one.scores and other.scores:
            yield Pair((one.scores, other.scores), (one.visual, other.visual))


def measure(inputs: Sequence[Path]) -> ViewsResult:
    """Compare on all clips.

    Raises:
        MferError: there are no clips, none has a face, or one can't be read.
    """
    model = Model.load(device="cpu", threads=1)
    pipelines = Pipeline(model), Pipeline(both_views(model))
    rows, every = [], []
    for path in inputs:
        pairs = [pair for clip in script.clips_in(path) for pair in compare(clip, pipelines)]
        if pairs:
            rows.append(ViewsRow.of(path.name, pairs))
        every += pairs
    if not every:
        raise MferError("no face in these clips")
    return ViewsResult(describe_machine(), [*rows, ViewsRow.of("all", every)])


def _apart(one: Scores, other: Scores) -> float:
    return max(abs(one[label] - other[label]) for label in one)


def markdown(result: ViewsResult) -> str:
    """Format the table."""
    headings = (
        "clips | windows with a face | same label | face's scores apart: mean | largest "
        "| both arms': mean | largest"
    )
    rows = [
        (
            row.clips,
            str(row.windows),
            str(row.same_label),
            f"{row.visual_mean:.4f}",
            f"{row.visual_largest:.4f}",
            f"{row.fused_mean:.4f}",
            f"{row.fused_largest:.4f}",
        )
        for row in result.rows
    ]
    return document(script.machine_line(result.machine, []), markdown_table(headings, rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="CLIP|FOLDER")
    options = script.parse(parser, arguments, timed=False)
    result = measure(options.inputs)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
