"""Torture set: every kind of clip that FFmpeg writes here, cut-off clips and random damage.

`python -m benchmarks.torture [--mutants N] [--seed N] [--workers N] [--minutes M] [--timeout S]
[--memory MB] [--cli N] [--kind KIND]... [--scan] [--json PATH [--go-on]]` writes each input into a
temporary folder, has it analysed by a worker process with a time and a memory limit, and compares
the reading with that of its clean twin:

- of a clip that is whole, the same pictures and samples in FFV1 and PCM, decoded packet by packet;
  of moved time stamps, the clip without them;
- of a clip that was cut off or changed at random, the whole one.

A reading that differs by more than 0.02 in a score, or in what it rests on, has to say so by a
warning; one line is as good. Random damage may change pictures and samples alone, where no
checksum covers them, so that nothing can notice it: such mutants are counted apart, by their
changed bytes (see `coverage`). `--cli` inputs of all are also given to `mfer-edge infer`: its exit
code is 0 or 1, without a traceback. What FFmpeg can't write is left out.

With `--scan`, mutants are decoded first, ten times as fast: one whose frames and samples are those
of the whole clip reads like it, one whose differ and that says so need not be read to be judged.
With `--go-on`, what the JSON file holds already is not tried again, so a long run can be made in
parts. The exit code is 1 if there was any fault.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import chain
from pathlib import Path

from benchmarks.harness import script
from benchmarks.torture.damage import cut_cases, mutants, write_wholes
from benchmarks.torture.judge import FAULTS, Outcome, Verdict, given, judge
from benchmarks.torture.report import TortureResult, report
from benchmarks.torture.scan import Scan, judge_scan, scan
from benchmarks.torture.variants import Case, all_cases
from mfer_edge.bench.machine import describe_machine
from mfer_edge.errors import MferError
from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.isolation.worker import ClipJob, WorkerSetup
from mfer_edge.results import Analysis

FAMILIES = ("video codec", "audio codec", "pixels")  # of which one container is enough


class Torture:
    """A run: the pool, the folder, and what was found so far."""

    def __init__(
        self,
        pool: IsolatedPool,
        folder: Path,
        result: TortureResult,
        *,
        save_to: Path | None = None,
        scans: bool = False,
    ) -> None:
        self._pool, self._folder, self._result = pool, folder, result
        self._save_to, self._scans = save_to, scans
        self._scanned: dict[Path, Scan | MferError | None] = {}
        self._twins: dict[Path, Future[Analysis]] = {}  # of clips that are the twin of many
        self._number = 0

    def begin(self, case: Case) -> Iterator[None]:
        """Write a case and its twin and hand both in; the next step waits and judges."""
        self._number += 1
        path = self._folder / f"{self._number}"
        try:
            clip = case.make(path)
        except Exception as error:  # whatever FFmpeg says to what it can't write
            self._note(case, Outcome.NOT_WRITTEN, type(error).__name__)
            return
        if self._scans and (found := self._scan(case, clip)) is not None:
            self._note(case, *found)
            clip.unlink()
            return
        got, twin, other = self._submit(clip), None, None
        try:
            other = case.twin(clip, path.with_name(f"{path.name}-twin")) if case.twin else None
        except Exception:  # nor does FFmpeg itself read it
            other = None
        if other is not None:
            shared = other.parent != self._folder
            twin = self._twins.get(other) or self._submit(other)
            if shared:
                self._twins[other] = twin
        yield
        wait_s = 4 * self._result.timeout_s
        of_twin = None if twin is None else given(twin, wait_s)
        outcome, why = judge(given(got, wait_s), of_twin)
        if outcome is Outcome.SILENT and case.shows is not None and not case.shows(clip):
            outcome = Outcome.UNCOVERED
        self._note(case, outcome, why)
        for made in self._folder.glob(f"{path.name}[.-]*"):
            made.unlink()

    def run(self, cases: Iterator[Case], ahead: int, until_s: float = math.inf) -> None:
        """Judge the cases, a few of them at a time, until the clock reads so much."""
        waiting: list[Iterator[None]] = []
        done = {(v.kind, v.name): v.outcome for v in self._result.verdicts}
        families = {
            (kind, name.split(" in ")[0])
            for (kind, name), outcome in done.items()
            if outcome != Outcome.NOT_WRITTEN.value
        }
        for case in cases:
            if time.monotonic() > until_s:
                break
            if (case.kind, case.name) in done:
                continue
            family = case.kind, case.name.split(" in ")[0]
            if case.kind in FAMILIES and family in families:
                continue
            step = self.begin(case)
            if next(step, False) is None:
                waiting.append(step)
                families.add(family)
            if len(waiting) > ahead:
                next(waiting.pop(0), None)
        for step in waiting:
            next(step, None)

    def command(self, case: Case) -> None:
        """Give a case to the command line."""
        try:
            clip = case.make(self._folder / "command")
        except Exception:  # as above
            return
        call = [sys.executable, "-m", "mfer_edge", "infer", "--device", "cpu", "--threads", "1"]
        done = subprocess.run([*call, str(clip)], capture_output=True, text=True, errors="replace")
        self._result.commands += 1
        if done.returncode not in (0, 1) or "Traceback" in done.stderr:
            self._result.exits.append(f"{case.name}: {done.returncode} {done.stderr[-300:]}")

    def _scan(self, case: Case, clip: Path) -> tuple[Outcome, str] | None:
        """Judge a damaged clip by decoding it, where that suffices."""
        whole = case.twin(clip, clip) if case.shows is not None and case.twin else None
        if whole is None:
            return None
        if whole not in self._scanned:
            self._scanned[whole] = scan(whole)
        return judge_scan(scan(clip), self._scanned[whole])

    def _submit(self, path: Path) -> Future[Analysis]:
        return self._pool.submit(ClipJob(path, timeout_s=self._result.timeout_s))

    def _note(self, case: Case, outcome: Outcome, why: str) -> None:
        why = why.replace(str(self._folder), "")
        self._result.verdicts.append(
            Verdict(case.kind, case.name, outcome.value, why, case.may_differ)
        )
        if outcome in FAULTS:
            script.log(repr(self._result.verdicts[-1]))
        if len(self._result.verdicts) % 100 == 0:
            script.log(f"{len(self._result.verdicts)} done")
            if self._save_to is not None:
                self._result.save(self._save_to)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--memory", type=int, default=2000)
    parser.add_argument("--cli", type=int, default=20)
    parser.add_argument("--kind", action="append")
    parser.add_argument("--go-on", action="store_true")
    parser.add_argument("--scan", action="store_true")
    options = script.parse(parser, arguments)
    start_s = time.monotonic()
    until_s = start_s + 60 * options.minutes
    result = TortureResult(describe_machine(), options.seed, options.timeout, options.memory)
    if options.go_on and options.json:
        result.go_on(options.json)
    earlier_s = result.wall_s
    setup = WorkerSetup(device="cpu", threads=1, max_memory_bytes=options.memory * 1_000_000)
    with (
        tempfile.TemporaryDirectory() as name,
        IsolatedPool(setup, workers=options.workers) as pool,
    ):
        folder, wholes_folder = Path(name) / "cases", Path(name) / "wholes"
        folder.mkdir()
        wholes_folder.mkdir()
        wholes = write_wholes(wholes_folder)
        changed = mutants(wholes, options.mutants, options.seed)
        everything = chain(all_cases(), cut_cases(wholes), changed)
        cases = (case for case in everything if not options.kind or case.kind in options.kind)
        torture = Torture(pool, folder, result, save_to=options.json, scans=options.scan)
        torture.run(cases, 2 * options.workers, until_s)
        drawn = list(chain(all_cases(), cut_cases(wholes), mutants(wholes, 500, options.seed)))
        for case in random.Random(options.seed).sample(drawn, options.cli):
            torture.command(case)
    result.wall_s = earlier_s + time.monotonic() - start_s
    script.publish(report(result), result, options.json)
    if result.faults or result.exits:
        sys.exit(1)


if __name__ == "__main__":
    script.run(main)
