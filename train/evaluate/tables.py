"""Tables of figures as Markdown that can also be read on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from train.evaluate.metrics import Spread


def percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f}"


def spread_text(spread: Spread) -> str:
    mean = percent(spread.mean)
    return mean if spread.std is None else f"{mean} ± {percent(spread.std)}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = [heading, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )
