"""CSV output: one row per reading."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from mfer_edge.outputs.json import round_s, round_scores
from mfer_edge.results import Analysis

COLUMNS = (
    "source", "start_s", "end_s", "track", "main", "label", "modalities",
    "frames", "faces", "speech_s",
)  # fmt: skip
"""Columns before those of the labels."""


def csv_text(analyses: Sequence[Analysis], *, header: bool = True) -> str:
    """Table of the readings of several clips, with one header, or none for more rows of a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, analysis in enumerate(analyses):
        labels = analysis.labels
        if header and number == 0:
            writer.writerow([*COLUMNS, *labels])
        for reading in analysis.windows:
            scores = round_scores(reading.scores) or {}
            writer.writerow(
                [analysis.source, round_s(reading.start_s), round_s(reading.end_s), reading.track,
                 reading.main, reading.label, "+".join(reading.modalities),
                 reading.frames, reading.faces, round_s(reading.speech_s),
                 *(scores.get(label) for label in labels)]
            )  # fmt: skip
    return text.getvalue()
