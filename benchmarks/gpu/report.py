"""Results of the GPU benchmark, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.gpu.compare import CaseTime
from benchmarks.gpu.pipeline import ClipTime, UpdateTime
from benchmarks.harness.tables import document, markdown_table, milliseconds
from mfer_edge.bench.machine import Machine
from mfer_edge.bench.stats import LatencyStats

SCHEMA = 2  # since 2: `engines` instead of `networks`, `clip_times` instead of `clip_rows`
TARGET_S = 0.015  # for a window's update, at p99
SAME = 0.9  # cosine below which an output is another model's


@dataclass(frozen=True)
class GpuResult:
    """All times, and where and with what they were measured."""

    command: str
    commit: str | None  # of the checkout, with a + if changed since
    machine: Machine
    libraries: dict[str, str]  # versions
    preset: str
    trained: bool
    bundles: dict[str, str]  # sha256 of each manifest, by precision
    clips: tuple[str, ...]
    engines: tuple[CaseTime, ...]
    updates: tuple[UpdateTime, ...]
    clip_times: tuple[ClipTime, ...]
    not_run: dict[str, str]  # why, by part


def markdown(result: GpuResult) -> str:
    """Format the tables; times are in milliseconds."""
    blocks = ["\n".join(_summary(result)), *_engine_table(result.engines)]
    if result.updates:
        blocks += _update_table(result.updates)
    if result.clip_times:
        blocks += _clip_table(result.clip_times)
    if result.not_run:
        parts: dict[str, list[str]] = {}
        for part, why in result.not_run.items():
            parts.setdefault(why, []).append(part)
        listed = "; ".join(f"{', '.join(of)} ({why})" for why, of in parts.items())
        blocks.append(f"Did not run: {listed}.")
    return document(*blocks)


def _summary(result: GpuResult) -> Iterator[str]:
    machine = result.machine
    gpus = list(map(str, machine.gpus)) or ["no GPU"]
    yield f"`{result.command}`" + (f", commit {result.commit}" if result.commit else "") + "."
    yield f"Machine: {'; '.join(gpus)}; {machine.cpu}, {machine.cores} cores; {machine.system}."
    versions = {**machine.versions, **result.libraries}
    yield f"Versions: {', '.join(f'{name} {of}' for name, of in versions.items())}."
    weights = "trained" if result.trained else "random weights: the times are real, the scores not"
    hashes = ", ".join(f"{precision} {sha[:12]}" for precision, sha in result.bundles.items())
    yield f"Model: {result.preset}, {weights}; bundles {hashes}. Clips: {', '.join(result.clips)}."
    if machine.gpus:
        yield "fp32 is not TF32 on the GPU, for PyTorch as for the CUDA provider and TensorRT."


def _engine_table(cases: Sequence[CaseTime]) -> tuple[str, str]:
    caption = (
        "Engines, ms a call: with arrays on the device, until it is done; then from the host's "
        "memory and back. A precision is the whole bundle's. Differences are from PyTorch fp32 on "
        "the CPU."
    )
    headings = (
        "engine | batch | backend | precision | p50 | p90 | p99 | mean "
        "| with copies p50 | p99 | max-abs | cosine | "
    )
    rows = [
        (
            *(one.case, one.batch, one.backend, one.precision),
            *_latency(one.device),
            *map(milliseconds, (one.whole.p50_s, one.whole.p99_s)),
            *(f"{one.max_abs:.2g}", f"{one.cosine:.7f}", _note(one)),
        )
        for one in cases
    ]
    return caption, markdown_table(headings, rows, align="llll" + "r" * 8 + "l")


def _note(one: CaseTime) -> str:
    if one.cosine >= SAME:
        return one.note
    return "; ".join(filter(None, [one.note, "wrong, or made from other weights"]))


def _update_table(updates: Sequence[UpdateTime]) -> tuple[str, str]:
    caption = (
        f"A window's update, ms: {updates[0].faces} new faces, the others' embeddings kept, a "
        f"window full of speech, both arms and the fusion; target {TARGET_S * 1000:g} ms at p99. "
        "`live`: the same in a session, with face detection and VAD."
    )
    headings = (
        "precision | device | p50 | p90 | p99 | mean | on target | of p50: device | host "
        "| live p50 | p99 | GPU memory MB"
    )
    rows = [
        (
            *(one.precision, one.device, *_latency(one.window)),
            "yes" if one.window.p99_s <= TARGET_S else "no",
            *_device_and_host(one.window.p50_s, one.device_s),
            *map(milliseconds, (one.live.p50_s, one.live.p99_s)),
            "-" if one.gpu_bytes is None else f"{one.gpu_bytes / 1e6:.0f}",
        )
        for one in updates
    ]
    return caption, markdown_table(headings, rows, align="llrrrrlrrrrr")


def _clip_table(clips: Sequence[ClipTime]) -> tuple[str, str]:
    caption = "Clips from file to readings, ms; decoding runs beside the rest, on the host."
    headings = (
        "clip | s | precision | device | p50 | p90 | p99 | mean | real-time factor "
        "| decoding | of p50 | of p50: device | host"
    )
    rows = [
        (
            *(one.clip, f"{one.duration_s:.2f}", one.precision, one.device),
            *_latency(one.total),
            f"{one.total.p50_s / one.duration_s:.4f}",
            milliseconds(one.decode_s),
            f"{one.decode_s / one.total.p50_s:.0%}",
            *_device_and_host(one.total.p50_s, one.device_s),
        )
        for one in clips
    ]
    return caption, markdown_table(headings, rows, align="lrll" + "r" * 9)


def _latency(stats: LatencyStats | None) -> tuple[str, ...]:
    if stats is None:
        return ("-",) * 4
    return tuple(map(milliseconds, (stats.p50_s, stats.p90_s, stats.p99_s, stats.mean_s)))


def _device_and_host(whole_s: float, device_s: float | None) -> tuple[str, str]:
    host_s = None if device_s is None else max(0.0, whole_s - device_s)
    return milliseconds(device_s), milliseconds(host_s)


def to_json(result: GpuResult) -> str:
    """Format the result as JSON, without the single runs."""

    def plain(value: Any) -> Any:
        if isinstance(value, LatencyStats):
            return {
                f.name: getattr(value, f.name) for f in fields(LatencyStats) if f.name != "runs_s"
            }
        if isinstance(value, tuple):
            return [plain(one) for one in value]
        if isinstance(value, (CaseTime, UpdateTime, ClipTime, GpuResult)):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return asdict(value) if isinstance(value, Machine) else value

    return json.dumps({"schema": SCHEMA, **plain(result)}, indent=1) + "\n"
