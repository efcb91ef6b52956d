"""The README's tables are the measured ones."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.readme import PLACE, README, filled


def test_the_tables_are_those_that_were_measured() -> None:
    text = README.read_text()
    assert len(PLACE.findall(text)) >= 3
    assert filled(text) == text


def test_what_is_between_the_marks_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("| new |\n\n")
    text = "before\n<!-- table: a -->\nold\n<!-- end -->\nafter\n"
    expected = "before\n<!-- table: a -->\n\n| new |\n\n<!-- end -->\nafter\n"
    assert filled(text, tmp_path) == expected
    assert filled(expected, tmp_path) == expected
