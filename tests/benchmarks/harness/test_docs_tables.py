"""The tables of docs/benchmarks.md equal the measured ones."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.docs_tables import DOCS, MARKS, fill_tables


def test_docs_hold_the_measured_tables() -> None:
    text = DOCS.read_text()
    assert len(MARKS.findall(text)) >= 3
    assert fill_tables(text) == text


def test_only_the_text_between_the_marks_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("| new |\n\n")
    text = "before\n<!-- table: a -->\nold\n<!-- end -->\nafter\n"
    expected = "before\n<!-- table: a -->\n\n| new |\n\n<!-- end -->\nafter\n"
    assert fill_tables(text, tmp_path) == expected
    assert fill_tables(expected, tmp_path) == expected
