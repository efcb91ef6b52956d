"""Measure `mfer-edge batch` on a corpus of hundreds of clips, and prove that nothing is lost.

`python -m benchmarks.scale.batch SOURCE... [--clips N] [--work DIR] [--part local|ray]` makes
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


def differences(out: Path, other: Path) -> tuple[float, int]:
    """Compare the windows of two batches that need not be the same to the last digit.

    Returns:
        The largest difference of a number, and how many windows have another label.

    Raises:
        MferError: anything but a number or a label differs.
    """
    largest, relabelled = 0.0, 0
    for mine, theirs in zip(rows(out, "windows"), rows(other, "windows"), strict=True):
        for name in (name for name, value in mine.items() if value != theirs[name]):
            if name == "label":
                relabelled += 1
                continue
            try:
                difference = abs(float(mine[name]) - float(theirs[name]))
            except ValueError as error:
                raise MferError(f"{mine['path']}: {name} differs") from error
            largest = max(largest, difference)
    return largest, relabelled


def measure(corpus: Corpus, work: Path, part: str) -> BatchResult:
    """Run everything, or one part of it.

    Raises:
        MferError: a run failed, or gave other rows.
    """
    costs: list[Cost] = []
    facts: list[str] = []
    plain = work / "plain"
    if part != "ray":
        local_costs, local_facts = _local(corpus, work)
        costs += local_costs
        facts += local_facts
    if part != "local":
        run_tree(batch(corpus.folder, plain, "--workers", "2"))  # to compare with; known, if done
        ray_costs, ray_facts = _on_ray(corpus, work)
        costs += ray_costs
        facts += ray_facts
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


def _local(corpus: Corpus, work: Path) -> tuple[list[Cost], list[str]]:
    plain, one, killed = work / "plain", work / "one", work / "killed"
    infer = " ".join(map(shlex.quote, [*MFER_EDGE, "infer"]))
    loop = LOOP.format(folder=corpus.folder, infer=infer, out=work / "loop.jsonl")
    ways = {
        "shell loop over `infer`": ["sh", "-c", loop],
        "`batch`, 2 workers of 1 thread": batch(corpus.folder, plain, "--workers", "2"),
        "`batch`, 1 worker of 2 threads": batch(corpus.folder, one, "--workers", "1"),
    }
    costs = []
    for name, command in ways.items():
        costs.append(Cost.of(name, run_tree(command)))
        script.log(str(costs[-1]))
    largest, relabelled = differences(plain, one)
    facts = [
        f"Workers of one and of two threads: scores differ by at most {largest:.4f}, by ONNX "
        f"Runtime's order of sums; {relabelled} of {len(rows(plain, 'windows'))} windows have "
        "another label by that.",
        _killed_and_resumed(corpus, killed),
    ]
    check_same(plain, killed)
    return costs, facts


def _killed_and_resumed(corpus: Corpus, out: Path) -> str:
    contents = corpus.contents
    run_tree(batch(corpus.folder, out, "--workers", "2"), kill_batch_at(out, contents * 2 // 5))
    kept = journal_lines(out)
    run_tree(batch(corpus.folder, out, "--workers", "2"))
    script.log(f"killed after {kept}, resumed to {journal_lines(out)}")
    if journal_lines(out) != contents:
        raise MferError(f"{journal_lines(out)} records of {contents} after the batch was killed")
    return (
        f"Killed (SIGKILL) after {kept} records and started again: {contents - kept} analysed, "
        "none twice, the same rows as of a batch that was left alone."
    )


def _on_ray(corpus: Corpus, work: Path) -> tuple[list[Cost], list[str]]:
    plain, out, killed_out = work / "plain", work / "ray", work / "ray_killed"
    contents = corpus.contents
    killed: list[int] = []
    worker = kill_worker_at(killed_out, contents * 3 // 10, killed)
    driver = kill_batch_at(killed_out, contents * 3 // 5)

    def both(pid: int) -> None:
        worker(pid)
        driver(pid)

    with ray_cluster(2) as address:
        ended = run_tree(batch(corpus.folder, killed_out, "--ray", address), both)
        kept = journal_lines(killed_out)
        if not killed:
            raise MferError("no Ray worker was found to kill")
        script.log(f"ray: worker {killed[0]} and the batch killed, {kept} records; {ended.stderr}")
        run_tree(batch(corpus.folder, killed_out, "--ray", address))
        check_same(plain, killed_out)
        script.log(f"ray: resumed to {journal_lines(killed_out)} records")
        run = run_tree(batch(corpus.folder, out, "--ray", address))
        check_same(plain, out)
    script.log(f"ray: {run.wall_s:.0f} s")
    fact = (
        f"On Ray, one worker killed (SIGKILL) after {contents * 3 // 10} records, and the batch "
        f"after {kept}; started again: {journal_lines(killed_out)} records of {contents} contents, "
        "the same rows as on this machine alone."
    )
    return [Cost("`batch --ray`, 2 nodes of 1 CPU", run.wall_s, None, None)], [fact]


def markdown(result: BatchResult) -> str:
    """Format the tables."""
    summary = (
        f"{result.clips} files: {result.broken} broken, {result.copies} with the content of "
        f"another; {result.media_s / 60:.1f} min of clips."
    )
    table = markdown_table(
        "way | wall, s | speed, of the first | CPU, s | CPU, s a clip | peak memory, MB",
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


def _cells(cost: Cost, first: Cost, clips: int) -> tuple[str, ...]:
    cpu = "-" if cost.cpu_s is None else f"{cost.cpu_s:.0f}"
    each = "-" if cost.cpu_s is None else f"{cost.cpu_s / clips:.2f}"
    peak = "-" if cost.peak_bytes is None else f"{cost.peak_bytes / MB:.0f}"
    ratio = f"{first.wall_s / cost.wall_s:.2f}x"
    return cost.name, f"{cost.wall_s:.0f}", ratio, cpu, each, peak


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write them as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=FULL_SIZE)
    parser.add_argument(
        "--work",
        type=Path,
        help="folder of the corpus and the batches; results that are there count",
    )
    parser.add_argument("--part", choices=["all", "local", "ray"], default="all")
    options = script.parse(parser, arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary) / "work"
        corpus = make_corpus(options.sources, work / "corpus", options.clips)
        result = measure(corpus, work, options.part)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
