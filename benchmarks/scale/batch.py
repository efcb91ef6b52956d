"""Measure `mfer-edge batch` on a corpus of hundreds of clips, and prove that nothing is lost.

`python -m benchmarks.scale.batch SOURCE... [--clips N] [--work DIR] [--no-ray] [--json PATH]` makes
the corpus from the clips in the SOURCE folders (`benchmarks/scale/corpus.py`), then runs

- a shell loop over `mfer-edge infer`, for comparison,
- `mfer-edge batch` with two workers, and with one worker of two threads,
- the same killed after 40 % of the clips, and resumed,
- on a Ray cluster of two nodes on this machine: one worker killed after 30 %, the batch itself
  killed after 60 %, and resumed,

and compares the tables of all of them.
"""

from __future__ import annotations

import csv
import shlex
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import script
from benchmarks.harness.tables import MB, document, markdown_table
from benchmarks.scale.corpus import FULL_SIZE, Corpus, make_corpus
from benchmarks.scale.runs import (
    MFER_EDGE,
    TreeRun,
    journal_lines,
    kill_batch_at,
    kill_worker_at,
    ray_cluster,
    run_tree,
)
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError

LOOP = 'for clip in {folder}/*; do {infer} "$clip" --json - --quiet; done > {out}'


@dataclass(frozen=True)
class Cost:
    """Costs of one way to analyse the corpus."""

    name: str
    wall_s: float
    cpu_s: float | None  # None: of processes that others started
    peak_bytes: int | None

    @classmethod
    def of(cls, name: str, run: TreeRun) -> Cost:
        """Take the costs of a run."""
        return cls(name, run.wall_s, run.cpu_s, run.peak_bytes)


@dataclass(frozen=True)
class BatchResult:
    """What was measured and found."""

    machine: Machine
    clips: int
    broken: int
    copies: int
    media_s: float
    costs: list[Cost]
    facts: list[str]
    failures: dict[str, int]  # clips by the reason of their failure


def batch(inputs: Path, out: Path, *options: str) -> list[str]:
    """Command of a batch."""
    return [*MFER_EDGE, "batch", str(inputs), "--out", str(out), "--quiet", *options]


def rows(out: Path, table: str) -> list[dict[str, str]]:
    """Rows of a table, without what differs from run to run."""
    with open(out / f"{table}.csv", newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(file)]


def check_same(out: Path, other: Path) -> None:
    """Compare the tables of two batches.

    Raises:
        MferError: a row differs.
    """
    for table in ("windows", "clips", "failures"):
        if rows(out, table) != rows(other, table):
            raise MferError(f"{table} of {other.name} are not those of {out.name}")


def measure(corpus: Corpus, work: Path, *, with_ray: bool) -> BatchResult:
    """Run everything.

    Raises:
        MferError: a run failed, or gave other rows.
    """
    costs, facts = [], []
    infer = " ".join(map(shlex.quote, [*MFER_EDGE, "infer"]))
    loop = LOOP.format(folder=corpus.folder, infer=infer, out=work / "loop.jsonl")
    costs.append(Cost.of("shell loop over `infer`", run_tree(["sh", "-c", loop])))
    script.log("loop done")
    plain = work / "plain"
    runs = {
        "`batch`, 2 workers": (plain, "--workers", "2"),
        "`batch`, 1 worker of 2 threads": (work / "one", "--workers", "1"),
    }
    for name, (out, *options) in runs.items():
        costs.append(Cost.of(name, run_tree(batch(corpus.folder, Path(out), *options))))
        script.log(f"{name}: {costs[-1].wall_s:.0f} s")
    check_same(plain, work / "one")
    facts.append("One and two workers: the same rows.")
    facts.append(_killed_and_resumed(corpus, work, corpus.contents))
    check_same(plain, work / "killed")
    if with_ray:
        cost, fact = _on_ray(corpus, work, corpus.contents)
        costs.append(cost)
        facts.append(fact)
        check_same(plain, work / "ray")
        check_same(plain, work / "ray_killed")
    clips, failed = rows(plain, "clips"), rows(plain, "failures")
    if len(clips) + len(failed) != corpus.clips or len(failed) != corpus.broken:
        raise MferError(f"{len(clips)} clips and {len(failed)} failures of {corpus.clips}")
    return BatchResult(
        describe_machine(),
        corpus.clips,
        corpus.broken,
        sum(1 for row in clips if row["copy_of"]),
        sum(float(row["duration_s"]) for row in clips),
        costs,
        facts,
        dict(Counter(row["reason"] for row in failed)),
    )


