"""Copy the measured tables into docs/benchmarks.md: `python -m benchmarks.harness.docs_tables`.

Each `<!-- table: NAME -->` there is followed by the content of `benchmarks/results/NAME.md`, up to
`<!-- end -->`. With `--check` nothing is written, and the exit code is 1 if the file is outdated.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
MARKS = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_tables(text: str, results: Path = RESULTS) -> str:
    """Replace what is between the marks with the measured tables."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{(results / f'{match[2]}.md').read_text().strip()}\n\n{match[3]}"

    return MARKS.sub(table, text)


def main() -> None:
    """Update the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = DOCS.read_text()
    after = fill_tables(before)
    if options.check:
        sys.exit(f"{DOCS}: its tables differ from those of {RESULTS}" if after != before else 0)
    DOCS.write_text(after)


if __name__ == "__main__":
    main()
