"""What the GPU benchmark found: Markdown for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.gpu.networks import Row
from benchmarks.gpu.pipeline import ClipRow, Update
from mfer_edge.bench.machine import Machine
from mfer_edge.bench.stats import LatencyStats

SCHEMA = 1
TARGET_S = 0.015  # for a window's update, at p99
SAME = 0.9  # cosine below which an output is another model's


@dataclass(frozen=True)
class Report:
    """What was measured, where, and with what."""

    command: str
    commit: str | None  # of the checkout, with a + if changed since
    machine: Machine
    libraries: dict[str, str]  # versions
    preset: str
    trained: bool
    bundles: dict[str, str]  # sha256 of each manifest, by precision
    clips: tuple[str, ...]
    networks: tuple[Row, ...]
    updates: tuple[Update, ...]
    clip_rows: tuple[ClipRow, ...]
    not_run: dict[str, str]  # why, by part


def markdown(report: Report) -> str:
    """Write a report out; times are in milliseconds."""
    lines = [*_heading(report), "", *_network_table(report)]
    if report.updates:
        lines += ["", *_update_table(report)]
    if report.clip_rows:
        lines += ["", *_clip_table(report)]
    if report.not_run:
        parts: dict[str, list[str]] = {}
        for part, why in report.not_run.items():
            parts.setdefault(why, []).append(part)
        told = "; ".join(f"{', '.join(of)} ({why})" for why, of in parts.items())
        lines += ["", f"Did not run: {told}."]
    return "\n".join(lines) + "\n"


def _heading(report: Report) -> Iterator[str]:
    machine = report.machine
    gpus = [f"{gpu.name}, driver {gpu.driver}" for gpu in machine.gpus] or ["no GPU"]
    yield f"`{report.command}`" + (f", commit {report.commit}" if report.commit else "") + "."
    yield f"Machine: {'; '.join(gpus)}; {machine.cpu}, {machine.cores} cores; {machine.system}."
    versions = {**machine.versions, **report.libraries}
    yield f"Versions: {', '.join(f'{name} {of}' for name, of in versions.items())}."
    weights = "trained" if report.trained else "random weights: the times are real, the scores not"
    hashes = ", ".join(f"{precision} {sha[:12]}" for precision, sha in report.bundles.items())
    yield f"Model: {report.preset}, {weights}; bundles {hashes}. Clips: {', '.join(report.clips)}."
    if machine.gpus:
        yield "fp32 is TF32 in products on the GPU, for PyTorch as for ONNX Runtime."


def _network_table(report: Report) -> Iterator[str]:
    yield (
        "Networks, ms a call: arrays on the device and waited for; then from the host's memory and "
        "back. A precision is the whole bundle's. Differences are from PyTorch fp32 on the CPU."
    )
    yield ""
    yield (
        "| network | batch | backend | precision | p50 | p90 | p99 | mean "
        "| with copies p50 | p99 | max-abs | cosine | |"
    )
    yield "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"
    for row in report.networks:
        note = row.note
        if not row.cosine >= SAME:
            note = "; ".join(filter(None, [note, "wrong, or made from other weights"]))
        yield (
            f"| {row.case} | {row.batch} | {row.backend} | {row.precision} | {_times(row.device)} "
            f"| {_ms(row.whole.p50_s)} | {_ms(row.whole.p99_s)} "
            f"| {row.max_abs:.2g} | {row.cosine:.7f} | {note} |"
        )


def _update_table(report: Report) -> Iterator[str]:
    new = report.updates[0].faces
    yield (
        f"A window's update, ms: {new} new faces, the others' features kept, a window full of "
        f"speech, both arms and the fusion; target {TARGET_S * 1000:g} ms at p99. `live`: the same "
        "in a session, with what finds faces and speech."
    )
    yield ""
    yield (
        "| precision | device | p50 | p90 | p99 | mean | on target | of p50: device | host "
        "| live p50 | p99 | GPU memory MB |"
    )
    yield "|---|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|"
    for row in report.updates:
        verdict = "yes" if row.window.p99_s <= TARGET_S else "no"
        memory = "-" if row.gpu_bytes is None else f"{row.gpu_bytes / 1e6:.0f}"
        yield (
            f"| {row.precision} | {row.device} | {_times(row.window)} | {verdict} "
            f"| {_apart(row.window.p50_s, row.device_s)} "
            f"| {_ms(row.live.p50_s)} | {_ms(row.live.p99_s)} | {memory} |"
        )


def _clip_table(report: Report) -> Iterator[str]:
    yield "Clips from file to readings, ms; decoding runs beside the rest, on the host."
    yield ""
    yield (
        "| clip | s | precision | device | p50 | p90 | p99 | mean | real-time factor "
        "| decoding | of p50 | of p50: device | host |"
    )
    yield "|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in report.clip_rows:
        p50_s = row.total.p50_s
        yield (
            f"| {row.clip} | {row.duration_s:.2f} | {row.precision} | {row.device} "
            f"| {_times(row.total)} | {p50_s / row.duration_s:.4f} | {_ms(row.decode_s)} "
            f"| {row.decode_s / p50_s:.0%} | {_apart(p50_s, row.device_s)} |"
        )


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    ms = 1000 * seconds
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def _times(times: LatencyStats | None) -> str:
    if times is None:
        return "- | - | - | -"
    return " | ".join(map(_ms, (times.p50_s, times.p90_s, times.p99_s, times.mean_s)))


def _apart(whole_s: float, device_s: float | None) -> str:
    host_s = None if device_s is None else max(0.0, whole_s - device_s)
    return f"{_ms(device_s)} | {_ms(host_s)}"


def to_json(report: Report) -> str:
    """Give the report as JSON, without the single runs."""

    def plain(value: Any) -> Any:
        if isinstance(value, LatencyStats):
            return {
                f.name: getattr(value, f.name) for f in fields(LatencyStats) if f.name != "runs_s"
            }
        if isinstance(value, tuple):
            return [plain(one) for one in value]
        if isinstance(value, (Row, Update, ClipRow, Report)):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return asdict(value) if isinstance(value, Machine) else value

    return json.dumps({"schema": SCHEMA, **plain(report)}, indent=1) + "\n"
