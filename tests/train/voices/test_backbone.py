"""Fine-tuning of a speech backbone from waveforms, and its augmentation in batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.train.voices.corpora import several, truth_of
from train.data.acoustics.batched import BatchedVoiceChanges, Waves, vary_waves
from train.data.batches import Split
from train.models.arms import mean_and_deviation
from train.models.whisper import WhisperEncoder
from train.options import StageContext, TrainOptions
from train.voices.backbone import (
    SHORTEST,
    WaveBank,
    bank_observations,
    mean_of_weights,
    tune_backbone,
)
from train.voices.corpora import Corpora
from train.voices.recipe import BackboneTuning, VoiceRecipe

CPU = torch.device("cpu")
NOTHING = BatchedVoiceChanges(
    speed=0, crop=0, room=0, device=0, telephone=0, noise=0, babble=0, clipping=0
)


def encoder(seed: int = 0) -> WhisperEncoder:
    torch.manual_seed(seed)
    return WhisperEncoder(1, 200).eval()


def tones(count: int, seconds: float = 0.5) -> list[np.ndarray]:
    """Recordings of one tone each, higher from class to class."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    return [
        0.3 * np.sin(2 * np.pi * 150 * (1 + n % 7) * time).astype(np.float32) for n in range(count)
    ]


def waves(lengths: list[int], seed: int = 0) -> Waves:
    random = torch.Generator().manual_seed(seed)
    samples = 0.1 * torch.randn(len(lengths), max(lengths), generator=random)
    made = Waves(samples, torch.tensor(lengths))
    return Waves(made.samples * made.inside, made.lengths)


def test_statistics_of_a_batch_are_those_of_each_recording_alone() -> None:
    batch, model = waves([16_000, 9_999, 6_400, 12_345]), encoder()
    with torch.no_grad():
        mean, deviation = model.pooled(batch.samples, batch.lengths)
        for number, length in enumerate(batch.lengths):
            alone = model(batch.samples[number : number + 1, :length])[0]
            together = torch.cat([mean[number].flatten(), deviation[number].flatten()])
            assert torch.allclose(together, mean_and_deviation(alone.flatten(1)), atol=1e-5)


def test_what_follows_a_recording_does_not_count() -> None:
    batch, model = waves([16_000, 8_000]), encoder()
    loud = batch.samples + ~batch.inside * torch.randn_like(batch.samples)
    with torch.no_grad():
        for one, other in zip(
            model.pooled(batch.samples, batch.lengths),
            model.pooled(loud, batch.lengths),
            strict=True,
        ):
            assert torch.allclose(one, other, atol=1e-6)


def test_no_change_leaves_recordings_as_they_are() -> None:
    batch = waves([16_000, 7_000])
    varied = vary_waves(batch, NOTHING)
    assert torch.equal(varied.lengths, batch.lengths)
    assert torch.allclose(varied.samples, batch.samples, atol=1e-5)


@pytest.mark.parametrize("kind", ["room", "device", "telephone", "noise", "babble", "clipping"])
def test_every_change_changes_and_stays_inside(kind: str) -> None:
    torch.manual_seed(0)
    batch = waves([16_000, 7_000, 6_400])
    talk = waves([20_000, 20_000], seed=1).samples
    varied = vary_waves(batch, replace(NOTHING, **{kind: 1.0}), talk)
    assert varied.samples.isfinite().all()
    assert not (varied.samples * ~varied.inside).any()
    difference = (varied.samples - batch.samples).norm(dim=1) / batch.samples.norm(dim=1)
    assert (difference > 0.005).all()


def test_speed_and_crop_change_the_length() -> None:
    torch.manual_seed(0)
    batch = waves([16_000] * 64)
    faster = vary_waves(batch, replace(NOTHING, speed=0.1)).lengths
    assert faster.min() < 16_000 and faster.min() >= 16_000 / 1.1 - 1
    cropped = vary_waves(batch, replace(NOTHING, crop=0.4)).lengths
    assert 9_599 <= int(cropped.min()) < 11_000


def test_a_tone_is_higher_the_faster_it_is_played() -> None:
    torch.manual_seed(0)
    time = torch.arange(16_000) / 16_000
    batch = Waves((2 * torch.pi * 1000 * time).sin().repeat(16, 1), torch.tensor([16_000] * 16))
    varied = vary_waves(batch, replace(NOTHING, speed=0.1))
    faster = [(wave[:n], int(n)) for wave, n in zip(varied.samples, varied.lengths, strict=True)
              if n < 16_000]  # fmt: skip
    assert len(faster) >= 4
    for wave, length in faster:
        peak = float(torch.fft.rfft(wave).abs().argmax()) * 16_000 / length
        assert peak == pytest.approx(1000 * 16_000 / length, rel=0.002)


def test_a_bank_gives_the_start_or_any_part_of_a_recording() -> None:
    ramp = np.linspace(0, 1, 64_000, dtype=np.float32)
    bank = WaveBank([ramp, ramp[:1000]], CPU)
    start = bank.start(torch.tensor([0, 1]), 16_000)
    assert start.lengths.tolist() == [16_000, SHORTEST]
    assert float(start.samples[0, 0]) == 0
    assert not start.samples[1, 1000:].any()
    torch.manual_seed(0)
    firsts = [float(bank.start(torch.tensor([0]), 16_000, anywhere=True).samples[0, 0])
              for _ in range(20)]  # fmt: skip
    assert max(firsts) > 0.4 and max(firsts) <= 0.751


def tuned(seed: int = 0, published: float = 0.0) -> tuple[WhisperEncoder, WhisperEncoder]:
    entries = several()
    corpora = Corpora.of(entries, truth_of(entries))
    bank = WaveBank(tones(len(entries)), CPU)
    options = TrainOptions(epochs=2, learning_rate=1e-3, schedule="one-cycle", batch=8, keep="last")
    tuning = BackboneTuning(options, VoiceRecipe(draws=8, contrast=0.2), published=published)
    start = encoder()
    split = Split(np.arange(len(entries)), np.zeros(0, np.int64))
    stage = StageContext(None, seed)
    return start, tune_backbone(start, bank, corpora, split, tuning, classes=7, stage=stage)


def test_tuning_moves_every_layer_and_not_the_positions_and_leaves_the_start_alone() -> None:
    before = {name: value.clone() for name, value in encoder().state_dict().items()}
    start, after = tuned()
    for name, value in after.state_dict().items():
        assert torch.equal(start.state_dict()[name], before[name])
        assert value.isfinite().all()
        assert torch.equal(value, before[name]) == (name == "embed_positions.weight"), name
    assert not after.training


def test_tuning_is_repeatable_and_keeps_the_published_share() -> None:
    start, one = tuned()
    _, half = tuned(published=0.5)
    expected = mean_of_weights([start, one], [1, 1]).state_dict()
    for name, value in half.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6)


def test_observations_of_a_bank_do_not_depend_on_the_batch() -> None:
    bank = WaveBank([*tones(5), *tones(3, 1.0)], CPU)
    one = bank_observations(encoder(), bank, longest_s=4.0, batch=3)
    other = bank_observations(encoder(), bank, longest_s=4.0, batch=8)
    assert one.shape == (8, 768)
    assert torch.allclose(one, other, atol=1e-5)
