"""The context of one run of `mfer-edge train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.data.context import DataContext
from train.data.index import Entry
from train.options import StageContext
from train.presets import Preset


@dataclass(frozen=True)
class RunContext:
    """Index, features, folder and seed that all stages of a run share."""

    data: DataContext
    entries: Sequence[Entry]  # the index
    out: Path  # the run's folder: arms, model, predictions, and the state of every stage
    seed: int = 0
    tensorboard: bool = False
    save_state: bool = True  # of every stage, to resume from after a kill

    @property
    def preset(self) -> Preset:
        return self.data.preset

    @property
    def root(self) -> StageContext:
        """The context that the stages' own are made from."""
        folder = self.out if self.save_state else None
        return StageContext(folder, self.seed, tensorboard=self.tensorboard)

    def stage(self, name: str) -> StageContext:
        """The context of one stage, with its state in a folder below `out`."""
        return self.root.stage(name)
