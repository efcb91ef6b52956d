"""Scenarios of `mfer-edge bench`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from mfer_edge.bench.latency import (
    INSTALL_FOLDER,
    time_clip,
    time_offline,
    time_starts,
    time_updates,
)
from mfer_edge.bench.machine import cpu_usage, describe_machine, peak_memory
from mfer_edge.bench.nvml import nvidia_gpus
from mfer_edge.bench.result import AlgorithmicLatency, BenchResult, MeasuredBundle, MeasuredClip
from mfer_edge.bench.sensors import SensorStats, sampled, sensors
from mfer_edge.bench.stats import NOISE, LatencyStats, RunBudget
from mfer_edge.bench.streams import Trial, most_streams, try_streams
from mfer_edge.bench.sweep import SWEEP_BUDGET, SweepResult, sweep, verdicts
from mfer_edge.bundle import Bundle, file_sha256
from mfer_edge.cpu import usable_threads
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.live.pool import SessionPool, default_processes
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis
from mfer_edge.samples import ANGER
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.replay import Replay
from mfer_edge.speech.vad import CHUNK, SAMPLE_RATE

STARTS = 5  # new processes
PARALLEL = ("offline", "streams")  # scenarios of which each thread computes another clip or session
MAIN_LATENCIES = ("clip.total", "call.update", "offline.clip")
ATTEMPTS = 3  # at a quiet measurement


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        bundles: folders; by default the compact bundle in the package. All but the first are for
            the scenario `sweep`.
        device: of the large engines: `auto`, `cpu`, `cuda` or `tensorrt`.
        clip: by default a sample in the package.
        scenario: `single`, one clip at a time and one live session, as fast as they go; `streams`,
            the number of live sessions that keep up in real time, in as many processes as
            `mfer-edge serve` takes; `offline`, clips on as many workers as there are threads;
            `sweep`, precisions, threads and batch sizes.
        runs: of each timing; by default as `RunBudget` and `SWEEP_BUDGET` say.
        threads: CPU threads; 0 for all cores that this process may use.
        streams: the only number to try in the scenario `streams`; by default it is searched for.
        attempts: at most so many measurements, until one is quiet; by default `ATTEMPTS`, and one
            if `runs` is given.
    """

    bundles: tuple[Path, ...] = ()
    device: str = "auto"
    clip: Path | None = None
    scenario: str = "single"
    runs: int | None = None
    threads: int = 0
    streams: int | None = None
    attempts: int | None = None


@dataclass(frozen=True)
class Setup:
    """Everything that a scenario needs, loaded."""

    options: BenchOptions
    pipeline: Pipeline
    clip: Path
    threads: int
    print_step: Callable[[str], None]

    @property
    def budget(self) -> RunBudget:
        """Number of runs of each timing."""
        runs = self.options.runs
        return RunBudget() if runs is None else RunBudget(runs, runs)

    def footage(self) -> Replay:
        """Decoded beginning of the clip."""
        return Replay.read(self.clip, self.pipeline.bundle.manifest.frame_rate)


@dataclass(frozen=True)
class Measurements:
    """What a scenario measured."""

    times: Mapping[str, LatencyStats] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    cells: tuple[SweepResult, ...] = ()
    memory_bytes: int | None = None

    @property
    def unsteady(self) -> Mapping[str, float]:
        """Main latencies whose first and second half of the runs are apart, and how far."""
        return {
            name: of.steadiness
            for name, of in self.times.items()
            if name in MAIN_LATENCIES and (of.steadiness or 0) > NOISE and of.steadiness
        }


@dataclass(frozen=True)
class Attempt:
    """One measurement, and what the machine did meanwhile."""

    found: Measurements
    others: float | None  # share of all cores that other processes used; None: unknown
    sensors: tuple[SensorStats, ...]

    @property
    def noise(self) -> float:
        """How much of this is not ours: 0 to 1, at most `NOISE` for a quiet measurement."""
        return max(self.others or 0.0, *self.found.unsteady.values(), 0.0)


def measure(
    options: BenchOptions, print_step: Callable[[str], None] = lambda line: None
) -> BenchResult:
    """Run a benchmark.

    Args:
        print_step: called with a line before each step.

    Raises:
        MferError: a bundle, the device or the clip can't be used.
    """
    clip = options.clip or ANGER
    threads = usable_threads(options.threads)
    gpu_bytes_before = _gpu_memory()
    pipeline = Pipeline.open(
        options.bundles[0] if options.bundles else None,
        options.device,
        1 if options.scenario in PARALLEL else options.threads,
    )
    analysis = pipeline.analyze(clip)
    attempts = measure_quietly(Setup(options, pipeline, clip, threads, print_step))
    best, gpu_bytes = min(attempts, key=lambda attempt: attempt.noise), _gpu_memory()
    found = best.found
    return BenchResult(
        scenario=options.scenario,
        bundle=_measured_bundle(pipeline.bundle),
        clip=_measured_clip(clip, analysis),
        machine=describe_machine(),
        device=pipeline.device,
        providers=pipeline.providers,
        threads=threads,
        commit=checked_out_commit(),
        waits=algorithmic_latency(pipeline),
        times=found.times,
        trials=found.trials,
        cells=found.cells,
        verdicts=verdicts(found.cells),
        memory_bytes=found.memory_bytes or peak_memory(),
        gpu_bytes=gpu_bytes - gpu_bytes_before if pipeline.device != "cpu" else None,
        others=best.others,
        gauges=best.sensors,
        warnings=_warnings(pipeline, best, len(attempts)),
    )


