"""Rooms, microphones, noise and babble for batches of recordings at once, on any device.

The counterpart of `train.data.augment_voices` for fine-tuning a backbone, where every draw of a
recording is augmented anew. Codecs are not part of it: they run on no accelerator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mfer_edge.speech.vad import SAMPLE_RATE

RESPONSE = 12_000  # samples of a room's impulse response at most
CURVE_POINTS = 8  # of a microphone's frequency response, evenly spaced in log frequency
QUIET = 1e-5  # root mean square of silence


@dataclass(frozen=True)
class BatchedVoiceChanges:
    """How often and how strongly a recording is changed."""

    speed: float = 0.10  # largest relative change of tempo and pitch together
    crop: float = 0.4  # largest share that is cut off
    room: float = 0.5  # probabilities of the changes
    device: float = 0.6
    telephone: float = 0.15
    noise: float = 0.6
    babble: float = 0.3
    clipping: float = 0.1
    microphone_db: float = 8.0  # largest deviation of a microphone's response
    noise_db: tuple[float, float] = (6.0, 40.0)  # signal to noise
    babble_db: tuple[float, float] = (5.0, 30.0)
    reverberation_s: tuple[float, float] = (0.15, 0.9)  # RT60
    direct_db: tuple[float, float] = (-3.0, 15.0)  # direct to reverberant


@dataclass(frozen=True)
class Waves:
    """Recordings of different lengths in one tensor."""

    samples: Tensor  # (n, longest) float32, 16 kHz; zeros after each recording's end
    lengths: Tensor  # (n,) int64

    @property
    def inside(self) -> Tensor:
        """Samples that are part of a recording: (n, longest) bool."""
        return (
            torch.arange(self.samples.shape[1], device=self.lengths.device) < self.lengths[:, None]
        )


def vary_waves(waves: Waves, changes: BatchedVoiceChanges, talk: Tensor | None = None) -> Waves:
    """Change recordings as other rooms, devices and surroundings would, each by its own draw.

    Args:
        talk: (voices, samples) to mix babble from; None: no babble.
    """
    waves = _stretch_and_crop(waves, changes)
    samples, inside = waves.samples, waves.inside
    samples = _filtered(samples, changes) * inside
    level = _level(samples, waves.lengths)
    samples = samples + _noise(samples, level, changes)
    if talk is not None and len(talk):
        samples = samples + _babble(samples, level, talk, changes)
    samples = _clipped(samples, level, changes)
    return Waves(samples * inside, waves.lengths)


def _uniform(count: int, low: float, high: float, like: Tensor) -> Tensor:
    return torch.rand(count, 1, device=like.device) * (high - low) + low


def _chosen(count: int, probability: float, like: Tensor) -> Tensor:
    return torch.rand(count, 1, device=like.device) < probability


def _level(samples: Tensor, lengths: Tensor) -> Tensor:
    """Root mean square of recordings: (n, 1)."""
    power = (samples * samples).sum(1, keepdim=True) / lengths[:, None]
    return power.sqrt().clamp(min=QUIET)


def _stretch_and_crop(waves: Waves, changes: BatchedVoiceChanges) -> Waves:
    """Play at another speed, by linear interpolation, and cut off the start and the end."""
    count, longest = waves.samples.shape
    speed = 1 + _uniform(count, -changes.speed, changes.speed, waves.samples)
    kept = 1 - _uniform(count, 0, changes.crop, waves.samples)
    start = (1 - kept) * torch.rand_like(kept) * waves.lengths[:, None]
    lengths = (waves.lengths[:, None] * kept / speed).long().clamp(1, longest)
    time = torch.arange(longest, device=waves.samples.device)[None] * speed + start
    below = time.floor().long().clamp(max=longest - 2)
    weight = (time - below).clamp(0, 1)
    one, next_one = waves.samples.gather(1, below), waves.samples.gather(1, below + 1)
    changed = Waves(one + weight * (next_one - one), lengths[:, 0])
    return Waves(changed.samples * changed.inside, changed.lengths)


def _filtered(samples: Tensor, changes: BatchedVoiceChanges) -> Tensor:
    """Apply rooms, microphones and telephone bands, in the frequency domain."""
    count, longest = samples.shape
    size = longest + RESPONSE
    size += -size % 2048
    response = _microphones(count, size, samples, changes) * _bands(count, size, samples, changes)
    spectrum = torch.fft.rfft(samples, size) * response
    spectrum = spectrum * torch.fft.rfft(_rooms(samples, changes), size)
    return torch.fft.irfft(spectrum, size)[:, :longest]


def _rooms(samples: Tensor, changes: BatchedVoiceChanges) -> Tensor:
    """Impulse responses: the direct sound, and noise that decays exponentially after it."""
    count = len(samples)
    time = torch.arange(RESPONSE, device=samples.device) / SAMPLE_RATE
    decay = torch.exp(-math.log(1000) * time / _uniform(count, *changes.reverberation_s, samples))
    tail = torch.randn(count, RESPONSE, device=samples.device) * decay
    tail[:, :16] = 0
    direct = 10 ** (_uniform(count, *changes.direct_db, samples) / 20)
    tail = tail / (tail.norm(dim=1, keepdim=True) * direct)
    response = tail * _chosen(count, changes.room, samples)
    response[:, 0] = 1
    return response


def _frequencies(size: int, like: Tensor) -> Tensor:
    return torch.arange(size // 2 + 1, device=like.device) * (SAMPLE_RATE / size)


def _microphones(count: int, size: int, like: Tensor, changes: BatchedVoiceChanges) -> Tensor:
    """Frequency responses through random points, linear between them in dB and log frequency."""
    points = (torch.rand(count, CURVE_POINTS, device=like.device) * 2 - 1) * changes.microphone_db
    points = points * _chosen(count, changes.device, like)
    octave = (_frequencies(size, like).clamp(min=60) / 60).log2()
    place = octave / math.log2(SAMPLE_RATE / 2 / 60) * (CURVE_POINTS - 1)
    below = place.long().clamp(max=CURVE_POINTS - 2)
    decibels = torch.lerp(points[:, below], points[:, below + 1], place - below)
    return 10 ** (decibels / 20)


def _bands(count: int, size: int, like: Tensor, changes: BatchedVoiceChanges) -> Tensor:
    """Frequency responses of telephones: a band with steep edges; 1 for other recordings."""
    frequency = _frequencies(size, like)[None]
    low, high = _uniform(count, 150, 350, like), _uniform(count, 3100, 3800, like)
    band = torch.sigmoid((frequency - low) / 20) * torch.sigmoid((high - frequency) / 60)
    return torch.where(_chosen(count, changes.telephone, like), band, 1.0)


def _noise(samples: Tensor, level: Tensor, changes: BatchedVoiceChanges) -> Tensor:
    """Steady noise, between white and brown."""
    count, longest = samples.shape
    spectrum = torch.fft.rfft(torch.randn_like(samples))
    frequency = torch.arange(spectrum.shape[1], device=samples.device).clamp(min=4)
    noise = torch.fft.irfft(spectrum * frequency ** -_uniform(count, 0, 1, samples), longest)
    noise = noise / noise.std(1, keepdim=True).clamp(min=QUIET)
    gain = level * 10 ** (-_uniform(count, *changes.noise_db, samples) / 20)
    return noise * gain * _chosen(count, changes.noise, samples)


def _babble(samples: Tensor, level: Tensor, talk: Tensor, changes: BatchedVoiceChanges) -> Tensor:
    """One to four other voices."""
    count, longest = samples.shape
    voices = torch.zeros_like(samples)
    for number in range(4):
        chosen = talk[torch.randint(len(talk), (count,), device=talk.device)].float()
        chosen = chosen.roll(int(torch.randint(chosen.shape[1], ())), 1)
        while chosen.shape[1] < longest:
            chosen = torch.cat([chosen, chosen], 1)
        heard = 1.0 if number == 0 else 0.5
        voices = voices + chosen[:, :longest] * _chosen(count, heard, samples)
    voices = voices / (voices * voices).mean(1, keepdim=True).sqrt().clamp(min=QUIET)
    gain = level * 10 ** (-_uniform(count, *changes.babble_db, samples) / 20)
    return voices * gain * _chosen(count, changes.babble, samples)


def _clipped(samples: Tensor, level: Tensor, changes: BatchedVoiceChanges) -> Tensor:
    limit = level * _uniform(len(samples), 1.5, 4.0, samples)
    limit = torch.where(_chosen(len(samples), changes.clipping, samples), limit, torch.inf)
    return samples.clamp(-limit, limit)
