"""Fine-tuning of a speech backbone on several corpora together, end to end from waveforms.

A backbone that was fine-tuned so takes the place of the published one: its features are extracted
as before, and the arm is trained on them from the beginning.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from train.data.acoustics.batched import BatchedVoiceChanges, Waves, vary_waves
from train.data.batches import Split
from train.loop import Hooks, train
from train.models.arms import StatisticsArm
from train.models.standardise import EPSILON, Place
from train.models.whisper import SAMPLE_RATE, WhisperEncoder
from train.options import StageContext
from train.progress import progress_bar
from train.voices.corpora import Corpora
from train.voices.examples import OverObservations, VoiceBatch
from train.voices.objective import VoiceObjective
from train.voices.recipe import BackboneTuning

SHORTEST = 6_400  # samples of a recording, 0.4 s: as the runtime takes it
SHRINKAGE = 10.0  # recordings that a batch's own statistics count beside a corpus's in it
TALK = 10 * SAMPLE_RATE  # samples of each voice of babble


class WaveBank:
    """Recordings of speech in one tensor on a device.

    Args:
        waves: (n,) float32 of 16 kHz, or int16; longer ones are kept whole for random crops.
    """

    def __init__(self, waves: Sequence[np.ndarray], device: torch.device) -> None:
        lengths = [len(wave) for wave in waves]
        samples = np.zeros((len(waves), max([SHORTEST, *lengths])), np.int16)
        for row, wave in zip(samples, waves, strict=True):
            whole = wave.dtype == np.int16
            row[: len(wave)] = wave if whole else np.round(wave.clip(-1, 1) * 32767)
        self._samples = torch.from_numpy(samples).to(device)
        self.lengths = torch.tensor(lengths, device=device)

    def __len__(self) -> int:
        return len(self._samples)

    def start(self, indices: Tensor, longest: int, *, anywhere: bool = False) -> Waves:
        """The first samples of recordings, or a part from anywhere in long ones."""
        lengths = self.lengths[indices]
        kept = lengths.clamp(SHORTEST, longest)
        room = (lengths - longest).clamp(min=0)
        share = torch.rand(len(indices), device=room.device) if anywhere else 0 * room
        first = (share * room).long()
        width = int(kept.max())
        place = first[:, None] + torch.arange(width, device=room.device)
        place = place.clamp(max=self._samples.shape[1] - 1)
        waves = Waves(self._samples[indices].gather(1, place).float() / 32767, kept)
        return Waves(waves.samples * waves.inside, kept)


@dataclass(frozen=True)
class WaveBatch:
    """Recordings, and the corpus of each."""

    waves: Waves
    corpus: Tensor  # (n,) int64


class WaveExamples:
    """Recordings as waveforms for training a backbone: every draw is augmented anew.

    Args:
        clean: share of the draws that are recordings as they are.
    """

    targets: np.ndarray | None = None
    lengths: np.ndarray | None = None

    def __init__(
        self, bank: WaveBank, corpora: Corpora, split: Split, tuning: BackboneTuning
    ) -> None:
        self.labels = corpora.truth
        self._bank, self._tuning = bank, tuning
        self._longest = int(tuning.longest_s * SAMPLE_RATE)
        self._corpus = torch.from_numpy(corpora.corpus).to(bank.lengths.device)
        ordinary = split.train[corpora.soft[split.train]]
        self._talk: Tensor | None = None
        if len(ordinary):
            at = torch.from_numpy(ordinary).to(bank.lengths.device)
            self._talk = bank.start(at, TALK).samples

    def batch(self, indices: np.ndarray, random: np.random.Generator | None) -> WaveBatch:
        """Give some recordings: as they are, or augmented with PyTorch's random numbers."""
        at = torch.from_numpy(indices).to(self._corpus.device)
        waves = self._bank.start(at, self._longest, anywhere=random is not None)
        if random is not None:
            varied = vary_waves(waves, self._tuning.changes, self._talk)
            clean = torch.rand(len(at), device=at.device) < self._tuning.recipe.clean
            lengths = torch.where(clean, waves.lengths, varied.lengths.clamp(min=SHORTEST))
            samples = torch.where(clean[:, None], waves.samples, varied.samples)
            waves = Waves(samples, lengths)
        return WaveBatch(waves, self._corpus[at])


class OverWaves(nn.Module):
    """A backbone with an arm over its statistics, which the batch standardises."""

    def __init__(self, backbone: WhisperEncoder, arm: StatisticsArm, heads: int) -> None:
        super().__init__()
        self.backbone, self.over = backbone, OverObservations(arm, heads)

    def heads(self, batch: WaveBatch) -> Iterator[tuple[Tensor, Tensor]]:
        """Give each head's states and logits, as `OverObservations`.

        Half of the batches are standardised as a whole, and half corpus by corpus: the backbone
        learns for places that are adapted to and for those that are not.
        """
        observed = pooled_observations(self.backbone, batch.waves)
        by_corpus = bool(torch.rand(()) < 0.5)
        yield from self.over.heads(VoiceBatch(_standardised(observed, batch.corpus, by_corpus)))