def measure_quietly(setup: Setup) -> list[Attempt]:
    """Measure until the machine is quiet meanwhile, or until the attempts are used up."""
    options = setup.options
    most = options.attempts or (ATTEMPTS if options.runs is None else 1)
    attempts: list[Attempt] = []
    while len(attempts) < most:
        if attempts:
            noise = attempts[-1].noise
            again = f"attempt {len(attempts) + 1} of at most {most}"
            setup.print_step(f"the machine was busy or unsteady ({noise:.0%}): again, {again}")
        before = cpu_usage()
        with sampled(sensors()) as sensor_stats:
            found = SCENARIOS[options.scenario](setup)
        after = cpu_usage()
        others = after.others_since(before) if after and before else None
        attempts.append(Attempt(found, others, tuple(sensor_stats)))
        if attempts[-1].noise <= NOISE:
            break
    return attempts


def _single(setup: Setup) -> Measurements:
    options, pipeline, budget = setup.options, setup.pipeline, setup.budget
    starts = min(budget.min_runs, STARTS)
    setup.print_step(f"{starts} starts, each in a process of its own")
    bundle = options.bundles[0] if options.bundles else None
    times, memory_bytes = time_starts(bundle, options.device, setup.threads, setup.clip, starts)
    setup.print_step(f"the clip, {budget}")
    times |= time_clip(pipeline, setup.clip, budget)
    setup.print_step(f"updates of a live session, {budget}")
    times |= time_updates(pipeline, setup.footage(), budget)
    return Measurements(times, memory_bytes=memory_bytes)


def _streams(setup: Setup) -> Measurements:
    options, pipeline, footage = setup.options, setup.pipeline, setup.footage()
    processes = default_processes(pipeline.bundle, pipeline.device, setup.threads)
    where = f", in {processes} processes" if processes else ""
    bundle = options.bundles[0] if options.bundles else None
    worker = WorkerSetup(bundle, options.device)
    pool = SessionPool.of(worker, processes, setup.threads) if processes else None
    at_once = None if pool else setup.threads

    def attempt(count: int) -> Trial:
        setup.print_step(f"{count} live stream{'s' * (count != 1)} in real time{where}")
        return try_streams(pool or pipeline, pipeline.options(), footage, count, at_once)

    with pool or nullcontext():
        if options.streams is not None:
            trials = [attempt(options.streams)]
        else:
            update = time_updates(pipeline, footage, RunBudget(5, 5))["call.update"]
            # First guess: the frames between two updates take about twice as long as the update.
            trials = most_streams(attempt, int(pipeline.options().hop_s / (3 * update.p50_s)))
        memory_bytes = pool.resident_bytes + (peak_memory() or 0) if pool else None
    return Measurements(trials=tuple(trials), memory_bytes=memory_bytes)


def _offline(setup: Setup) -> Measurements:
    setup.print_step(f"clips on {setup.threads} workers, {setup.budget}")
    return Measurements(time_offline(setup.pipeline, setup.clip, setup.threads, setup.budget))


def _sweep(setup: Setup) -> Measurements:
    options = setup.options
    cells = sweep(
        options.bundles or (None,),
        setup.pipeline.device,
        setup.clip,
        thread_counts(setup.threads),
        SWEEP_BUDGET if options.runs is None else setup.budget,
        setup.print_step,
    )
    return Measurements(cells=cells)


SCENARIOS: Mapping[str, Callable[[Setup], Measurements]] = {
    "single": _single,
    "streams": _streams,
    "offline": _offline,
    "sweep": _sweep,
}


def thread_counts(threads: int) -> list[int]:
    """Numbers of threads that a sweep tries: powers of two, and all."""
    return sorted({*(1 << power for power in range(threads.bit_length())), threads})


def algorithmic_latency(pipeline: Pipeline) -> AlgorithmicLatency:
    """Delays of a live reading with the default options of a bundle."""
    options, manifest = pipeline.options(), pipeline.bundle.manifest
    return AlgorithmicLatency(
        window_s=options.window_s,
        hop_s=options.hop_s,
        first_s=options.window_s + options.hop_s / 2,
        picture_s=1 / manifest.frame_rate,
        vad_chunk_s=CHUNK / SAMPLE_RATE,
    )


def checked_out_commit() -> str | None:
    """Commit of the checkout that this code is in, with a + for uncommitted changes."""
    if not (INSTALL_FOLDER / ".git").exists():
        return None
    command = ["git", "-C", str(INSTALL_FOLDER), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() or None


def _measured_bundle(bundle: Bundle) -> MeasuredBundle:
    manifest = bundle.manifest
    return MeasuredBundle(
        manifest.name, manifest.precision, manifest.shares, manifest.trained, bundle.sha256
    )


def _measured_clip(path: Path, analysis: Analysis) -> MeasuredClip:
    with Clip(path) as clip:
        video, audio = clip.video, clip.audio
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
    """Memory in use on all GPUs in bytes; 0 if unknown."""
    return sum(gpu.used_bytes or 0 for gpu in nvidia_gpus())


def _warnings(pipeline: Pipeline, best: Attempt, attempts: int) -> tuple[str, ...]:
    warnings = list(pipeline.notes)
    quietest = f" (the quietest of {attempts} attempts)" if attempts > 1 else ""
    if best.others is not None and best.others > NOISE:
        share = f"{best.others:.0%} of this machine's cores"
        warnings.append(f"other processes kept {share} busy meanwhile{quietest}")
    for name, apart in best.found.unsteady.items():
        warnings.append(
            f"{name}: the first half of the runs and the second are {apart:.0%} apart: "
            f"the machine is busy, or its clock changes{quietest}"
        )
    if not pipeline.bundle.manifest.trained:
        warnings.append("the bundle's weights are random: its times are real, its scores are not")
    return tuple(warnings)
