"""The Markdown writer of all benchmark scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MB = 1e6  # bytes
RULES = {"l": "---", "r": "--:"}  # below the headings, by alignment


def markdown_table(headings: str, rows: Iterable[Sequence[str]], align: str | None = None) -> str:
    """Format a Markdown table.

    Args:
        headings: with ` | ` between them.
        rows: cells of each row, as many as there are headings.
        align: a letter for each column, `l` or `r`; by default all are on the left.

    Raises:
        ValueError: a row or `align` has another number of columns.
    """
    columns = headings.split(" | ")
    align = align or "l" * len(columns)
    cells = [[escape(cell) for cell in row] for row in rows]
    for row in (align, *cells):
        if len(row) != len(columns):
            raise ValueError(f"{len(row)} columns instead of {len(columns)}: {row}")
    rule = "|".join(RULES[letter] for letter in align)
    return "\n".join([_line(columns), f"|{rule}|", *map(_line, cells)])


def escape(cell: str) -> str:
    """Keep a cell's text within its cell: on one line, without bars of its own."""
    return " ".join(cell.split("\n")).replace("|", r"\|")


def document(*blocks: str) -> str:
    """Join paragraphs and tables with blank lines between; empty ones are left out."""
    return "\n\n".join(filter(None, blocks))


def milliseconds(seconds: float | None) -> str:
    """Format a time in milliseconds, to three digits; `-` where there is none."""
    if seconds is None:
        return "-"
    ms = 1000 * seconds
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
