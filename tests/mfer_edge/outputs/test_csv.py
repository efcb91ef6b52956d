"""CSV of an analysis."""

from __future__ import annotations

import csv
import io

from tests.support.analyses import LABELS, analysis, reading


def test_csv_has_a_line_for_every_reading() -> None:
    windows = [reading(0, 4), reading(0, 4, "sad", track=1, main=False), reading(4, 8, None)]
    made = analysis(windows, 8.0, source='a, "b".mp4')
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert [row["source"] for row in rows] == ['a, "b".mp4'] * 3
    assert [row["label"] for row in rows] == ["happy", "sad", ""]
    assert [row["track"] for row in rows] == ["0", "1", ""]
    assert [row["main"] for row in rows] == ["True", "False", "True"]
    assert rows[0]["modalities"] == "visual+audio"
    assert [float(rows[1][label]) for label in LABELS] == [
        0.79 if label == "sad" else 0.03 for label in LABELS
    ]
    assert [rows[2][label] for label in LABELS] == [""] * len(LABELS)
