"""Result of a benchmark, and its JSON. The fields are the JSON's, schema 1: add, don't rename."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mfer_edge.bench.machine import Machine
from mfer_edge.bench.sensors import SensorStats
from mfer_edge.bench.stats import LatencyStats
from mfer_edge.bench.streams import Trial
from mfer_edge.bench.sweep import SweepResult
from mfer_edge.errors import MferError
from mfer_edge.schema import read_as

SCHEMA = 1


@dataclass(frozen=True)
class MeasuredBundle:
    """Bundle of a benchmark."""

    name: str
    precision: str
    shares: Mapping[str, float]  # of the multiply-accumulates, by number format
    trained: bool
    sha256: str  # of the manifest


@dataclass(frozen=True)
class MeasuredClip:
    """Clip of a benchmark."""

    name: str
    sha256: str
    bytes: int
    duration_s: float
    video: str | None  # codec
    width: int  # pixels; 0 without video
    height: int
    audio: str | None  # codec


@dataclass(frozen=True)
class AlgorithmicLatency:
    """Delays of a live reading that do not depend on the speed of the machine."""

    window_s: float  # length of a window
    hop_s: float  # between readings
    first_s: float  # from the start of the stream to the first reading
    picture_s: float  # between frames
    vad_chunk_s: float  # step of the speech detector; a part of a step waits for the next window


@dataclass(frozen=True)
class BenchResult:
    """What was measured, on which machine, and with which software."""

    scenario: str  # one of `run.SCENARIOS`
    bundle: MeasuredBundle
    clip: MeasuredClip
    machine: Machine
    device: str
    providers: tuple[str, ...]
    threads: int  # of an engine, at most; in the scenario `offline`: workers with one thread each
    commit: str | None  # of mfer-edge in a checkout, with a + for uncommitted changes
    waits: AlgorithmicLatency
    times: Mapping[str, LatencyStats]
    """`start.*`: in a new process. `clip.STAGE`: sum over one analysis of the clip; `clip.total`:
    the analysis. `call.STAGE`: one call, of `detect` on a frame, of the others on a window.
    `call.update`: from pushing the last sample of a window into a live session to its reading.
    `offline.clip`: time per clip when all workers are busy. Stages that never ran are absent."""
    trials: tuple[Trial, ...]  # of the scenario `streams`
    cells: tuple[SweepResult, ...]  # of the scenario `sweep`
    verdicts: tuple[str, ...]  # on `cells`
    memory_bytes: int | None
    """Peak of a process: of one that analyzes the clip once in the scenario `single`, else of the
    process of the benchmark."""
    gpu_bytes: int | None  # growth of the GPU memory in use, by all processes
    others: float | None  # fraction of the cores that other processes used
    gauges: tuple[SensorStats, ...]
    warnings: tuple[str, ...]

    @property
    def streams(self) -> int:
        """Largest number of live streams that held."""
        return max((trial.streams for trial in self.trials if trial.holds), default=0)


def result_dict(result: BenchResult) -> dict[str, Any]:
    """Content of the JSON object."""
    return {"schema": SCHEMA, **asdict(result)}


def read_result(path: Path) -> BenchResult:
    """Read a JSON file of `mfer-edge bench`.

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
        result: BenchResult = read_as(BenchResult, data)
    except OSError as error:
        raise MferError(f"{path}: {error.strerror or error}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise MferError(f"{path}: not a result of mfer-edge bench: {error}") from error
    return result
