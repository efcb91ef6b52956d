"""Fine-tuning of the compact preset's speech backbone on all corpora of an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mfer_edge.outputs.files import make_folder, replacing
from train.data.batches import Split
from train.data.context import class_indices, label_clips
from train.data.corpus_folds import corpus_folds
from train.data.folds import Fold, folds
from train.data.index import Entry
from train.errors import TrainError
from train.models.registry import WHISPER
from train.models.whisper import SAMPLE_RATE, WhisperEncoder
from train.run import RunContext
from train.voices.backbone import WaveBank, mean_of_weights, tune_backbone
from train.voices.corpora import Corpora

LONGEST = 8 * SAMPLE_RATE  # samples of a recording that parts are drawn from


@dataclass(frozen=True)
class LeftOut:
    """A fold whose test part the backbone is not trained on.

    Raises:
        TrainError: the protocol is unknown.
    """

    protocol: str  # "corpus", "subject" or "loso"
    fold: str

    @classmethod
    def parse(cls, text: str) -> LeftOut:
        """Read "corpus:nemo" or "subject:2"."""
        protocol, colon, fold = text.partition(":")
        if not colon or protocol not in ("corpus", "subject", "loso"):
            raise TrainError(f"{text}: not a fold, such as corpus:nemo or subject:2")
        return cls(protocol, fold)

    def find(self, entries: Sequence[Entry], train_only: Sequence[str], seed: int) -> Fold:
        """The fold of a cross-validation over the same entries, options and seed."""
        if self.protocol == "corpus":
            every = corpus_folds(entries, train_only=train_only, seed=seed)
        else:
            every = folds(entries, self.protocol, seed)
        for fold in every:
            if fold.name == self.fold:
                return fold
        raise TrainError(f"no fold {self.fold}: there are {', '.join(f.name for f in every)}")


def train_voices(
    run: RunContext,
    *,
    left_out: Sequence[LeftOut] = (),
    train_only: Sequence[str] = (),
    trainings: int = 1,
    device: torch.device,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fine-tune the speech backbone, and write it under the name of the published one.

    The weights kept are the mean of several trainings with different seeds.

    Args:
        left_out: folds of cross-validations of this index that it will be used in.
        train_only: of those with protocol "corpus".

    Returns:
        The file, which takes the published one's place in the folder of --weights.

    Raises:
        TrainError: the preset's backbone can't be tuned, or a fold is unknown.
        DatasetError, MediaError: a recording can't be read.
        OutputError: the folder can't be written to.
    """
    preset, tuning = run.preset, run.preset.backbone
    backbone = run.data.speech
    if tuning is None or not isinstance(backbone, WhisperEncoder):
        raise TrainError(f"preset {preset.name}: its speech backbone is used as published")
    entries = [entry for entry in label_clips(run.entries, preset) if entry.has_sound]
    part = np.arange(len(entries))
    for one in left_out:
        part = np.setdiff1d(part, one.find(entries, train_only, run.seed).test)
    waves = [run.data.inputs(entry).speech[:LONGEST] for entry in entries]
    part = part[[len(waves[index]) > 0 for index in part]]
    say(f"{len(part)} of {len(entries)} recordings to train on, on {device}")
    bank = WaveBank(waves, device)
    corpora = Corpora.of(entries, class_indices(entries, preset.labels))
    make_folder(run.out, "a run")
    tuned = [
        tune_backbone(
            backbone,
            bank,
            corpora,
            Split(part, part[:0]),
            tuning,
            classes=len(preset.labels),
            stage=run.stage(f"voices-{number}").with_seed(run.seed + number),
        )
        for number in range(trainings)
    ]
    kept = mean_of_weights(tuned, [1.0] * len(tuned))
    path = run.out / WHISPER
    with replacing(path) as beside:
        save_file({k: v.half().contiguous() for k, v in kept.state_dict().items()}, beside)
    return path
