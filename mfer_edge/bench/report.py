"""Tables of a benchmark for a terminal; times in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mfer_edge.bench.result import BenchResult
from mfer_edge.bench.stats import LatencyStats
from mfer_edge.bench.sweep import threads_text
from mfer_edge.stopwatch import STAGES

NAME_WIDTH = 18  # characters of the first column
PERCENTILES = ("p50", "p90", "p95", "p99", "mean")

# By scenario: heading, prefix of the names in `BenchResult.times`, and rows.
LATENCY_TABLES = {
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


def report_text(result: BenchResult) -> str:
    """All that a benchmark measured."""
    lines = [*_description(result), ""]
    for heading, prefix, names in LATENCY_TABLES.get(result.scenario, ()):
        lines += [*_latency_table(result, heading, prefix, names), ""]
    lines += [*_stream_table(result), *_sweep_table(result), *_speed(result), *_resources(result)]
    lines += [f"warning: {warning}" for warning in result.warnings]
    return "\n".join(lines) + "\n"


def _description(result: BenchResult) -> Iterator[str]:
    bundle, clip, machine = result.bundle, result.clip, result.machine
    commit = f", commit {result.commit}" if result.commit else ""
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in bundle.shares.items())
    yield (
        f"{bundle.name} {bundle.precision} ({shares} of the MACs; {bundle.sha256[:12]}) on "
        f"{result.device}, {threads_text(result.threads)}{commit}"
    )
    tracks = [f"{clip.width}x{clip.height} {clip.video}"] if clip.video else []
    tracks += [clip.audio] if clip.audio else []
    yield f"{clip.name}: {clip.duration_s:.2f} s, {' + '.join(tracks)} ({clip.sha256[:12]})"
    memory = f", {machine.memory_bytes / 1e9:.0f} GB" if machine.memory_bytes else ""
    governor = f", governor {machine.governor}" if machine.governor else ""
    mode = f", power mode {machine.power_mode}" if machine.power_mode else ""
    board = f"{machine.board}: " if machine.board else ""
    yield (f"{board}{machine.cpu}, {machine.cores} cores{memory}{governor}{mode}; {machine.system}")
    yield from map(str, machine.gpus)
    yield ", ".join(f"{name} {version}" for name, version in machine.versions.items())


def _latency_table(
    result: BenchResult, heading: str, prefix: str, names: Sequence[str]
) -> Iterator[str]:
    yield f"{heading}; ms"
    yield " " * NAME_WIDTH + "".join(f"{name:>9}" for name in (*PERCENTILES, "runs"))
    for name in names:
        times = result.times.get(f"{prefix}.{name}")
        yield f"  {name:<{NAME_WIDTH - 2}}" + ("  not run" if times is None else _latencies(times))


def _latencies(times: LatencyStats) -> str:
    values = (times.p50_s, times.p90_s, times.p95_s, times.p99_s, times.mean_s)
    return "".join(f"{1e3 * value:9.2f}" for value in values) + f"{len(times.runs_s):9}"


def _stream_table(result: BenchResult) -> Iterator[str]:
    if not result.trials:
        return
    hop_ms = 1e3 * result.waits.hop_s
    yield f"live streams in real time; ms from the last sample to the reading, {hop_ms:g} allowed"
    yield f"{'streams':>9}{'p50':>9}{'p99':>9}{'updates':>9}"
    for trial in sorted(result.trials, key=lambda trial: trial.streams):
        latencies = [
            f"{'-':>9}" if value is None else f"{1e3 * value:9.1f}"
            for value in (trial.p50_s, trial.p99_s)
        ]
        held = "holds" if trial.holds else "falls behind"
        yield f"{trial.streams:9}{''.join(latencies)}{trial.updates:9}  {held}"
    yield f"{result.streams} live streams held at p99, of those tried"
    yield ""


def _sweep_table(result: BenchResult) -> Iterator[str]:
    if not result.cells:
        return
    yield "ms for a face, a call of another engine, or the clip"
    yield f"{'engine':<12}{'precision':<12}{'threads':>9}{'batch':>9}{'p50':>9}{'p99':>9}  bundle"
    for cell in sorted(result.cells, key=lambda cell: cell.setting.network):
        setting, times = cell.setting, cell.times
        yield (
            f"{setting.network:<12}{setting.precision:<12}{setting.threads:9}{setting.batch:9}"
            f"{1e3 * times.p50_s:9.3f}{1e3 * times.p99_s:9.3f}  {setting.bundle}"
        )
    yield ""
    yield from result.verdicts
    yield ""


def _speed(result: BenchResult) -> Iterator[str]:
    clip_s = result.clip.duration_s
    for name, how in (("clip.total", "one clip at a time"), ("offline.clip", "offline")):
        if name in result.times and clip_s:
            taken_s = result.times[name].p50_s
            yield (
                f"{how}: {clip_s / taken_s:.1f} s of clip a second, real-time factor "
                f"{taken_s / clip_s:.3f}"
            )
    waits = result.waits
    yield (
        f"a live reading looks back {waits.window_s:g} s and comes every {waits.hop_s:g} s, first "
        f"after {waits.first_s:g} s, however fast the machine is"
    )
    yield (
        f"  (a frame every {1e3 * waits.picture_s:g} ms, speech in steps of "
        f"{1e3 * waits.vad_chunk_s:g} ms)"
    )


def _resources(result: BenchResult) -> Iterator[str]:
    if result.memory_bytes:
        whose = "of a process that reads the clip" if result.scenario == "single" else "here"
        yield f"peak memory {whose}: {result.memory_bytes / 1e6:.0f} MB"
    if result.gpu_bytes is not None:
        yield f"GPU memory: {result.gpu_bytes / 1e6:.0f} MB"
    if not result.gauges:
        yield "power and clocks: this machine does not tell"
    for gauge in result.gauges:
        yield (
            f"{gauge.name}: {gauge.mean:.4g} {gauge.unit} ({gauge.least:.4g} to {gauge.most:.4g})"
        )
    for name in ("clip.total", "call.update", "offline.clip"):
        if name in result.times and (steadiness := result.times[name].steadiness) is not None:
            yield f"steadiness of {name}: its runs' halves are {steadiness:.1%} apart"
