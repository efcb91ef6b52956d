"""The Markdown writer."""

from __future__ import annotations

import re

import pytest

from benchmarks.harness.docs_tables import RESULTS
from benchmarks.harness.tables import document, markdown_table, milliseconds


def test_a_table() -> None:
    assert markdown_table("a | b, ms", [("x", ""), ("y", "2.0")]).splitlines() == [
        "| a | b, ms |",
        "|---|---|",
        "| x |  |",
        "| y | 2.0 |",
    ]
    assert markdown_table("a | ", [], align="lr") == "| a |  |\n|---|--:|"


def test_a_cell_stays_a_cell() -> None:
    row = markdown_table("a | b", [("x | y", "two\nlines")]).splitlines()[-1]
    assert row == r"| x \| y | two lines |"


@pytest.mark.parametrize(("row", "align"), [(("x",), None), (("x", "y", "z"), None), ("xy", "l")])
def test_another_number_of_columns_is_refused(row: tuple[str, ...], align: str | None) -> None:
    with pytest.raises(ValueError, match="columns instead of 2"):
        markdown_table("a | b", [row], align)


@pytest.mark.parametrize("name", ["compare", "peers", "footprint", "length", "approximate"])
def test_the_committed_tables_have_this_format(name: str) -> None:
    tables = re.findall(r"(?:^\|.*\n?)+", (RESULTS / f"{name}.md").read_text(), re.MULTILINE)
    assert tables
    for table in tables:
        heading, rule, *rows = table.splitlines()
        align = "r" if "--:" in rule else "l"
        cells = [re.split(r" \| ", row.removeprefix("| ").removesuffix(" |")) for row in rows]
        columns = heading.removeprefix("| ").removesuffix(" |")
        written = markdown_table(columns, cells, align * (columns.count(" | ") + 1))
        assert written == table.rstrip("\n")


def test_a_document_leaves_out_what_is_empty() -> None:
    assert document("a\nb", "", "| c |") == "a\nb\n\n| c |"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0012345, "1.23"), (0.0996, "99.6"), (1.2345, "1234")]
)
def test_milliseconds_have_three_digits(seconds: float | None, text: str) -> None:
    assert milliseconds(seconds) == text
