"""Cross-validation: every stage is trained anew in each fold, and tested on unseen recordings."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from mfer_edge.cpu import core_count
from mfer_edge.outputs.files import make_folder, write_text
from train.crossval.clips import Clips
from train.crossval.fold_run import FoldRun
from train.crossval.options import CrossvalOptions
from train.data.corpus_folds import corpus_folds
from train.data.folds import Fold, folds
from train.errors import TrainError
from train.evaluate.predictions import RUN, Run, predictions_path
from train.models.arms import SequenceArm
from train.run import RunContext

PLAN = "plan.json"  # beside run.json: what may not change when a cross-validation is resumed
PACKAGES = ("mfer-edge", "torch", "numpy", "scikit-learn")


class CrossValidation:
    """A cross-validation in the run's folder; folds that are done are not run again.

    Args:
        clips: the recordings that are trained and tested on.
        first_stage: the audio arm after the first stage, to start from.
        command: the command line that repeats it.
    """

    def __init__(
        self,
        run: RunContext,
        clips: Clips,
        options: CrossvalOptions,
        *,
        first_stage: SequenceArm | None = None,
        command: str = "",
    ) -> None:
        self.run, self.clips, self.options = run, clips, options
        self.first_stage = first_stage
        self.command = command

    @functools.cached_property
    def folds(self) -> list[Fold]:
        """The folds to run.

        Raises:
            TrainError: there is no fold of a name in `only`.
            DatasetError: the recordings don't allow for the protocol.
        """
        every = self._every_fold()
        if unknown := set(self.options.only) - {fold.name for fold in every}:
            raise TrainError(
                f"no fold {min(unknown)}: there are {', '.join(fold.name for fold in every)}"
            )
        return [fold for fold in every if fold.name in self.options.only or not self.options.only]

    def _every_fold(self) -> list[Fold]:
        entries, options, seed = self.clips.entries, self.options, self.run.seed
        if options.protocol == "corpus":
            return corpus_folds(entries, train_only=options.train_only, seed=seed)
        return folds(entries, options.protocol, seed)

    def run_folds(self) -> None:
        """Run all folds, and write each one's predictions to the run's folder.

        Raises:
            TrainError: the folder holds another cross-validation, or there is no such fold.
            DatasetError: the recordings don't allow for the protocol.
        """
        out, chosen = self.run.out, self.folds
        self._claim_folder()
        for fold in chosen:
            folder = out / f"fold-{fold.name}"
            if (folder / "done").exists():
                continue
            folder.mkdir(exist_ok=True)
            self.run_fold(fold)
            (folder / "done").touch()

    def run_fold(self, fold: Fold) -> None:
        """Train every arm that the recordings allow for, and write what they predict."""
        fold_run = FoldRun(self.run, self.clips, self.options, fold, first_stage=self.first_stage)
        for predictions in fold_run.predictions():
            predictions.save(predictions_path(self.run.out, fold.name, predictions.arm))
        if adapted := fold_run.adapted():
            adapted.write(self.run.out)

    def _describe(self) -> Run:
        counts = Counter(entry.dataset for entry in self.clips.entries)
        return Run(
            protocol=self.options.protocol,
            preset=self.run.preset.name,
            seed=self.run.seed,
            command=self.command,
            versions={"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
            machine=f"{platform.machine()}, {core_count()} cores",
            datasets=dict(sorted(counts.items())),
        )

    def _plan(self) -> str:
        """Everything that results depend on beside `Run`, as JSON.

        What is as it was before there was a choice is left out: earlier folders are resumed.
        """
        options = self.options
        contents = " ".join(sorted(entry.content for entry in self.clips.entries))
        return json.dumps(
            {
                "protocol": self.options.protocol,
                "seed": self.run.seed,
                "fine_tuned_voice": self.options.fine_tuned_voice,
                "fine_tuned_face": self.options.fine_tuned_face,
                "baseline": self.options.baseline,
                "only": [],  # folds may be run one by one
                "first_stage": self.first_stage is not None,
                "classes": len(self.clips.labels),
                "recordings": hashlib.sha256(contents.encode()).hexdigest(),
                **({} if options.faces else {"faces": False}),
                **({"train_only": sorted(options.train_only)} if options.train_only else {}),
                **({"adapted_to": options.adapted_to} if options.adapted_to else {}),
            }
        )

    def _claim_folder(self) -> None:
        """Write the run's description, or check that the folder holds the same run.

        Raises:
            TrainError: it holds another.
            OutputError: the folder can't be made or written to.
        """
        out, run, plan = self.run.out, self._describe(), self._plan()
        make_folder(out, "a run")
        if not (out / RUN).exists():
            write_text(out / PLAN, plan)
            run.write(out)
            return
        there = Run.read(out)
        changed = [
            f"{name} ({getattr(there, name)})"
            for name in ("protocol", "preset", "seed", "datasets")
            if getattr(there, name) != getattr(run, name)
        ]
        if not changed and _read_plan(out) != plan:
            changed = [f"plan (by {there.command})"]
        if changed:
            raise TrainError(
                f"{out}: holds a cross-validation with another {', '.join(changed)}: delete it or "
                "choose another folder"
            )


def _read_plan(out: Path) -> str:
    return (out / PLAN).read_text() if (out / PLAN).is_file() else ""
