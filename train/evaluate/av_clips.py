"""Clips that measure: real audio-visual recordings of people in no training data.

They may fit the few numbers of fusion, one person left out at a time, and are never trained on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from train.data.batches import predict
from train.data.examples import FeatureExamples, SpeechExamples
from train.data.features import Features
from train.data.index import DatasetError, Entry
from train.data.preprocess import Preprocessor
from train.evaluate.metrics import (
    Spread,
    calibration_error,
    closed_recall,
    softmax,
)
from train.evaluate.strangers import StrangerLogits
from train.labels import class_index
from train.models.emotion_model import EmotionModel
from train.models.fusion import FittedFusion, fit_fusion
from train.stages import VoiceOverBackbone

NAME = re.compile(r"(?P<person>\d+)-(?P<sentence>\d+)-(?P<emotion>\d+)_\d+")
EMOTION_CODES = {
    "01": "neutral",
    "02": "sad",
    "03": "happy",
    "04": "surprised",
    "05": "fearful",
    "06": "angry",
}


@dataclass(frozen=True)
class ClipLogits:
    """Both arms' logits of clips that show and let hear one person each."""

    visual: np.ndarray  # (n, labels) float32; zeros, which say nothing, without a face
    audio: np.ndarray  # (n, labels) float32; zeros without a voice
    truth: np.ndarray  # (n,) int64
    people: np.ndarray  # (n,) names

    def select(self, kept: np.ndarray) -> ClipLogits:
        """Select clips by position or mask."""
        return ClipLogits(self.visual[kept], self.audio[kept], self.truth[kept], self.people[kept])

    def joined(self, other: ClipLogits) -> ClipLogits:
        """These clips and others."""
        return ClipLogits(
            np.concatenate([self.visual, other.visual]),
            np.concatenate([self.audio, other.audio]),
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.people, other.people]),
        )

    def fit(
        self, visual: StrangerLogits, audio: StrangerLogits, talk: ClipLogits | None = None
    ) -> FittedFusion:
        """Fit both arms' temperatures and the pool.

        Args:
            visual, audio: each arm's predictions of other strangers; they and the clips count as
                much for its temperature.
            talk: ordinary talk, for the pool: acted clips alone make neutral too rare.
        """
        temperatures = (
            visual.with_group("clips", self.visual, self.truth).temperature(),
            audio.with_group("clips", self.audio, self.truth).temperature(),
        )
        pairs = self if talk is None else self.joined(talk)
        return fit_fusion(pairs.visual, pairs.audio, pairs.truth, temperatures)


@dataclass(frozen=True)
class ClipFigures:
    """Closed unweighted recall of clips of one person at a time, whom nothing was fitted on."""

    face: Spread
    voice: Spread
    both: Spread
    calibration_error: float  # of both, over all clips
    clips: int
    people: int


def read_clips(folder: Path) -> list[Entry]:
    """List a folder of `PERSON-SENTENCE-EMOTION_01.mp4`, the last a key of EMOTION_CODES.

    Raises:
        DatasetError: there is no such file, a name has another emotion, or one person is alone.
    """
    entries = []
    for path in sorted(folder.glob("*.mp4")):
        match = NAME.fullmatch(path.stem)
        if match is None or match["emotion"] not in EMOTION_CODES:
            raise DatasetError(f"{path}: not PERSON-SENTENCE-EMOTION_01.mp4 with emotion 01 to 06")
        entries.append(
            Entry(
                path=path.absolute(),
                row=-1,
                dataset="clips",
                kind="av",
                label=EMOTION_CODES[match["emotion"]],
                actor=match["person"],
                sentence=match["sentence"],
                split="",
                take=path.stem,
                content=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
        )
    if len({entry.actor for entry in entries}) < 2:
        raise DatasetError(f"{folder}: no clips of two or more people")
    return entries


def clip_logits(model: EmotionModel, entries: Sequence[Entry], inputs: Preprocessor) -> ClipLogits:
    """Run a model's arms over clips, through the runtime's preprocessing.

    Raises:
        MediaError: a clip can't be read.
    """
    labels = model.preset.labels
    truth = np.array([class_index(entry.label, labels) for entry in entries], np.int64)
    made = [inputs(entry) for entry in entries]
    faces = Features([[_embedded(model, item.faces)] for item in made])
    waves = [item.speech for item in made]
    visual, audio = (np.zeros((len(entries), len(labels)), np.float32) for _ in range(2))
    seen = np.flatnonzero(faces.present)
    heard = np.flatnonzero([len(wave) > 0 for wave in waves])
    if len(seen):
        visual[seen] = predict(model.visual, FeatureExamples(faces, truth), seen)
    if len(heard):
        preset = model.preset
        voices = SpeechExamples(waves, truth, preset.voice_changes, preset.longest_s)
        audio[heard] = predict(VoiceOverBackbone(model.speech, model.audio), voices, heard)
    return ClipLogits(visual, audio, truth, np.array([entry.actor for entry in entries]))


@torch.inference_mode()
def _embedded(model: EmotionModel, faces: np.ndarray) -> np.ndarray:
    """Embeddings of (frames, size, size) faces: (frames, width) float32."""
    if not len(faces):
        return np.zeros((0, int(model.face.width)), np.float32)  # type: ignore[arg-type]
    return model.face(torch.from_numpy(faces)[:, None]).float().numpy()


def measure_clips(
    clips: ClipLogits,
    visual: StrangerLogits | None = None,
    audio: StrangerLogits | None = None,
    talk: ClipLogits | None = None,
) -> ClipFigures:
    """Measure arms and their fusion, which is fitted on the other people's clips.

    Args:
        visual, audio, talk: see `ClipLogits.fit`.
    """
    labels = clips.visual.shape[1]
    visual, audio = visual or StrangerLogits.none(labels), audio or StrangerLogits.none(labels)
    fused = np.zeros_like(clips.visual)
    rows: list[tuple[float, float, float]] = []
    for person in np.unique(clips.people):
        own = clips.people == person
        here = clips.select(own)
        fused[own] = clips.select(~own).fit(visual, audio, talk).logits(here.visual, here.audio)
        rows.append(
            (
                closed_recall(here.visual, here.truth),
                closed_recall(here.audio, here.truth),
                closed_recall(fused[own], here.truth),
            )
        )
    face, voice, both = (Spread.of(column) for column in zip(*rows, strict=True))
    error = calibration_error(softmax(fused), clips.truth)
    return ClipFigures(face, voice, both, error, len(clips.truth), len(rows))
