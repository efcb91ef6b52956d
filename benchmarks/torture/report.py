"""What the torture set gave: its result, kept in a file so that a run can go on, and its tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from benchmarks.torture.judge import FAULTS, Outcome, Verdict
from mfer_edge.bench.machine import Machine
from mfer_edge.outputs.files import write_text


@dataclass
class TortureResult:
    """What the script measured."""

    machine: Machine
    seed: int
    timeout_s: float
    memory_mb: int
    wall_s: float = 0.0
    verdicts: list[Verdict] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)  # wrong ones of the command line
    commands: int = 0

    @property
    def faults(self) -> list[Verdict]:
        """Verdicts that should not be; silent ones of which no file tells count apart."""
        names = {outcome.value for outcome in FAULTS}
        silent = Outcome.SILENT.value
        return [
            v for v in self.verdicts
            if v.outcome in names and not (v.may_differ and v.outcome == silent)
        ]  # fmt: skip

    def save(self, path: Path) -> None:
        """Write it, so that a later run can go on."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    def go_on(self, path: Path) -> None:
        """Take over what an earlier run of the same seed found."""
        if not path.exists():
            return
        earlier = json.loads(path.read_text())
        if earlier["seed"] != self.seed:
            raise ValueError(f"{path}: of seed {earlier['seed']}")
        self.verdicts = [Verdict(**verdict) for verdict in earlier["verdicts"]]
        self.wall_s = earlier["wall_s"]


def report(result: TortureResult) -> str:
    """Format the tables and what they say."""
    silent = [v for v in result.verdicts if v.outcome == Outcome.SILENT.value]
    mutants = [v for v in result.verdicts if v.kind == "mutant"]
    told = (
        f"Seed {result.seed}; at most {result.timeout_s:g} s and {result.memory_mb} MB for a clip; "
        f"{result.wall_s / 60:.0f} minutes. Wrong exits of {result.commands} commands: "
        f"{len(result.exits)}. Mutants whose reading differs unsaid, and cut-off files of formats "
        f"that tell no length: {sum(v.may_differ for v in silent)}."
    )
    faults = [f"- {v.kind}, {v.name}: {v.outcome} ({v.why})" for v in result.faults]
    by_file = Counter(_file(v) for v in silent)
    unsaid = [
        f"- {kind}, {file}: {', '.join(_number(v) for v in silent if _file(v) == (kind, file))}"
        for kind, file in by_file
    ]
    return document(
        script.machine_line(result.machine),
        told,
        _table("input", ((v.kind, v) for v in result.verdicts)),
        _table("mutants of", ((_file(v)[1], v) for v in mutants)) if mutants else "",
        "Otherwise, unsaid:" if unsaid else "",
        "\n".join(unsaid),
        "\n".join([*faults, *(f"- {line}" for line in result.exits)]),
    )


def _table(heading: str, named: Iterable[tuple[str, Verdict]]) -> str:
    """Numbers of outcomes by name, and of all."""
    counts = Counter((name, verdict.outcome) for name, verdict in named)
    columns = [outcome.value for outcome in Outcome]
    rows = []
    for name in (*dict.fromkeys(name for name, _ in counts), "all"):
        numbers = [
            sum(n for (of, outcome), n in counts.items() if outcome == c and name in (of, "all"))
            for c in columns
        ]
        rows.append((name, f"{sum(numbers) - numbers[-1]}", *map(str, numbers)))
    headings = " | ".join((heading, "tried", *columns))
    return markdown_table(headings, rows, "l" + "r" * (len(columns) + 1))


def _file(verdict: Verdict) -> tuple[str, str]:
    """Kind of a case, and the clip that was damaged."""
    name = verdict.name.partition(" at ")[0]
    return verdict.kind, name.rpartition(" ")[0] if verdict.kind == "mutant" else name


def _number(verdict: Verdict) -> str:
    return verdict.name.rpartition(" ")[2]
