"""Latency of process starts, of clips, and of the readings of a live session."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import mfer_edge
from mfer_edge.bench.stats import WARM_UP, LatencyStats, RunBudget, timed
from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis, Reading
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.replay import Replay
from mfer_edge.stopwatch import STAGES, Stopwatch

CLIPS_PER_WORKER = 2  # in a round
INSTALL_FOLDER = Path(mfer_edge.__file__).parents[1]

# The steps of `mfer-edge infer`, timed. Times are since the epoch: no other clock is the same in
# two processes on every system.
START_SCRIPT = """
import sys, time
import mfer_edge.cli.infer
from mfer_edge.pipeline import Pipeline
imported = time.time()
pipeline = Pipeline.open(sys.argv[1] or None, sys.argv[2], int(sys.argv[3]))
loaded = time.time()
pipeline.analyze(sys.argv[4])
done = time.time()
from mfer_edge.bench.machine import peak_memory
print(imported, loaded, done, peak_memory() or 0)
"""


class CallStopwatch(Stopwatch):
    """Stopwatch that also keeps the time of every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_s: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        before_s = self.stages_s[stage]
        with super().__call__(stage):
            yield
        self.calls_s[stage].append(self.stages_s[stage] - before_s)


def compiled_environment() -> dict[str, str]:
    """This process's environment, in which Python keeps compiled modules, as of what is installed.

    Without them a start compiles this package anew, which takes a tenth of it.
    """
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def time_starts(
    bundle: Path | None, device: str, threads: int, clip: Path, starts: int
) -> tuple[dict[str, LatencyStats], int | None]:
    """Time new processes that analyze a clip, with the files in the system's cache.

    Returns:
        `start.import`, from the start of the process until the imports are done; `start.load`, from
        there until the bundle is loaded; `start.first`, the first clip; `start.total`. Then the
        peak memory of the processes in bytes.

    Raises:
        MferError: a process failed.
    """
    arguments = [str(bundle or ""), device, str(threads), str(clip)]
    paths = [str(INSTALL_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = compiled_environment() | {"PYTHONPATH": os.pathsep.join(paths)}
    runs_s = []
    peaks = []
    for _ in range(starts):
        start_s = time.time()
        done = subprocess.run(
            [sys.executable, "-c", START_SCRIPT, *arguments],
            capture_output=True,
            text=True,
            env=environment,
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
            raise MferError(f"{clip}: a new process could not analyze it: {reason}")
        imported_s, loaded_s, done_s, peak = map(float, done.stdout.split())
        runs_s.append(
            (imported_s - start_s, loaded_s - imported_s, done_s - loaded_s, done_s - start_s)
        )
        peaks.append(int(peak))
    names = ("start.import", "start.load", "start.first", "start.total")
    times = {
        name: LatencyStats.of(of) for name, of in zip(names, zip(*runs_s, strict=True), strict=True)
    }
    return times, max(peaks) or None


def time_clip(pipeline: Pipeline, clip: Path, budget: RunBudget) -> dict[str, LatencyStats]:
    """Time the analysis of a clip: `clip.total`, and `clip.STAGE` for the stages that ran.

    Raises:
        MediaError: the clip can't be read.
    """
    analyses: list[Analysis] = []
    runs_s = timed(lambda: analyses.append(pipeline.analyze(clip)), budget)
    with Clip(clip) as opened:
        ran = stages_run(analyses[0].windows, opened.has_audio)
    times = {
        f"clip.{stage}": LatencyStats.of([one.timing.stages_s[stage] for one in analyses[WARM_UP:]])
        for stage in STAGES
        if stage in ran or stage == "decode"
    }
    return times | {"clip.total": LatencyStats.of(runs_s)}


def stages_run(readings: Sequence[Reading], has_audio: bool) -> set[str]:
    """Stages after decoding that had input."""
    ran = {
        "vad": has_audio,
        "detect": any(reading.frames for reading in readings),
        "visual": any(reading.visual for reading in readings),
        "audio": any(reading.audio for reading in readings),
        "fusion": any(len(reading.modalities) == 2 for reading in readings),
    }
    return {stage for stage, did in ran.items() if did}


def time_updates(pipeline: Pipeline, footage: Replay, budget: RunBudget) -> dict[str, LatencyStats]:
    """Time the readings of a live session that is fed as fast as it goes.

    The first reading does not count: it embeds the faces of a whole window.

    Returns:
        `call.update`: from pushing the last item that a reading needs until the reading is ready.
        If that item is a frame, its faces are detected too. `call.STAGE`: one call of each stage
        that ran, on a frame (`detect`) or on a window (the others).

    Raises:
        EngineError: an engine failed.
    """
    session = pipeline.session(has_video=footage.has_video, has_audio=footage.has_audio)
    items = iter(footage.endless())
    readings: list[Reading] = []

    def next_update() -> float:
        """Push until there is a reading: seconds of the last push."""
        while True:
            item = next(items)
            start_s = time.perf_counter()
            session.push(item)
            ready = session.readings()
            if ready:
                readings.extend(ready)
                return time.perf_counter() - start_s

    for _ in range(WARM_UP):
        next_update()
    session.stopwatch = stopwatch = CallStopwatch()
    updates_s = [next_update() for _ in budget.rounds()]
    ran = stages_run(readings, footage.has_audio)
    times = {
        f"call.{stage}": LatencyStats.of(stopwatch.calls_s[stage])
        for stage in STAGES
        if stage in ran
    }
    return times | {"call.update": LatencyStats.of(updates_s)}


def time_offline(
    pipeline: Pipeline, clip: Path, workers: int, budget: RunBudget
) -> dict[str, LatencyStats]:
    """Time the analysis of many copies of a clip on several workers.

    Args:
        pipeline: whose engines use one thread each.

    Returns:
        `offline.clip`: time of a round of `CLIPS_PER_WORKER` clips per worker, divided by the
        number of clips.

    Raises:
        MediaError: the clip can't be read.
    """
    clips = [clip] * (CLIPS_PER_WORKER * workers)
    with ThreadPoolExecutor(workers) as pool:
        rounds_s = timed(lambda: list(pool.map(pipeline.analyze, clips)), budget)
    return {"offline.clip": LatencyStats.of([round_s / len(clips) for round_s in rounds_s])}
