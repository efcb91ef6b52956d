"""How long everything takes on this machine: start, each stage, each update of a live session."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from mfer_edge.bench.latency import HOME, time_clip, time_offline, time_starts, time_updates
from mfer_edge.bench.machine import (
    Gauge,
    Machine,
    describe_machine,
    peak_memory,
    sensors,
    spent,
    watching,
)
from mfer_edge.bench.nvml import nvidia_gpus
from mfer_edge.bench.stats import NOISE, LatencyStats, RunBudget
from mfer_edge.bench.streams import Trial, most_streams, try_streams
from mfer_edge.bench.sweep import SWEEP_BUDGET, SweepResult, sweep, verdicts
from mfer_edge.bundle import Bundle, file_sha256
from mfer_edge.cpu import core_count
from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis
from mfer_edge.sources.replay import Replay
from mfer_edge.speech.vad import CHUNK, SAMPLE_RATE

SCENARIOS = ("single", "streams", "offline", "sweep")
STARTS = 5  # fresh processes
SAMPLE = HOME / "samples" / "anger.mp4"  # there in a checkout, not in an installed package


@dataclass(frozen=True)
class MeasuredBundle:
    """Which model was measured."""

    name: str
    precision: str
    shares: Mapping[str, float]  # of the work, by type
    trained: bool
    sha256: str  # of its manifest


@dataclass(frozen=True)
class MeasuredClip:
    """Which clip it was measured on."""

    name: str
    sha256: str
    bytes: int
    duration_s: float
    video: str | None  # codec
    width: int  # pixels; 0 without video
    height: int
    audio: str | None  # codec


@dataclass(frozen=True)
class Waits:
    """What a live reading waits for, however fast the machine is."""

    window_s: float  # a reading looks back so far
    hop_s: float  # a new one comes so often
    first_s: float  # the first is there so long after the start
    picture_s: float  # from one picture looked at to the next
    vad_chunk_s: float  # speech is told in steps of this; the rest is heard by the next window


@dataclass(frozen=True)
class Bench:
    """What was measured, where, and with what."""

    scenario: str  # one of SCENARIOS
    bundle: MeasuredBundle
    clip: MeasuredClip
    machine: Machine
    device: str
    providers: tuple[str, ...]
    threads: int  # in one network, at most; in the scenario `offline`: workers, of one thread each
    commit: str | None  # of mfer-edge, if it runs from a checkout; with a + if changed since
    waits: Waits
    times: Mapping[str, LatencyStats]
    """By what was done. `start.*`: in a fresh process. `clip.STAGE`: the sum over one pass through
    the clip; `clip.total`: the pass. `call.STAGE`: one call, of `detect` for a picture, of the
    others for a window. `call.update`: from pushing the last sample that a window needs into a
    live session to its reading. `offline.clip`: a clip's share of the time when all workers are
    busy. What never ran is not there."""
    trials: tuple[Trial, ...]  # of the scenario `streams`
    cells: tuple[SweepResult, ...]  # of the scenario `sweep`
    verdicts: tuple[str, ...]  # what they say
    memory_bytes: int | None
    """Peak of a process: that reads the clip once, in the scenario `single`; else of this one."""
    gpu_bytes: int | None  # by which the use of the GPUs' memory grew, by whomever
    others: float | None  # share of the machine's cores that other processes kept busy meanwhile
    gauges: tuple[Gauge, ...]
    warnings: tuple[str, ...]

    @property
    def streams(self) -> int:
        """The most live streams that held."""
        return max((trial.streams for trial in self.trials if trial.holds), default=0)


def bench(
    bundles: Sequence[Path] = (),
    device: str = "auto",
    clip: Path | None = None,
    scenario: str = "single",
    runs: int | None = None,
    threads: int = 0,
    streams: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Bench:
    """Measure on this machine.

    Args:
        bundles: folders of bundles; by default the compact one in the package. All but the first
            are for the scenario `sweep`.
        device: where the large networks run: `auto`, `cpu`, `cuda` or `tensorrt`.
        clip: what to measure on; by default a sample of the checkout's.
        scenario: `single`, one clip at a time and one live session, each as fast as it goes;
            `streams`, how many live sessions keep up in real time; `offline`, clips back to back
            on as many workers as there are threads; `sweep`, precisions, threads and batches.
        runs: how often to time each piece of work; by default as `RunBudget` and
            `sweep.SWEEP_BUDGET` say.
        threads: CPU threads; 0 takes all cores that this process may use.
        streams: try so many only, in the scenario `streams`.
        tell: called with a line before each step.

    Raises:
        MferError: a bundle, the device or the clip can't be used.
    """
    clip = _clip(clip)
    bundle = bundles[0] if bundles else None
    threads = threads or core_count()
    effort, swept = (RunBudget(), SWEEP_BUDGET) if runs is None else (RunBudget(runs, runs),) * 2
    used_before = _gpu_memory()
    pipeline = Pipeline.open(bundle, device, 1 if scenario == "offline" else threads)
    analysis = pipeline.analyze(clip)
    times: dict[str, LatencyStats] = {}
    trials: list[Trial] = []
    cells: tuple[SweepResult, ...] = ()
    memory_bytes = None
    spent_before = spent()
    with watching(sensors()) as gauges:
        if scenario == "single":
            starts = min(effort.least, STARTS)
            tell(f"{starts} starts, each in a process of its own")
            times, memory_bytes = time_starts(bundle, device, threads, clip, starts)
            tell(f"the clip, {effort}")
            times |= time_clip(pipeline, clip, effort)
            tell(f"updates of a live session, {effort}")
            footage = Replay.read(clip, pipeline.bundle.manifest.frame_rate)
            times |= time_updates(pipeline, footage, effort)
        elif scenario == "streams":
            footage = Replay.read(clip, pipeline.bundle.manifest.frame_rate)
            trials = _try_streams(pipeline, footage, streams, tell)
        elif scenario == "offline":
            tell(f"clips on {threads} workers, {effort}")
            times = time_offline(pipeline, clip, threads, effort)
        else:
            counts = _counts(threads)
            cells = sweep(bundles or (None,), pipeline.device, clip, counts, swept, tell)
    spent_after, used_after = spent(), _gpu_memory()
    others = None
    if spent_before is not None and spent_after is not None:
        others = spent_after.others_since(spent_before)
    return Bench(
        scenario=scenario,
        bundle=_measured_bundle(pipeline.bundle),
        clip=_measured_clip(clip, analysis),
        machine=describe_machine(),
        device=pipeline.device,
        providers=pipeline.providers,
        threads=threads,
        commit=checked_out_commit(),
        waits=_waits(pipeline),
        times=times,
        trials=tuple(trials),
        cells=cells,
        verdicts=verdicts(cells),
        memory_bytes=memory_bytes or peak_memory(),
        gpu_bytes=used_after - used_before if pipeline.device != "cpu" else None,
        others=others,
        gauges=tuple(gauges),
        warnings=_warnings(pipeline, times, others),
    )


def _clip(clip: Path | None) -> Path:
    if clip is not None:
        return clip
    if not SAMPLE.is_file():
        raise MferError(
            "no clip to measure on: name one with --clip, best a video of a face that speaks "
            "(samples/ in the project's repository holds some)"
        )
    return SAMPLE


def _try_streams(
    pipeline: Pipeline, footage: Replay, streams: int | None, tell: Callable[[str], None]
) -> list[Trial]:
    def attempt(count: int) -> Trial:
        tell(f"{count} live stream{'s' * (count != 1)} in real time")
        return try_streams(pipeline, footage, count)

    if streams is not None:
        return [attempt(streams)]
    update = time_updates(pipeline, footage, RunBudget(5, 5))["call.update"]
    # A first guess: one update at a time, each with a share of pictures to look at before it.
    return most_streams(attempt, int(pipeline.options().hop_s / (3 * update.p50_s)))


def _counts(threads: int) -> list[int]:
    """Numbers of threads to try: powers of two, and all."""
    return sorted({*(1 << power for power in range(threads.bit_length())), threads})


def _waits(pipeline: Pipeline) -> Waits:
    windows, manifest = pipeline.options(), pipeline.bundle.manifest
    return Waits(
        window_s=windows.window_s,
        hop_s=windows.hop_s,
        first_s=windows.window_s + windows.hop_s / 2,
        picture_s=1 / manifest.frame_rate,
        vad_chunk_s=CHUNK / SAMPLE_RATE,
    )


def _measured_bundle(bundle: Bundle) -> MeasuredBundle:
    manifest = bundle.manifest
    return MeasuredBundle(
        manifest.name, manifest.precision, manifest.shares, manifest.trained, bundle.sha256
    )


def _measured_clip(path: Path, analysis: Analysis) -> MeasuredClip:
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        video = container.streams.best("video")
        audio = container.streams.best("audio")
        return MeasuredClip(
            name=os.fsencode(path.name).decode(errors="replace"),  # as in `Analysis.source`
            sha256=file_sha256(path),
            bytes=path.stat().st_size,
            duration_s=analysis.duration_s,
            video=video.codec_context.name if video else None,
            width=video.codec_context.width if video else 0,
            height=video.codec_context.height if video else 0,
            audio=audio.codec_context.name if audio else None,
        )


def _gpu_memory() -> int:
    """Memory in use on all GPUs; 0 where the driver does not tell."""
    return sum(gpu.used_bytes or 0 for gpu in nvidia_gpus())


def checked_out_commit() -> str | None:
    """Name the commit of the checkout that this code is in, with a + if it was changed since."""
    if not (HOME / ".git").exists():
        return None
    command = ["git", "-C", str(HOME), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # no git
        return None
    return done.stdout.strip() or None


def _warnings(
    pipeline: Pipeline, times: Mapping[str, LatencyStats], others: float | None
) -> tuple[str, ...]:
    warnings = list(pipeline.notes)
    if others is not None and others > NOISE:
        warnings.append(f"other processes kept {others:.0%} of this machine's cores busy meanwhile")
    for name, of in times.items():
        if name in ("clip.total", "call.update", "offline.clip") and (of.steadiness or 0) > NOISE:
            warnings.append(
                f"{name}: the first half of the runs and the second are {of.steadiness:.0%} apart: "
                "the machine is busy, or its clock changes"
            )
    if not pipeline.bundle.manifest.trained:
        warnings.append("the bundle's weights are random: its times are real, its scores are not")
    return tuple(warnings)