def _killed_and_resumed(corpus: Corpus, work: Path, unique: int) -> str:
    out = work / "killed"
    run_tree(batch(corpus.folder, out, "--workers", "2"), kill_batch_at(out, unique * 2 // 5))
    kept = journal_lines(out)
    run_tree(batch(corpus.folder, out, "--workers", "2"))
    script.log(f"killed after {kept}, resumed to {journal_lines(out)}")
    if journal_lines(out) != unique:
        raise MferError(
            f"{journal_lines(out)} records of {unique} clips after the batch was killed"
        )
    return (
        f"Killed (SIGKILL) after {kept} records and started again: {unique - kept} clips analysed, "
        "none twice, the same rows."
    )


def _on_ray(corpus: Corpus, work: Path, unique: int) -> tuple[Cost, str]:
    out, killed_out = work / "ray", work / "ray_killed"
    with ray_cluster(2) as address:
        run = run_tree(batch(corpus.folder, out, "--ray", address))
        script.log(f"ray: {run.wall_s:.0f} s")
        killed: list[int] = []
        worker = kill_worker_at(killed_out, unique * 3 // 10, killed)
        driver = kill_batch_at(killed_out, unique * 3 // 5)

        def both(pid: int) -> None:
            worker(pid)
            driver(pid)

        ended = run_tree(batch(corpus.folder, killed_out, "--ray", address), both)
        kept = journal_lines(killed_out)
        if not killed:
            raise MferError("no Ray worker was found to kill")
        run_tree(batch(corpus.folder, killed_out, "--ray", address))
    said = " It said: " + ended.stderr.strip().splitlines()[-1] if "lost" in ended.stderr else ""
    return Cost("`batch --ray`, 2 nodes of 1 CPU", run.wall_s, None, None), (
        f"On Ray, one worker killed after {unique * 3 // 10} records and the batch after {kept}; "
        f"started again: {journal_lines(killed_out)} records of {unique} clips, the same rows."
        f"{said}"
    )


def markdown(result: BatchResult) -> str:
    """Format the tables."""
    summary = (
        f"{result.clips} files: {result.broken} broken, {result.copies} with the content of "
        f"another; {result.media_s / 60:.1f} min of clips."
    )
    table = markdown_table(
        "way | wall, s | against the loop | CPU, s | CPU, s a clip | peak memory, MB",
        [_cells(cost, result.costs[0], result.clips) for cost in result.costs],
        align="lrrrrr",
    )
    failures = markdown_table(
        "clips | reason", [(str(count), why) for why, count in result.failures.items()], align="rl"
    )
    facts = "\n".join(f"- {fact}" for fact in result.facts)
    return document(
        f"{summary}\n{script.machine_line(result.machine, ('ray',))}", table, facts, failures
    )


def _cells(cost: Cost, loop: Cost, clips: int) -> tuple[str, ...]:
    cpu = "-" if cost.cpu_s is None else f"{cost.cpu_s:.0f}"
    each = "-" if cost.cpu_s is None else f"{cost.cpu_s / clips:.2f}"
    peak = "-" if cost.peak_bytes is None else f"{cost.peak_bytes / MB:.0f}"
    ratio = f"{loop.wall_s / cost.wall_s:.2f}x"
    return cost.name, f"{cost.wall_s:.0f}", ratio, cpu, each, peak


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write them as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=FULL_SIZE)
    parser.add_argument("--work", type=Path, help="new folder for the corpus and the batches")
    parser.add_argument("--no-ray", action="store_true")
    options = script.parse(parser, arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary) / "work"
        corpus = make_corpus(options.sources, work / "corpus", options.clips)
        result = measure(corpus, work, with_ray=not options.no_ray)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
