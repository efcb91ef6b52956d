"""A benchmark's JSON, its table, and how it compares with another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mfer_edge.bench.run import Bench
from mfer_edge.bench.stats import NOISE, LatencyStats, Speedup, speedup
from mfer_edge.bench.sweep import threads_text
from mfer_edge.errors import MferError
from mfer_edge.schema import read_as
from mfer_edge.stopwatch import STAGES

SCHEMA = 1
NAME = 18  # columns of a row's name
PERCENTILES = ("p50", "p90", "p95", "p99", "mean")

# By scenario: a heading, what the rows' names begin with, and the rows.
TABLES = {
    "single": (
        ("start, in a process of its own", "start", ("import", "load", "first", "total")),
        ("the clip, and its stages, which overlap", "clip", (*STAGES, "total")),
        (
            "live: one call, and an update from its last sample to the reading",
            "call",
            (*STAGES[1:], "update"),
        ),
    ),
    "offline": (("clips on all workers at once, time for each clip", "offline", ("clip",)),),
}


@dataclass(frozen=True)
class Change:
    """One time of two benchmarks."""

    name: str
    before: LatencyStats
    after: LatencyStats
    speedup: Speedup | None  # None: too few runs

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, `same`, or `too few runs`."""
        return self.speedup.verdict if self.speedup else "too few runs"


def to_dict(bench: Bench) -> dict[str, Any]:
    """Give the JSON form, schema 1."""
    return {"schema": SCHEMA, **asdict(bench)}


def read_bench(path: Path) -> Bench:
    """Read what `to_dict` gave.

    Raises:
        MferError: the file can't be read, or is no benchmark of this schema.
    """
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict) or "schema" not in data or "scenario" not in data:
            raise ValueError("it has no schema and no scenario")
        schema = data.pop("schema")
        if schema != SCHEMA:
            raise MferError(
                f"{path}: schema {schema}, but this version of mfer-edge reads schema {SCHEMA}"
            )
        bench: Bench = read_as(Bench, data)
    except OSError as error:
        raise MferError(f"{path}: {error.strerror or error}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise MferError(f"{path}: not a result of mfer-edge bench: {error}") from error
    return bench


def compare(before: Bench, after: Bench) -> list[Change]:
    """Compare every time that both hold."""
    return [
        Change(name, before.times[name], times, speedup(before.times[name], times))
        for name, times in after.times.items()
        if name in before.times
    ]


def differences(before: Bench, after: Bench) -> list[str]:
    """Say what else differs: what makes a comparison mean something else than it seems to."""
    pairs = {
        "machines": (_machine(before), _machine(after)),
        "clips": (before.clip.name, after.clip.name),
        "bundles": (before.bundle.name, after.bundle.name),
        "devices": (before.device, after.device),
        "threads": (str(before.threads), str(after.threads)),
        "versions of ONNX Runtime": (_runtime(before), _runtime(after)),
    }
    said = [f"the {what} differ: {old}, {new}" for what, (old, new) in pairs.items() if old != new]
    for what, old, new in (
        ("clip", before.clip, after.clip),
        ("bundle", before.bundle, after.bundle),
    ):
        if old.name == new.name and old.sha256 != new.sha256:
            said.append(f"the {what} {new.name} is not the same: its sha256 differs")
    for when, bench in (("before", before), ("now", after)):
        if bench.others is not None and bench.others > NOISE:
            said.append(f"{when}, other processes kept {bench.others:.0%} of the cores busy")
    return said


def _machine(bench: Bench) -> str:
    machine = bench.machine
    parts = [machine.board, machine.cpu, f"{machine.cores} cores", machine.power_mode]
    return " ".join(part for part in (*parts, *(gpu.name for gpu in machine.gpus)) if part)


def _runtime(bench: Bench) -> str:
    versions = bench.machine.versions
    return versions.get("onnxruntime-gpu") or versions.get("onnxruntime") or "none"


def table(bench: Bench) -> str:
    """Write a benchmark out for a person at a terminal; times are in milliseconds."""
    lines = [*_what(bench), ""]
    for heading, group, names in TABLES.get(bench.scenario, ()):
        lines += [*_times(bench, heading, group, names), ""]
    lines += [*_trials(bench), *_cells(bench), *_totals(bench)]
    lines += [f"warning: {warning}" for warning in bench.warnings]
    return "\n".join(lines) + "\n"


def _what(bench: Bench) -> Iterator[str]:
    bundle, clip, machine = bench.bundle, bench.clip, bench.machine
    commit = f", commit {bench.commit}" if bench.commit else ""
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in bundle.shares.items())
    yield (
        f"{bundle.name} {bundle.precision} ({shares} of the work; {bundle.sha256[:12]}) on "
        f"{bench.device}, {threads_text(bench.threads)}{commit}"
    )
    tracks = [f"{clip.width}x{clip.height} {clip.video}"] if clip.video else []
    tracks += [clip.audio] if clip.audio else []
    yield f"{clip.name}: {clip.duration_s:.2f} s, {' + '.join(tracks)} ({clip.sha256[:12]})"
    memory = f", {machine.memory_bytes / 1e9:.0f} GB" if machine.memory_bytes else ""
    governor = f", governor {machine.governor}" if machine.governor else ""
    mode = f", power mode {machine.power_mode}" if machine.power_mode else ""
    board = f"{machine.board}: " if machine.board else ""
    yield (f"{board}{machine.cpu}, {machine.cores} cores{memory}{governor}{mode}; {machine.system}")
    yield from (f"{gpu.name}, driver {gpu.driver}" for gpu in machine.gpus)
    yield ", ".join(f"{name} {version}" for name, version in machine.versions.items())


