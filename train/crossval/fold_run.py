"""Training and prediction of one fold of a cross-validation."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from train.crossval.clips import Clips
from train.crossval.options import CrossvalOptions
from train.data.batches import Examples, Split, predict
from train.data.examples import FaceClips, FeatureExamples, PairedExamples, SpeechExamples
from train.data.folds import Fold
from train.errors import TrainError
from train.evaluate.adapted import Adapted
from train.evaluate.predictions import Predictions
from train.evaluate.svm import svm_baseline
from train.models.arms import SequenceArm, StatisticsArm
from train.models.fusion import fit_fusion
from train.run import RunContext
from train.stages import (
    Arm,
    FaceOverBackbone,
    VoiceOverBackbone,
    fine_tune,
    train_combined,
    train_visual,
)
from train.voices.adaptation import adapted_recalls
from train.voices.training import Voices, train_audio


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

    def __init__(
        self,
        run: RunContext,
        clips: Clips,
        options: CrossvalOptions,
        fold: Fold,
        *,
        first_stage: SequenceArm | None = None,
    ) -> None:
        self.fold, self.clips, self.options = fold, clips, options
        self.data, self.preset, self.first_stage = run.data, run.preset, first_stage
        self.stage = run.stage(f"fold-{fold.name}")
        self.split = Split(fold.train, fold.valid)
        if not self.clips.both.any() and self.preset.audio_two.options.keep == "last":
            # No epoch and no fusion weights are selected: the validation part can be trained on.
            self.split = Split(np.concatenate([fold.train, fold.valid]), fold.valid[:0])

    def predictions(self) -> list[Predictions]:
        """Train every arm that the recordings allow for, and predict the test part."""
        found = {
            name: self._predictions(name, test, arm.logits(test))
            for name, arm in self.arms.items()
            if len(test := self._test(arm.present))
        }
        if "visual" in self.arms and len(test := self._test(self.clips.both)):
            logits = self._fused_logits(self.arms["visual"], self.arms["audio"], test)
            found["combined"] = self._predictions("combined", test, logits)
        if self.options.baseline and "audio" in found:
            found["svm"] = self._svm()
        return list(found.values())

    def adapted(self) -> Adapted | None:
        """Recall of the left-out corpus after adaptation to some of it; None if not asked for."""
        arm = self.arms["audio"].model if "audio" in self.arms else None
        if not self.options.adapted_to or not isinstance(arm, StatisticsArm):
            return None
        entries, test = self.clips.entries, self._test(self.clips.voices.present)
        place = np.array([i for i in test if not entries[i].soft], np.int64)
        sequences = [self.clips.voices.sequences[i][0] for i in place]
        recalls = adapted_recalls(
            arm, sequences, self.clips.truth[place], self.options.adapted_to, self.stage.seed
        )
        return Adapted(self.fold.name, recalls)

    @functools.cached_property
    def arms(self) -> dict[str, TrainedArm]:
        """The trained arms by name."""
        arms: dict[str, TrainedArm] = {}
        if self.clips.voices.present.any():
            arms["audio"] = self._train_audio()
        if self.clips.faces.present.any():
            arms["visual"] = self._train_visual()
        return arms

    def _test(self, present: np.ndarray) -> np.ndarray:
        return self.fold.test[present[self.fold.test]]

    def _train_audio(self) -> TrainedArm:
        clips, present = self.clips, self.clips.voices.present
        examples, split = FeatureExamples(clips.voices, clips.truth), self.split.where(present)
        arm = train_audio(
            self.preset,
            self.data.speech,
            voices=Voices(clips.entries, clips.voices, clips.truth, len(clips.labels)),
            split=split,
            stage=self.stage.stage("audio"),
            start=self.first_stage,
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
