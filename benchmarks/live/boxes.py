"""Compare the boxes of tracked faces with those of a search of every frame.

`python -m benchmarks.live.boxes CLIP|FOLDER... [--json PATH]` finds the faces of each clip at five
frames a second in both ways: as a session does (around known faces, and now and then a look for new
ones), and by a search of each whole frame, with nothing known. It prints, for each folder, how many
of the faces that the search finds are found with an overlap (IoU) of at least 0.9 and at all, how
many are found that the search doesn't find, and how often the whole frame was searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpu.face_finders import SAME_IOU
from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError
from mfer_edge.faces.finder import FaceFinder
from mfer_edge.faces.integral_image import IntegralImage
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.tracker import MIN_OVERLAP, overlap
from mfer_edge.model import Model
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip


@dataclass(frozen=True)
class BoxCounts:
    """Faces of some clips, as the two ways find them."""

    clips: str
    frames: int
    searched: int  # frames that the tracking way searched whole
    faces: int  # found by the search
    same: int  # of these, found by tracking with an overlap of SAME_IOU
    found: int  # of these, with one of MIN_OVERLAP
    superfluous: int  # found by tracking alone

    def joined(self, other: BoxCounts) -> BoxCounts:
        """The counts of both, under this one's name."""
        names = ("frames", "searched", "faces", "same", "found", "superfluous")
        return BoxCounts(self.clips, *(getattr(self, n) + getattr(other, n) for n in names))


@dataclass(frozen=True)
class BoxesResult:
    """Counts of each folder, the last one of all."""

    machine: Machine
    rows: list[BoxCounts]


class CountingDetector(FaceDetector):
    """A detector that counts its searches of whole frames."""

    searches = 0

    def search(self, image: IntegralImage, near: Sequence[FaceBox] | None = None) -> list[FaceBox]:
        """As the detector's."""
        self.searches += near is None
        return super().search(image, near)


def count(path: Path, detector: FaceDetector, name: str) -> BoxCounts:
    """Find the faces of one clip in both ways.

    Raises:
        MediaError: it can't be read.
    """
    tracking = CountingDetector(detector.pnet, detector.rnet, detector.onet, detector.options)
    finder = FaceFinder(tracking)
    frames = faces = same = found = superfluous = 0
    with Clip(path) as clip:
        for item in clip:
            if not isinstance(item, Frame):
                continue
            tracked, searched = finder(item.image, item.time_s), detector(item.image)
            overlaps = [max((overlap(a, b) for b in tracked), default=0.0) for a in searched]
            frames, faces = frames + 1, faces + len(searched)
            same += sum(value >= SAME_IOU for value in overlaps)
            found += sum(value >= MIN_OVERLAP for value in overlaps)
            superfluous += sum(all(overlap(a, b) < MIN_OVERLAP for b in searched) for a in tracked)
    return BoxCounts(name, frames, tracking.searches, faces, same, found, superfluous)


def measure(inputs: Sequence[Path]) -> BoxesResult:
    """Count the faces of all clips.

    Raises:
        MferError: there are no clips, or one can't be read.
    """
    detector = Model.load(device="cpu", threads=1).detector
    rows = []
    for path in inputs:
        row = BoxCounts(path.name, 0, 0, 0, 0, 0, 0)
        for clip in script.clips_in(path):
            row = row.joined(count(clip, detector, path.name))
        rows.append(row)
    if not rows:
        raise MferError("no clips")
    total = BoxCounts("all", 0, 0, 0, 0, 0, 0)
    for row in rows:
        total = total.joined(row)
    return BoxesResult(describe_machine(), [*rows, total])


def markdown(result: BoxesResult) -> str:
    """Format the table."""
    headings = (
        f"clips | frames | searched whole | faces by search | same box (IoU >= {SAME_IOU}) | found "
        "| found by tracking alone"
    )
    rows = [
        (
            row.clips,
            str(row.frames),
            f"{row.searched / row.frames:.1%}",
            str(row.faces),
            f"{row.same / max(1, row.faces):.2%}",
            f"{row.found / max(1, row.faces):.2%}",
            str(row.superfluous),
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