def _times(bench: Bench, heading: str, group: str, names: Sequence[str]) -> Iterator[str]:
    yield f"{heading}; ms"
    yield " " * NAME + "".join(f"{name:>9}" for name in (*PERCENTILES, "runs"))
    for name in names:
        times = bench.times.get(f"{group}.{name}")
        yield f"  {name:<{NAME - 2}}" + ("  not run" if times is None else _row(times))


def _row(times: LatencyStats) -> str:
    values = (times.p50_s, times.p90_s, times.p95_s, times.p99_s, times.mean_s)
    return "".join(f"{1e3 * value:9.2f}" for value in values) + f"{len(times.runs_s):9}"


def _trials(bench: Bench) -> Iterator[str]:
    if not bench.trials:
        return
    hop_ms = 1e3 * bench.waits.hop_s
    yield f"live streams in real time; ms from the last sample to the reading, {hop_ms:g} allowed"
    yield f"{'streams':>9}{'p50':>9}{'p99':>9}{'updates':>9}"
    for trial in sorted(bench.trials, key=lambda trial: trial.streams):
        late = [
            f"{'-':>9}" if value is None else f"{1e3 * value:9.1f}"
            for value in (trial.p50_s, trial.p99_s)
        ]
        held = "holds" if trial.holds else "falls behind"
        yield f"{trial.streams:9}{''.join(late)}{trial.updates:9}  {held}"
    yield f"{bench.streams} live streams held at p99, of those tried"
    yield ""


def _cells(bench: Bench) -> Iterator[str]:
    if not bench.cells:
        return
    yield "ms for a face, a call of another network, or the clip"
    yield f"{'network':<12}{'precision':<12}{'threads':>9}{'batch':>9}{'p50':>9}{'p99':>9}  bundle"
    for cell in sorted(bench.cells, key=lambda cell: cell.setting.network):
        which, times = cell.setting, cell.times
        yield (
            f"{which.network:<12}{which.precision:<12}{which.threads:9}{which.batch:9}"
            f"{1e3 * times.p50_s:9.3f}{1e3 * times.p99_s:9.3f}  {which.bundle}"
        )
    yield ""
    yield from bench.verdicts
    yield ""


def _totals(bench: Bench) -> Iterator[str]:
    clip_s = bench.clip.duration_s
    for name, how in (("clip.total", "one clip at a time"), ("offline.clip", "offline")):
        if name in bench.times and clip_s:
            taken_s = bench.times[name].p50_s
            yield (
                f"{how}: {clip_s / taken_s:.1f} s of clip a second, real-time factor "
                f"{taken_s / clip_s:.3f}"
            )
    waits = bench.waits
    yield (
        f"a live reading looks back {waits.window_s:g} s and comes every {waits.hop_s:g} s, first "
        f"after {waits.first_s:g} s, however fast the machine is"
    )
    yield (
        f"  (a picture every {1e3 * waits.picture_s:g} ms, speech in steps of "
        f"{1e3 * waits.vad_chunk_s:g} ms)"
    )
    if bench.memory_bytes:
        whose = "of a process that reads the clip" if bench.scenario == "single" else "here"
        yield f"peak memory {whose}: {bench.memory_bytes / 1e6:.0f} MB"
    if bench.gpu_bytes is not None:
        yield f"GPU memory: {bench.gpu_bytes / 1e6:.0f} MB"
    if not bench.gauges:
        yield "power and clocks: this machine does not tell"
    for gauge in bench.gauges:
        yield (
            f"{gauge.name}: {gauge.mean:.4g} {gauge.unit} ({gauge.least:.4g} to {gauge.most:.4g})"
        )
    for name in ("clip.total", "call.update", "offline.clip"):
        if name in bench.times and (steadiness := bench.times[name].steadiness) is not None:
            yield f"steadiness of {name}: its runs' halves are {steadiness:.1%} apart"


def comparison(before: Bench, after: Bench) -> str:
    """Write out what has become faster or slower, for a person at a terminal."""
    changes = compare(before, after)
    lines = ["", f"{'before, now; ms at p50':<{NAME}}{'':>9}{'':>9}"]
    for change in changes:
        times = f"{1e3 * change.before.p50_s:9.2f}{1e3 * change.after.p50_s:9.2f}"
        found = change.speedup
        ratio = f"{found.ratio:6.2f}x ({found.low:.2f} to {found.high:.2f})" if found else ""
        lines.append(f"  {change.name:<{NAME - 2}}{times}  {change.verdict:<12}{ratio}".rstrip())
    if not changes:
        lines.append("  nothing was measured in both")
    lines.append(f"(same: within {NOISE:.0%}, or what either run differs from itself by)")
    lines += [f"warning: {difference}" for difference in differences(before, after)]
    return "\n".join(lines) + "\n"
