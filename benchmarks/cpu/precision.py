"""Measure how often a bundle gives the same label as another precision of the same model.

`python -m benchmarks.cpu.precision INDEX --reference DIR [--bundle DIR] [--clips FOLDER]...
[--voices N] [--faces N] [--json PATH]` runs both bundles over N recordings of INDEX
(`mfer-edge train index`), as many of each dataset, over all mp4 files of each FOLDER, and over N
test images of faces. The reference is `mfer-edge export --fp32`; without `--bundle` the compact one
that ships is measured. Labels are those of whole recordings, and of every window in them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError
from mfer_edge.faces.embedding_cache import CachedFace, embed_window
from mfer_edge.pipeline import Pipeline
from train.data.index import Entry, read_index
from train.data.preprocess import read_face

VOICES, FACES = 360, 300


@dataclass(frozen=True)
class Scored:
    """Both bundles' scores of one thing."""

    group: str  # dataset or folder
    reference: np.ndarray  # (labels,)
    given: np.ndarray  # (labels,)

    @property
    def same(self) -> bool:
        return bool(self.reference.argmax() == self.given.argmax())

    @property
    def difference(self) -> float:
        """The largest of any label."""
        return float(np.abs(self.reference - self.given).max())


@dataclass(frozen=True)
class Row:
    """Agreement of both bundles over a group."""

    group: str
    count: int
    same: int  # of `count`, with the same label
    mean_difference: float  # of each one's most different score
    largest_difference: float

    @classmethod
    def of(cls, group: str, scored: Sequence[Scored]) -> Row:
        """Summarise one or more."""
        differences = [one.difference for one in scored]
        return cls(
            group,
            len(scored),
            sum(one.same for one in scored),
            float(np.mean(differences)),
            max(differences),
        )

    def cells(self) -> tuple[str, ...]:
        """Format a row of the table."""
        return (
            self.group,
            str(self.count),
            f"{self.same} ({self.same / self.count:.1%})",
            f"{self.mean_difference:.4f}",
            f"{self.largest_difference:.4f}",
        )


@dataclass(frozen=True)
class PrecisionResult:
    """Agreement of a bundle with the reference."""

    command: list[str]
    machine: Machine
    reference: str
    bundle: str
    recordings: list[Row]  # by dataset and folder, and all of them
    windows: Row  # of all recordings
    faces: Row | None
    empty: int  # recordings in which neither bundle found a face or a voice


def balanced(entries: Sequence[Entry], count: int) -> list[Entry]:
    """Choose as many entries of each dataset, by their content."""
    of_dataset: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.content):
        of_dataset.setdefault(entry.dataset, []).append(entry)
    each = -(-count // max(1, len(of_dataset)))
    return [entry for name in sorted(of_dataset) for entry in of_dataset[name][:each]]


class Comparison:
    """Two bundles of the same model, loaded.

    Raises:
        MferError: one can't be opened, or they have other labels.
    """

    def __init__(self, reference: Path, bundle: Path | None) -> None:
        self.pipelines = Pipeline.open(reference, "cpu"), Pipeline.open(bundle, "cpu")
        first, second = (one.bundle.manifest for one in self.pipelines)
        if first.model != second.model:
            raise MferError(f"{reference}: not of the model that --bundle is of")

    def recording(self, group: str, path: Path) -> Iterator[Scored]:
        """Score a recording as a whole, if there is anything, and then each of its windows.

        Raises:
            MediaError: it can't be read.
        """
        first, second = (one.analyze(path) for one in self.pipelines)
        if first.overall is None or second.overall is None:
            return
        pairs = [(first.overall.scores, second.overall.scores)]
        for one, other in zip(first.windows, second.windows, strict=True):
            if one.scores is not None and other.scores is not None:
                pairs.append((one.scores, other.scores))
        for expected, given in pairs:
            yield Scored(group, *(np.array(list(s.values())) for s in (expected, given)))

    def face(self, entry: Entry) -> Scored:
        """Score an image of a face.

        Raises:
            DatasetError: it can't be read.
        """
        arms = [one.model.visual for one in self.pipelines]
        crop = self.pipelines[0].bundle.manifest.crop
        face = read_face(entry, crop.size)
        embedded = (embed_window([CachedFace(face)], arm.embed, crop.mirror) for arm in arms)
        return Scored("faces", *(arm(e).scores for arm, e in zip(arms, embedded, strict=True)))


def measure(
    comparison: Comparison,
    sources: Sequence[tuple[str, Path]],
    faces: Sequence[Entry],
    command: list[str],
) -> PrecisionResult:
    """Compare over recordings, each with its group, and over images of faces.

    Raises:
        MferError: a file can't be read, or there is nothing in any of them.
    """
    recordings: list[Scored] = []
    windows: list[Scored] = []
    empty = 0
    for number, (group, path) in enumerate(sources, 1):
        scored = list(comparison.recording(group, path))
        recordings += scored[:1]
        windows += scored[1:]
        empty += not scored
        if number % 50 == 0:
            script.log(f"{number} of {len(sources)} recordings")
    if not recordings:
        raise MferError("neither a face nor a voice in any of the recordings")
    rows = [
        Row.of(group, [one for one in recordings if one.group == group])
        for group in sorted({one.group for one in recordings})
    ]
    rows.append(Row.of("all recordings", recordings))
    scored = [comparison.face(entry) for entry in faces]
    reference, bundle = (
        f"{one.bundle.manifest.name} {one.bundle.manifest.precision}"
        for one in comparison.pipelines
    )
    return PrecisionResult(
        command,
        describe_machine(),
        reference,
        bundle,
        rows,
        Row.of("windows", windows),
        Row.of("faces", scored) if scored else None,
        empty,
    )


def markdown(result: PrecisionResult) -> str:
    """Format the result."""
    rows = [*result.recordings, result.windows, *([result.faces] if result.faces else [])]
    return document(
        f"Command: `{' '.join(result.command)}`.",
        script.machine_line(result.machine),
        f"{result.bundle} against {result.reference}; {result.empty} recordings without a face and "
        "without a voice are left out. A difference is that of the label whose scores differ most.",
        markdown_table(
            "group | number | same label | mean difference | largest difference",
            [row.cells() for row in rows],
            "lrrrr",
        ),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--clips", type=Path, action="append", default=[])
    parser.add_argument("--voices", type=int, default=VOICES)
    parser.add_argument("--faces", type=int, default=FACES)
    options = script.parse(parser, arguments, timed=False)
    entries = read_index(options.index)
    heard = [entry for entry in entries if entry.kind == "audio"]
    shown = [entry for entry in entries if entry.kind == "image" and entry.split == "test"]
    sources = [(entry.dataset, entry.path) for entry in balanced(heard, options.voices)]
    for folder in options.clips:
        clips = sorted(folder.glob("*.mp4"))
        if not clips:
            raise MferError(f"{folder}: no mp4 files")
        sources += [(folder.name, path) for path in clips]
    comparison = Comparison(options.reference, options.bundle)
    command = ["python", "-m", "benchmarks.cpu.precision", *(arguments or sys.argv[1:])]
    result = measure(comparison, sources, balanced(shown, options.faces), command)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
