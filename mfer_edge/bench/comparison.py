"""Comparison of two benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

from mfer_edge.bench.report import NAME_WIDTH
from mfer_edge.bench.result import BenchResult
from mfer_edge.bench.stats import CONFIDENCE, NOISE, LatencyStats, Speedup, speedup


@dataclass(frozen=True)
class LatencyChange:
    """A latency in two benchmarks."""

    name: str
    before: LatencyStats
    after: LatencyStats
    speedup: Speedup | None  # None for too few runs

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, `same`, or `too few runs`."""
        return self.speedup.verdict if self.speedup else "too few runs"


def changes(before: BenchResult, after: BenchResult) -> list[LatencyChange]:
    """Compare the latencies that both benchmarks have."""
    return [
        LatencyChange(name, before.times[name], times, speedup(before.times[name], times))
        for name, times in after.times.items()
        if name in before.times
    ]


def differences(before: BenchResult, after: BenchResult) -> list[str]:
    """Differences of machine, input and software, which a comparison of latencies would hide."""
    pairs = {
        "machines": (_machine(before), _machine(after)),
        "clips": (before.clip.name, after.clip.name),
        "bundles": (before.bundle.name, after.bundle.name),
        "devices": (before.device, after.device),
        "threads": (str(before.threads), str(after.threads)),
        "versions of ONNX Runtime": (_onnxruntime(before), _onnxruntime(after)),
    }
    found = [f"the {what} differ: {old}, {new}" for what, (old, new) in pairs.items() if old != new]
    for what, old, new in (
        ("clip", before.clip, after.clip),
        ("bundle", before.bundle, after.bundle),
    ):
        if old.name == new.name and old.sha256 != new.sha256:
            found.append(f"the {what} {new.name} is not the same: its sha256 differs")
    for when, result in (("before", before), ("now", after)):
        if result.others is not None and result.others > NOISE:
            found.append(f"{when}, other processes kept {result.others:.0%} of the cores busy")
    return found


def comparison_text(before: BenchResult, after: BenchResult) -> str:
    """Table of what became faster or slower, for a terminal."""
    found = changes(before, after)
    title = "before, now; ms at p50"
    lines = ["", f"{title:<{NAME_WIDTH}}{'':>18}  {'':<12}speed-up ({CONFIDENCE:.0%} interval)"]
    lines += [_change_line(change) for change in found]
    if not found:
        lines.append("  nothing was measured in both")
    lines.append(f"(same: within {NOISE:.0%}, or what either run differs from itself by)")
    lines += [f"warning: {difference}" for difference in differences(before, after)]
    return "\n".join(lines) + "\n"


def _change_line(change: LatencyChange) -> str:
    times = f"{1e3 * change.before.p50_s:9.2f}{1e3 * change.after.p50_s:9.2f}"
    found = change.speedup
    ratio = f"{found.ratio:6.2f}x ({found.low:.2f} to {found.high:.2f})" if found else ""
    return f"  {change.name:<{NAME_WIDTH - 2}}{times}  {change.verdict:<12}{ratio}".rstrip()


def _machine(result: BenchResult) -> str:
    machine = result.machine
    parts = [machine.board, machine.cpu, f"{machine.cores} cores", machine.power_mode]
    return " ".join(part for part in (*parts, *(gpu.name for gpu in machine.gpus)) if part)


def _onnxruntime(result: BenchResult) -> str:
    versions = result.machine.versions
    return versions.get("onnxruntime-gpu") or versions.get("onnxruntime") or "none"
