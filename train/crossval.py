"""Cross-validation: every stage trained anew in each fold, and judged on what it has not seen."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mfer_edge.cpu import core_count
from mfer_edge.outputs.files import make_folder, write_text
from train.data.batches import Examples, predict
from train.data.context import DataContext, four_class, label_numbers
from train.data.examples import FaceClips, FeatureExamples, PairedExamples, SpeechExamples
from train.data.features import Features
from train.data.folds import Fold, folds, split_off
from train.data.index import Entry
from train.evaluate.predictions import RUN, Predictions, Run, predictions_path
from train.evaluate.svm import svm_baseline
from train.labels import FOUR_EMOTIONS
from train.models.arms import SequenceArm
from train.models.fusion import fit_fusion
from train.options import TrainError
from train.stages import (
    Arm,
    FaceOverBackbone,
    Split,
    VoiceOverBackbone,
    Work,
    fine_tune,
    train_audio_one,
    train_audio_two,
    train_combined,
    train_visual,
)

PLAN = "plan.json"  # beside run.json: what can't change when a cross-validation goes on
PACKAGES = ("mfer-edge", "torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Plan:
    """What is cross-validated, and how."""

    protocol: str
    seed: int = 0
    fine_tuned_voice: int = 0  # last layers of the speech backbone trained on with the arm
    fine_tuned_face: int = 0  # of the face backbone
    baseline: bool = False  # also an SVM on the speech features
    only: tuple[str, ...] = ()  # folds to go through, by name; none: all


@dataclass(frozen=True)
class Clips:
    """Recordings with their labels and all that the arms take from them."""

    entries: list[Entry]
    labels: tuple[str, ...]  # classes
    truth: np.ndarray  # (n,) int64
    voices: Features
    faces: Features

    @classmethod
    def gather(cls, entries: list[Entry], labels: Sequence[str], materials: DataContext) -> Clips:
        """Compute, or read back, the recordings' features.

        Raises:
            MediaError, DatasetError: one of them can't be read.
        """
        return cls(
            entries,
            tuple(labels),
            label_numbers(entries, labels),
            materials.voice_features(entries),
            materials.face_features(entries),
        )


def train_first_stage(
    materials: DataContext, entries: Sequence[Entry], work: Work
) -> SequenceArm | None:
    """Train the first audio stage on all of its datasets; None where the index has none of them.

    What it learns from is in no test part: those are recordings of other datasets.
    """
    chosen = four_class(entries)
    if not chosen:
        return None
    voices = materials.voice_features(chosen, "voices, first stage")
    examples = FeatureExamples(voices, label_numbers(chosen, FOUR_EMOTIONS))
    if materials.preset.audio_one.options.keep == "last":
        parts = np.arange(len(chosen)), np.zeros(0, np.int64)
    else:
        parts = split_off(chosen, "paper", work.seed)
    return train_audio_one(
        materials.preset,
        materials.speech,
        examples,
        Split(*parts).among(voices.present),
        len(FOUR_EMOTIONS),
        work,
    )


def cross_validate(
    materials: DataContext,
    clips: Clips,
    first_stage: SequenceArm | None,
    plan: Plan,
    out: Path,
    work: Work,
    command: str = "",
) -> list[Fold]:
    """Go through all folds, leaving each one's predictions in `out`; done folds are not redone.

    Args:
        first_stage: the audio arm after the first stage, to go on from.
        work: its run folder keeps every stage's state.

    Raises:
        TrainError: `out` holds another cross-validation, or there is no such fold.
        DatasetError: no such folds can be made.
    """
    made = folds(clips.entries, plan.protocol, plan.seed)
    if unknown := set(plan.only) - {fold.name for fold in made}:
        raise TrainError(
            f"no fold {min(unknown)}: there are {', '.join(fold.name for fold in made)}"
        )
    if plan.only:
        made = [fold for fold in made if fold.name in plan.only]
    _claim(out, _run(materials, clips, plan, command), clips, plan, first_stage is not None)
    for fold in made:
        folder = out / f"fold-{fold.name}"
        if (folder / "done").exists():
            continue
        folder.mkdir(exist_ok=True)
        for predictions in run_fold(
            materials, clips, first_stage, plan, fold, work.stage(f"fold-{fold.name}")
        ):
            predictions.save(predictions_path(out, fold.name, predictions.arm))
        (folder / "done").touch()
    return made


def run_fold(
    materials: DataContext,
    clips: Clips,
    first_stage: SequenceArm | None,
    plan: Plan,
    fold: Fold,
    work: Work,
) -> list[Predictions]:
    """Train every arm that the recordings allow on a fold, and give what each says of the test."""
    heard, seen = clips.voices.present, clips.faces.present
    both = heard & seen
    parts = Split(fold.train, fold.valid)
    if not both.any() and materials.preset.audio_two.options.keep == "last":
        # Nothing is chosen, so that nothing need be held back for it.
        parts = Split(np.concatenate([fold.train, fold.valid]), fold.valid[:0])
    judges: dict[str, tuple[Arm, Examples, np.ndarray]] = {}
    if heard.any():
        here = parts.among(heard)
        judges["audio"] = (*_audio(materials, clips, first_stage, plan, here, work), heard)
    if seen.any():
        judges["visual"] = (*_visual(materials, clips, plan, parts.among(seen), work), seen)
    made = {
        arm: _predictions(clips, plan, fold, arm, present, predict(model, examples, test))
        for arm, (model, examples, present) in judges.items()
        if len(test := fold.test[present[fold.test]])
    }
    if both.any() and len(test := fold.test[both[fold.test]]):
        logits = _combined(materials, clips, judges, parts.among(both), test, work)
        made["combined"] = _predictions(clips, plan, fold, "combined", both, logits)
    if plan.baseline and "audio" in made:
        made["svm"] = _svm(clips, plan, fold, heard)
    return list(made.values())


def _audio(
    materials: DataContext,
    clips: Clips,
    first_stage: SequenceArm | None,
    plan: Plan,
    parts: Split,
    work: Work,
) -> tuple[Arm, Examples]:
    """Train the audio arm; give the model and the examples that it takes."""
    preset, speech = materials.preset, materials.speech
    examples = FeatureExamples(clips.voices, clips.truth)
    labels = len(clips.labels)
    arm = train_audio_two(preset, speech, first_stage, examples, parts, labels, work.stage("audio"))
    if not plan.fine_tuned_voice:
        return arm, examples
    waves = [materials.inputs(entry).speech for entry in clips.entries]
    raw = SpeechExamples(waves, clips.truth, preset.voice_changes, preset.longest_s)
    backbone, arm = fine_tune(
        preset.fine_tuning, speech, arm, plan.fine_tuned_voice, raw, parts, work.stage("voice-fine")
    )
    return VoiceOverBackbone(backbone, arm), raw


def _visual(
    materials: DataContext, clips: Clips, plan: Plan, parts: Split, work: Work
) -> tuple[Arm, Examples]:
    """Train the visual arm; give the model and the examples that it takes."""
    preset, face = materials.preset, materials.face
    examples = FeatureExamples(clips.faces, clips.truth)
    arm = train_visual(preset, face, examples, parts, work.stage("visual"), len(clips.labels))
    if not plan.fine_tuned_face:
        return arm, examples
    crops = [materials.inputs(entry).faces for entry in clips.entries]
    raw = FaceClips(crops, clips.truth, preset.face_changes)
    backbone, arm = fine_tune(
        preset.fine_tuning, face, arm, plan.fine_tuned_face, raw, parts, work.stage("face-fine")
    )
    return FaceOverBackbone(backbone, arm), raw


def _combined(
    materials: DataContext,
    clips: Clips,
    judges: dict[str, tuple[Arm, Examples, np.ndarray]],
    parts: Split,
    test: np.ndarray,
    work: Work,
) -> np.ndarray:
    """Join the arms, and give the joint logits of the test part."""
    (visual, faces, _), (audio, voices, _) = judges["visual"], judges["audio"]
    options = materials.preset.combined
    if options is None:  # on the validation part: there the arms are not too sure
        if not len(parts.valid):
            raise TrainError("too few recordings have both a face and a voice to join the arms on")
        weights = fit_fusion(
            predict(visual, faces, parts.valid),
            predict(audio, voices, parts.valid),
            clips.truth[parts.valid],
        )
        return weights.logits(predict(visual, faces, test), predict(audio, voices, test))
    pairs = PairedExamples(faces, voices)
    fused = train_combined(options, visual, audio, pairs, parts, work.stage("combined"))
    return predict(fused, pairs, test)


def _predictions(
    clips: Clips, plan: Plan, fold: Fold, arm: str, present: np.ndarray, logits: np.ndarray
) -> Predictions:
    test = fold.test[present[fold.test]]
    return Predictions.of(
        [clips.entries[index] for index in test],
        clips.truth[test],
        logits,
        protocol=plan.protocol,
        fold=fold.name,
        arm=arm,
        labels=clips.labels,
    )


def _svm(clips: Clips, plan: Plan, fold: Fold, heard: np.ndarray) -> Predictions:
    """The baseline, on the features of the recordings that have sound."""
    position = np.cumsum(heard) - 1
    kept = [part[heard[part]] for part in (fold.train, fold.valid, fold.test)]
    inner = Fold(fold.name, *(position[part] for part in kept))
    sequences = [clips.voices.sequences[int(index)][0] for index in np.flatnonzero(heard)]
    (logits,) = svm_baseline(sequences, clips.truth[heard], [inner], len(clips.labels))
    return _predictions(clips, plan, fold, "svm", heard, logits)


def _run(materials: DataContext, clips: Clips, plan: Plan, command: str) -> Run:
    counts = Counter(entry.dataset for entry in clips.entries)
    return Run(
        protocol=plan.protocol,
        preset=materials.preset.name,
        seed=plan.seed,
        command=command,
        versions={"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        machine=f"{platform.machine()}, {core_count()} cores",
        datasets=dict(sorted(counts.items())),
    )


def _claim(out: Path, run: Run, clips: Clips, plan: Plan, first_stage: bool) -> None:
    """Write the run's description, or see that the folder holds the same run.

    Raises:
        TrainError: it holds another.
        OutputError: the folder can't be made or written to.
    """
    make_folder(out, "a run")
    digest = hashlib.sha256(" ".join(sorted(e.content for e in clips.entries)).encode())
    plan_text = json.dumps(
        {
            **asdict(replace(plan, only=())),
            "first_stage": first_stage,
            "classes": len(clips.labels),
            "recordings": digest.hexdigest(),
        }
    )
    if not (out / RUN).exists():
        write_text(out / PLAN, plan_text)
        run.write(out)
        return
    there = Run.read(out)
    changed = [
        f"{name} ({getattr(there, name)})"
        for name in ("protocol", "preset", "seed", "datasets")
        if getattr(there, name) != getattr(run, name)
    ]
    if not changed and not ((out / PLAN).is_file() and (out / PLAN).read_text() == plan_text):
        changed = [f"plan (by {there.command})"]
    if changed:
        raise TrainError(
            f"{out}: holds a cross-validation with another {', '.join(changed)}: delete it or "
            "choose another folder"
        )
