"""One model at several precisions, numbers of threads and batches: which of them pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mfer_edge.bench.stats import LatencyStats, RunBudget, speedup, timed
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.manifest import ENGINES
from mfer_edge.model import load_engines
from mfer_edge.pipeline import Pipeline

BATCHES = (1, 5, 20)  # faces in one call: one, a second's, a window's
ROUNDS = 2  # through all configurations, so that a drift of the machine meets each of them
SWEEP_BUDGET = RunBudget(most=30, limit_s=1.5)  # for each configuration in a round
WHOLE = "end to end"


@dataclass(frozen=True)
class Setting:
    """What is run, and how."""

    bundle: str  # its folder as it was named, or the name of the package's own
    precision: str
    threads: int
    network: str  # or WHOLE, for the clip from beginning to end
    batch: int  # faces in a call; of other networks 1, whatever they take


@dataclass(frozen=True)
class SweepResult:
    """How long it took."""

    setting: Setting
    times: LatencyStats  # for one face of a batch; else for a call, or the clip


class Recorded:
    """A network that keeps what it was last given."""

    def __init__(self, network: Engine) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._network = network

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network."""
        self.arrays = arrays
        return self._network(**arrays)


def sweep(
    bundles: Sequence[Path | None],
    device: str,
    clip: Path,
    threads: Sequence[int],
    effort: RunBudget = SWEEP_BUDGET,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[SweepResult, ...]:
    """Time every network and the whole clip in every configuration.

    Each network is timed on what it was given last in the clip itself.

    Args:
        bundles: what to compare the first with; None is the one in the package.
        device: where the large networks run: `cpu`, `cuda` or `tensorrt`.
        threads: CPU threads to try.
        effort: for each configuration, in each of `ROUNDS`.
        tell: called with a line before each step.

    Raises:
        MferError: a bundle, the device or the clip can't be used.
    """
    opened = [(bundle, Bundle.open(bundle)) for bundle in bundles]
    found: dict[Setting, list[float]] = {}
    for number in range(ROUNDS):
        for path, bundle in opened:
            name = bundle.manifest.name if path is None else str(path)
            for count in threads:
                tell(f"round {number + 1} of {ROUNDS}: {name}, {threads_text(count)}")
                networks = load_engines(bundle, device, count)
                for network, batch, work in _work(bundle, networks, clip):
                    calls_s = timed(work, effort)
                    setting = Setting(name, bundle.manifest.precision, count, network, batch)
                    found.setdefault(setting, []).extend(call_s / batch for call_s in calls_s)
    return tuple(SweepResult(setting, LatencyStats.of(runs_s)) for setting, runs_s in found.items())


def _work(
    bundle: Bundle, networks: Mapping[str, Engine], clip: Path
) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Give what is to be timed: the network's name, its batch, a call."""
    recorded = {name: Recorded(network) for name, network in networks.items()}
    Pipeline(bundle, recorded).analyze(clip)
    for name in ENGINES:
        arrays = recorded[name].arrays
        if name == "face" and arrays:
            faces = arrays["faces"]
            for batch in BATCHES:
                shaped = np.resize(faces, (batch, *faces.shape[1:]))
                yield name, batch, partial(networks[name], faces=shaped)
        elif arrays:  # else the clip has nothing for it
            yield name, 1, partial(networks[name], **arrays)
    yield WHOLE, 1, partial(Pipeline(bundle, networks).analyze, clip)


def verdicts(cells: Sequence[SweepResult]) -> tuple[str, ...]:
    """Say in words what pays: precision, threads, batch; from the numbers alone."""
    if not cells:
        return ()
    times = {cell.setting: cell.times for cell in cells}
    whole = [setting for setting in times if setting.network == WHOLE]
    most = max(setting.threads for setting in whole)
    base, *others = [setting for setting in whole if setting.threads == most]
    said = []
    for other in others:
        said.append(
            f"{other.precision} ({other.bundle}) against {base.precision} ({base.bundle}), "
            f"{threads_text(most)}: {_pays(times[base], times[other], 'end to end')}"
        )
    one, *more = [setting for setting in whole if setting.bundle == base.bundle]
    for other in more:
        said.append(
            f"{threads_text(other.threads)} against {one.threads}: "
            f"{_pays(times[one], times[other], 'end to end')}"
        )
    faces = [
        setting
        for setting in times
        if (setting.bundle, setting.threads, setting.network) == (base.bundle, most, "face")
    ]
    for other in faces[1:]:
        said.append(
            f"{other.batch} faces in a call against {faces[0].batch}: "
            f"{_pays(times[faces[0]], times[other], 'for each face')}"
        )
    return tuple(said)


def _pays(before: LatencyStats, after: LatencyStats, what: str) -> str:
    found = speedup(before, after)
    if found is None:
        return "too few runs to tell"
    speed = f"{found.ratio:.2f}x as fast {what}"
    if found.verdict == "same":
        return f"not worth it here ({speed}, within noise)"
    return f"{'worth it' if found.verdict == 'faster' else 'a loss here'} ({speed})"


def threads_text(count: int) -> str:
    """Name a number of threads."""
    return "1 thread" if count == 1 else f"{count} threads"
