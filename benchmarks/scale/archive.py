"""Simulate a large archive on a cluster, from figures that were measured on one machine.

`python -m benchmarks.scale.archive [--hours H] [--nodes N ...]` takes the processor time for an
hour of video from `benchmarks/results/length.md` and asks: how long, at what cost, and what is in
the way? Each worker is a process on one core that takes the next clip when it is done, as in
`mfer-edge batch` and on Ray. Clips have log-normal lengths, are read from one storage, and are done
again when their node fails. Prices, the storage, failures and the archive itself are assumptions:
options, whose defaults are in the table. Nothing of this has run at that size.
"""

from __future__ import annotations

import argparse
import heapq
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.errors import MferError

LENGTH = Path(__file__).parents[1] / "results" / "length.md"
ROW = re.compile(r"\| (\d+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$", re.MULTILINE)
HOUR_S = 3600.0
SEED = 0


@dataclass(frozen=True)
class Measured:
    """What one machine took."""

    core_s: float  # for a second of video: wall time of all its cores
    memory_mb: float  # of a process


@dataclass(frozen=True)
class Archive:
    """What there is to do, and where it lies."""

    hours: float
    clip_s: float  # mean length
    spread: float  # standard deviation of the lengths' logarithm
    bitrate_mbit: float  # of the files
    storage_gbit: float  # that the storage delivers to all nodes together
    slowdown: float = 1.0  # of a core, with the others of its node busy too


@dataclass(frozen=True)
class Nodes:
    """Machines of one kind."""

    count: int
    cores: int
    mtbf_h: float  # mean time between failures of one
    usd_core_h: float


@dataclass(frozen=True)
class Outcome:
    """How a simulated run went."""

    nodes: int
    hours: float  # from start to end
    core_hours: float
    usd: float
    redone: float  # share of the work that was lost and done again
    busy: float  # share of the cores' time
    storage: float  # share of the storage that is used
    bottleneck: str


def measured(text: str) -> Measured:
    """Read the longest clip's row of `length.md`; it was read with two cores.

    Raises:
        MferError: there is none.
    """
    rows = ROW.findall(text)
    cores = re.search(r"(\d+) cores", text)
    if not rows or not cores:
        raise MferError(f"{LENGTH}: no table of lengths")
    duration_s, wall_s, _, memory_mb = (float(cell) for cell in rows[-1])
    return Measured(wall_s * int(cores[1]) / duration_s, memory_mb)


def simulate(cost: Measured, archive: Archive, nodes: Nodes) -> Outcome:
    """Run an archive through a cluster, clip by clip."""
    workers = nodes.count * nodes.cores
    per_second = cost.core_s * archive.slowdown
    demand_gbit = workers / per_second * archive.bitrate_mbit / 1000
    wait = max(1.0, demand_gbit / archive.storage_gbit)  # all read slower by as much
    random = np.random.default_rng(SEED)
    count = max(1, round(archive.hours * HOUR_S / archive.clip_s))
    lengths_s = random.lognormal(-(archive.spread**2) / 2, archive.spread, count)
    lengths_s *= archive.hours * HOUR_S / lengths_s.sum()
    work_s = lengths_s * per_second * wait
    lost_s = _lost(work_s, nodes.mtbf_h * HOUR_S, random)
    ends = [0.0] * workers
    for clip_s in work_s + lost_s:
        heapq.heapreplace(ends, ends[0] + clip_s)
    end_s = max(ends)
    core_h = end_s * workers / HOUR_S
    busy = float((work_s.sum() + lost_s.sum()) / (end_s * workers))
    storage = demand_gbit / wait / archive.storage_gbit * busy
    return Outcome(
        nodes.count,
        end_s / HOUR_S,
        core_h,
        core_h * nodes.usd_core_h,
        float(lost_s.sum() / work_s.sum()),
        busy,
        storage,
        _bottleneck(wait, busy),
    )


def _lost(work_s: np.ndarray, mtbf_s: float, random: np.random.Generator) -> np.ndarray:
    """Seconds that each clip loses to failures of its node before it is done."""
    lost = np.zeros_like(work_s)
    waiting = np.arange(len(work_s))
    while len(waiting):
        fails_s = random.exponential(mtbf_s, len(waiting))
        failed = fails_s < work_s[waiting]
        lost[waiting[failed]] += fails_s[failed]
        waiting = waiting[failed]
    return lost


