"""Cross-validation: every stage is trained anew in each fold, and tested on unseen recordings."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mfer_edge.cpu import core_count
from mfer_edge.outputs.files import make_folder, write_text
from train.data.batches import Examples, Split, predict
from train.data.context import DataContext, class_indices
from train.data.examples import FaceClips, FeatureExamples, PairedExamples, SpeechExamples
from train.data.features import Features
from train.data.folds import Fold, folds
from train.data.index import Entry
from train.errors import TrainError
from train.evaluate.predictions import RUN, Predictions, Run, predictions_path
from train.evaluate.svm import svm_baseline
from train.models.arms import SequenceArm
from train.models.fusion import fit_fusion
from train.run import RunContext
from train.stages import (
    Arm,
    FaceOverBackbone,
    VoiceOverBackbone,
    fine_tune,
    train_audio_two,
    train_combined,
    train_visual,
)

PLAN = "plan.json"  # beside run.json: what may not change when a cross-validation is resumed
PACKAGES = ("mfer-edge", "torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class CrossvalOptions:
    """Protocol of a cross-validation, and what is trained in each fold."""

    protocol: str  # key of train.evaluate.predictions.PROTOCOLS
    fine_tuned_voice: int = 0  # last layers of the speech backbone to fine-tune with the arm
    fine_tuned_face: int = 0  # of the face backbone
    baseline: bool = False  # also an SVM on the speech features
    only: tuple[str, ...] = ()  # names of the folds to run; empty: all


@dataclass(frozen=True)
class Clips:
    """Recordings with their classes and features."""

    entries: list[Entry]
    labels: tuple[str, ...]  # classes
    truth: np.ndarray  # (n,) int64, index into labels
    voices: Features
    faces: Features

    @classmethod
    def extract(cls, data: DataContext, entries: list[Entry], labels: tuple[str, ...]) -> Clips:
        """Compute the recordings' features, or read them from the cache.

        Raises:
            MediaError, DatasetError: one of them can't be read.
        """
        return cls(
            entries,
            labels,
            class_indices(entries, labels),
            data.voice_features(entries),
            data.face_features(entries),
        )

    @property
    def both(self) -> np.ndarray:
        """(n,) bool: recordings with both a voice and a face."""
        return self.voices.present & self.faces.present


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
        every = folds(self.clips.entries, self.options.protocol, self.run.seed)
        if unknown := set(self.options.only) - {fold.name for fold in every}:
            raise TrainError(
                f"no fold {min(unknown)}: there are {', '.join(fold.name for fold in every)}"
            )
        return [fold for fold in every if fold.name in self.options.only or not self.options.only]

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
            for predictions in self.run_fold(fold):
                predictions.save(predictions_path(out, fold.name, predictions.arm))
            (folder / "done").touch()

    def run_fold(self, fold: Fold) -> list[Predictions]:
        """Train every arm that the recordings allow for, and predict the fold's test part."""
        return FoldRun(self, fold).predictions()

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
        """Everything that results depend on beside `Run`, as JSON."""
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


@dataclass(frozen=True)
class TrainedArm:
    """An arm after training, with examples of all recordings in the form that it takes."""

    model: Arm
    examples: Examples
    present: np.ndarray  # (n,) bool: recordings that it can judge

    def logits(self, indices: np.ndarray) -> np.ndarray:
        """Predict some recordings: (n, classes) float32."""
        return predict(self.model, self.examples, indices)