def pooled_observations(backbone: WhisperEncoder, waves: Waves) -> Tensor:
    """Observations of a `StatisticsArm` over all layers: (n, 2 * depth * width)."""
    mean, deviation = backbone.pooled(waves.samples, waves.lengths)
    return torch.cat([mean.flatten(1), deviation.flatten(1)], 1)


def _standardised(observed: Tensor, corpus: Tensor, by_corpus: bool) -> Tensor:
    """Standardise a batch by its own statistics, or each corpus by its own, shrunk to those."""
    place = Place(observed.mean(0), (observed.var(0, correction=0) + EPSILON).sqrt())
    whole = place.apply(observed)
    if not by_corpus:
        return whole
    _, group = corpus.unique(return_inverse=True)
    member = torch.nn.functional.one_hot(group).to(whole.dtype)  # (n, groups)
    count = member.sum(0)[:, None]
    mean = member.T @ whole / count
    square = member.T @ (whole * whole) / count
    share = count / (count + SHRINKAGE)
    variance = share * (square - mean * mean).clamp(min=0) + (1 - share)
    return (whole - (share * mean)[group]) / (variance + EPSILON).sqrt()[group]


def tune_backbone(
    backbone: WhisperEncoder,
    bank: WaveBank,
    corpora: Corpora,
    split: Split,
    tuning: BackboneTuning,
    *,
    classes: int,
    stage: StageContext,
) -> WhisperEncoder:
    """Fine-tune a copy of a backbone on several corpora; all of it is trained.

    Args:
        bank: of every recording; its device is trained on.
        split: its training part is trained on; nothing is selected.

    Returns:
        The backbone on the CPU, in evaluation mode. The arm that it was trained with is dropped.
    """
    torch.manual_seed(stage.seed + 1)
    tuned = copy.deepcopy(backbone).requires_grad_(True)
    arm = StatisticsArm(tuned.width, tuning.width, classes, tuning.dropout, tuned.depth)
    model = OverWaves(tuned, arm, tuning.recipe.heads).to(bank.lengths.device)
    groups = [(list(arm.parameters()), 1.0)]
    for number, block in enumerate(reversed(tuned.trainable(tuned.depth + 1))):
        factor = tuning.layer_rate * tuning.layer_decay**number
        groups.append((list(block.parameters()), factor))
    tuned.embed_positions.requires_grad_(False)
    split = Split(split.train, np.zeros(0, np.int64))
    objective = VoiceObjective(
        corpora, split, classes, tuning.recipe, tuning.options.label_smoothing
    )
    with progress_bar(stage.name) as progress:
        train(
            model,
            WaveExamples(bank, corpora, split, tuning),
            split,
            replace(tuning.options, keep="last"),
            stage=stage,
            groups=groups,
            hooks=Hooks(progress=lambda share: progress(round(1000 * share), 1000)),
            objective=objective,
            identity={"tuning": repr(tuning)},
        )
    kept = mean_of_weights([backbone, tuned.cpu()], [tuning.published, 1 - tuning.published])
    return kept.eval()


def mean_of_weights(models: Sequence[WhisperEncoder], weights: Sequence[float]) -> WhisperEncoder:
    """Mean of models with one initialisation: of trainings (Wortsman et al. 2022, "Model soups"),
    or of a training with its start ("Robust fine-tuning of zero-shot models")."""
    mean = copy.deepcopy(models[-1])
    shares = [weight / sum(weights) for weight in weights]
    states = [model.state_dict() for model in models]
    mixed = {
        name: sum(share * state[name] for share, state in zip(shares, states, strict=True))
        for name in states[0]
    }
    mean.load_state_dict(mixed)
    return mean


@torch.no_grad()
def bank_observations(
    backbone: WhisperEncoder,
    bank: WaveBank,
    *,
    longest_s: float,
    changes: BatchedVoiceChanges | None = None,
    talk: Tensor | None = None,
    batch: int = 128,
) -> Tensor:
    """Observations of every recording of a bank, as it is or augmented: (n, width) on the CPU."""
    device = bank.lengths.device
    backbone = copy.deepcopy(backbone).to(device).eval()
    found = []
    for indices in torch.arange(len(bank), device=device).split(batch):
        waves = bank.start(indices, int(longest_s * SAMPLE_RATE), anywhere=changes is not None)
        if changes is not None:
            waves = vary_waves(waves, changes, talk)
            waves = Waves(waves.samples, waves.lengths.clamp(min=SHORTEST))
        found.append(pooled_observations(backbone, waves).cpu())
    return torch.cat(found)
