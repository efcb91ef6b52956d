"""A folder of people who talk without acting: neutral, as far as anybody knows."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path

from train.data.index import DatasetError
from train.data.layouts.base import Place

SOURCES = "SOURCES.tsv"  # who speaks in which file, above the files
LEVELS = 3  # folders above a file in which it is looked for
NUMBERED = re.compile(r"(.+)_\d+", re.DOTALL)


def ordinary(path: Path) -> list[Place]:
    """Take every file for soft neutral.

    The speaker is told by SOURCES.tsv, a table with the columns `file` and `speaker`; else by the
    folder and the name, whose last number counts the recordings of one speaker.
    """
    for above in path.parents[:LEVELS]:
        speaker = _speakers(above / SOURCES).get(path.relative_to(above).as_posix())
        if speaker:
            return [Place("neutral", speaker, soft=True)]
    numbered = NUMBERED.fullmatch(path.stem)
    name = numbered[1] if numbered else path.stem
    return [Place("neutral", f"{path.parent.name}:{name}", soft=True)]


@lru_cache(maxsize=8)
def _speakers(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"file", "speaker"} <= set(rows.fieldnames or ()):
                raise DatasetError(f"{path}: has no columns file and speaker")
            return {row["file"]: row["speaker"] or "" for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: no readable table ({error})") from error