class FoldRun:
    """One fold of a cross-validation: its arms are trained, and predict its test part."""

    def __init__(self, crossval: CrossValidation, fold: Fold) -> None:
        self.crossval, self.fold = crossval, fold
        self.clips, self.options = crossval.clips, crossval.options
        self.data, self.preset = crossval.run.data, crossval.run.preset
        self.stage = crossval.run.stage(f"fold-{fold.name}")
        self.split = Split(fold.train, fold.valid)
        if not self.clips.both.any() and self.preset.audio_two.options.keep == "last":
            # No epoch and no fusion weights are selected: the validation part can be trained on.
            self.split = Split(np.concatenate([fold.train, fold.valid]), fold.valid[:0])

    def predictions(self) -> list[Predictions]:
        """Train every arm that the recordings allow for, and predict the test part."""
        arms: dict[str, TrainedArm] = {}
        if self.clips.voices.present.any():
            arms["audio"] = self._train_audio()
        if self.clips.faces.present.any():
            arms["visual"] = self._train_visual()
        found = {
            name: self._predictions(name, test, arm.logits(test))
            for name, arm in arms.items()
            if len(test := self._test(arm.present))
        }
        if self.clips.both.any() and len(test := self._test(self.clips.both)):
            logits = self._fused_logits(arms["visual"], arms["audio"], test)
            found["combined"] = self._predictions("combined", test, logits)
        if self.options.baseline and "audio" in found:
            found["svm"] = self._svm()
        return list(found.values())

    def _test(self, present: np.ndarray) -> np.ndarray:
        return self.fold.test[present[self.fold.test]]

    def _train_audio(self) -> TrainedArm:
        clips, present = self.clips, self.clips.voices.present
        examples, split = FeatureExamples(clips.voices, clips.truth), self.split.where(present)
        arm = train_audio_two(
            self.preset,
            self.data.speech,
            examples=examples,
            split=split,
            classes=len(clips.labels),
            stage=self.stage.stage("audio"),
            start=self.crossval.first_stage,
        )
        if not self.options.fine_tuned_voice:
            return TrainedArm(arm, examples, present)
        waves = [self.data.inputs(entry).speech for entry in clips.entries]
        raw = SpeechExamples(waves, clips.truth, self.preset.voice_changes, self.preset.longest_s)
        backbone, arm = fine_tune(
            self.preset.fine_tuning,
            self.data.speech,
            arm,
            last=self.options.fine_tuned_voice,
            examples=raw,
            split=split,
            stage=self.stage.stage("voice-fine"),
        )
        return TrainedArm(VoiceOverBackbone(backbone, arm), raw, present)

    def _train_visual(self) -> TrainedArm:
        clips, present = self.clips, self.clips.faces.present
        examples, split = FeatureExamples(clips.faces, clips.truth), self.split.where(present)
        arm = train_visual(
            self.preset,
            self.data.face,
            examples=examples,
            split=split,
            classes=len(clips.labels),
            stage=self.stage.stage("visual"),
        )
        if not self.options.fine_tuned_face:
            return TrainedArm(arm, examples, present)
        crops = [self.data.inputs(entry).faces for entry in clips.entries]
        raw = FaceClips(crops, clips.truth, self.preset.face_changes)
        backbone, arm = fine_tune(
            self.preset.fine_tuning,
            self.data.face,
            arm,
            last=self.options.fine_tuned_face,
            examples=raw,
            split=split,
            stage=self.stage.stage("face-fine"),
        )
        return TrainedArm(FaceOverBackbone(backbone, arm), raw, present)

    def _fused_logits(self, visual: TrainedArm, audio: TrainedArm, test: np.ndarray) -> np.ndarray:
        """Fuse the arms, and predict the test part."""
        split, options = self.split.where(self.clips.both), self.preset.combined
        if options is None:  # fitted on the validation part, where the arms are not overconfident
            valid = split.valid
            if not len(valid):
                raise TrainError("too few recordings have both a face and a voice to fuse the arms")
            weights = fit_fusion(visual.logits(valid), audio.logits(valid), self.clips.truth[valid])
            return weights.logits(visual.logits(test), audio.logits(test))
        pairs = PairedExamples(visual.examples, audio.examples)
        fused = train_combined(
            options,
            visual.model,
            audio.model,
            examples=pairs,
            split=split,
            stage=self.stage.stage("combined"),
        )
        return predict(fused, pairs, test)

    def _svm(self) -> Predictions:
        """The baseline, on the features of the recordings with a voice."""
        clips, fold, present = self.clips, self.fold, self.clips.voices.present
        position = np.cumsum(present) - 1
        kept = [part[present[part]] for part in (fold.train, fold.valid, fold.test)]
        inner = Fold(fold.name, *(position[part] for part in kept))
        sequences = [clips.voices.sequences[int(index)][0] for index in np.flatnonzero(present)]
        (logits,) = svm_baseline(sequences, clips.truth[present], [inner], len(clips.labels))
        return self._predictions("svm", self._test(present), logits)

    def _predictions(self, arm: str, test: np.ndarray, logits: np.ndarray) -> Predictions:
        return Predictions.of(
            [self.clips.entries[index] for index in test],
            self.clips.truth[test],
            logits,
            protocol=self.options.protocol,
            fold=self.fold.name,
            arm=arm,
            labels=self.clips.labels,
        )
