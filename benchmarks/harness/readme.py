"""Put the measured tables into the README: `python -m benchmarks.harness.readme`.

Each `<!-- table: NAME -->` there is followed by what `benchmarks/results/NAME.md` holds, up to
`<!-- end -->`. With `--check` nothing is written, and the exit code is 1 if something would be.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
PLACE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, results: Path = RESULTS) -> str:
    """Give a text with its tables as they were measured last."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{(results / f'{match[2]}.md').read_text().strip()}\n\n{match[3]}"

    return PLACE.sub(table, text)


def main() -> None:
    """Write the README anew, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = README.read_text()
    after = filled(before)
    if options.check:
        sys.exit(f"{README}: its tables are not those of {RESULTS}" if after != before else 0)
    README.write_text(after)


if __name__ == "__main__":
    main()
