"""Recall of left-out corpora after adaptation without labels, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mfer_edge.outputs.files import write_text
from train.data.index import DatasetError

ADAPTED = "adapted.json"


@dataclass(frozen=True)
class Adapted:
    """Closed recall of one left-out corpus, by the number of recordings that were adapted to."""

    fold: str  # the corpus
    recalls: Mapping[int, tuple[float, ...]]  # of random choices of those recordings

    def write(self, run: Path) -> None:
        """Write it to the fold's folder in a run.

        Raises:
            OutputError: it can't be written.
        """
        write_text(run / f"fold-{self.fold}" / ADAPTED, json.dumps(dict(self.recalls)) + "\n")


def read_adapted(run: Path) -> list[Adapted]:
    """Read those of a run's folds that have one.

    Raises:
        DatasetError: a file is damaged.
    """
    found = []
    for path in sorted(run.glob(f"fold-*/{ADAPTED}")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            recalls = {int(count): tuple(map(float, each)) for count, each in values.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DatasetError(f"{path}: not a file of recalls ({error})") from error
        found.append(Adapted(path.parent.name.removeprefix("fold-"), recalls))
    return found