def _bottleneck(wait: float, busy: float) -> str:
    if wait > 1:
        return f"storage: everything takes {wait:.1f} times as long"
    return "cores" if busy > 0.9 else "the longest clips, at the end"


def nodes_for(cost: Measured, archive: Archive, nodes: Nodes, within_h: float) -> int | None:
    """Fewest nodes of a kind that are done in time, by simulation; None if none are."""
    least = archive.hours * cost.core_s * archive.slowdown / (nodes.cores * within_h)
    for count in sorted({math.ceil(least * more) for more in (1, 1.02, 1.05, 1.1, 1.25, 1.5, 2)}):
        tried = Nodes(count, nodes.cores, nodes.mtbf_h, nodes.usd_core_h)
        if simulate(cost, archive, tried).hours <= within_h:
            return count
    return None


def report(
    cost: Measured, archive: Archive, outcomes: Sequence[Outcome], nodes: Nodes, needed: int | None
) -> str:
    """Tables of what is assumed and what comes of it."""
    memory_gb = cost.memory_mb * nodes.cores / 1000
    assumed = markdown_table(
        "what | value | from",
        [
            ("core time for a second of video", f"{cost.core_s:.3f} s", "measured: length.md"),
            ("memory of a worker", f"{cost.memory_mb:.0f} MB", "measured: length.md"),
            ("the same for a node", f"{memory_gb:.0f} GB", "workers times that"),
            ("archive", f"{archive.hours:,.0f} h in clips of {archive.clip_s / 60:.0f} min",
             "assumed"),
            ("bit rate of the files", f"{archive.bitrate_mbit:g} Mbit/s", "assumed"),
            ("storage, to all nodes together", f"{archive.storage_gbit:g} Gbit/s", "assumed"),
            ("node", f"{nodes.cores} cores, fails every {nodes.mtbf_h:,.0f} h", "assumed"),
            ("slower with all cores busy", f"{archive.slowdown:g} times", "assumed"),
            ("price", f"{nodes.usd_core_h:g} USD for a core and hour", "assumed"),
        ],
    )  # fmt: skip
    made = markdown_table(
        "nodes | days | core-hours | USD | done again | cores busy | storage used | bottleneck",
        [
            (f"{one.nodes}", f"{one.hours / 24:.1f}", f"{one.core_hours:,.0f}", f"{one.usd:,.0f}",
             f"{one.redone:.2%}", f"{one.busy:.0%}", f"{one.storage:.0%}", one.bottleneck)
            for one in outcomes
        ],
        "rrrrrrrl",
    )  # fmt: skip
    month = f"{needed} node{'s' * (needed != 1)}" if needed else "not with nodes of this kind"
    line = f"A month: {month}."
    return document("A simulation, not a run.", assumed, made, line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, and print the tables."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--hours", type=float, default=1e6)
    parser.add_argument("--clip-minutes", type=float, default=60.0)
    parser.add_argument("--spread", type=float, default=0.8)
    parser.add_argument("--bitrate", type=float, default=2.0, help="of the files, Mbit/s")
    parser.add_argument("--storage", type=float, default=10.0, help="Gbit/s to all nodes")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 5, 10, 50, 100])
    parser.add_argument("--cores", type=int, default=64, help="of a node")
    parser.add_argument("--mtbf", type=float, default=2000.0, help="hours between its failures")
    parser.add_argument("--slowdown", type=float, default=1.3)
    parser.add_argument("--price", type=float, default=0.04, help="USD for a core and hour")
    options = parser.parse_args(arguments)
    _check(parser, options)
    cost = measured(LENGTH.read_text(encoding="utf-8"))
    archive = Archive(options.hours, 60 * options.clip_minutes, options.spread, options.bitrate,
                      options.storage, options.slowdown)  # fmt: skip
    kinds = [
        Nodes(count, options.cores, options.mtbf, options.price) for count in options.nodes
    ]  # fmt: skip
    outcomes = [simulate(cost, archive, nodes) for nodes in kinds]
    needed = nodes_for(cost, archive, kinds[0], 30 * 24)
    print(report(cost, archive, outcomes, kinds[0], needed))


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for name, value in vars(options).items():
        values = value if isinstance(value, list) else [value]
        if not all(0 < one < math.inf for one in values):
            parser.error(f"--{name.replace('_', '-')} must be above 0")


if __name__ == "__main__":
    script.run(main)
