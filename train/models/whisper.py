"""The encoder of Whisper (Radford et al. 2022), with its spectrogram inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from train.device import has_bfloat16
from train.models.base import last_blocks
from train.models.weights import load_strict

SAMPLE_RATE = 16_000  # Hz
N_FFT = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
MELS = 80
WIDTH = 384  # numbers per step in tiny.en
HEADS = 6
FEED_FORWARD = 1536
LEVEL = 0.07  # root mean square that recordings are normalised to
POOL = 2  # encoder steps averaged into one: 40 ms
MASKED_MELS = 8  # at most, of each of two bands masked in fine-tuning
MASKED_SHARE = 1 / 16  # of the time at most, of each of two stretches masked in fine-tuning
QUIETEST = 1e-4  # root mean square below which the gain is not raised further


def mel_filters() -> np.ndarray:
    """Slaney's mel filter bank, as Whisper uses it: (80, 201) float32."""
    linear_step, log_start, log_step = 200 / 3, 1000.0, math.log(6.4) / 27

    def to_hz(mel: np.ndarray) -> np.ndarray:
        bend = log_start / linear_step
        return np.where(mel < bend, mel * linear_step, log_start * np.exp(log_step * (mel - bend)))

    top = log_start / linear_step + math.log(SAMPLE_RATE / 2 / log_start) / log_step
    corners = to_hz(np.linspace(0, top, MELS + 2))  # of the triangles
    bins = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    area = 2 / (corners[2:] - corners[:-2])
    triangles = np.maximum(0, np.minimum(rising, falling)) * area[:, None]
    return triangles.astype(np.float32)


class LogMel(nn.Module):
    """Whisper's log mel spectrogram, of a recording normalised in level.

    The Fourier transform is a convolution with its basis: every runtime has convolutions.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        time = np.arange(N_FFT)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * time / N_FFT)
        phase = 2 * np.pi * np.outer(np.arange(N_FFT // 2 + 1), time) / N_FFT
        basis = np.concatenate([np.cos(phase), np.sin(phase)]) * window
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32)[:, None], False)
        self.register_buffer("filters", torch.from_numpy(mel_filters()), False)

    def forward(self, wave: Tensor) -> Tensor:
        """Give the spectrogram of (1, n) samples: (1, 80, n // 160)."""
        power = (wave * wave).mean(1, keepdim=True)
        wave = wave * (LEVEL / power.sqrt().clamp(min=QUIETEST))
        padded = F.pad(wave[:, None], (N_FFT // 2, N_FFT // 2), mode="reflect")
        log = self._log(padded)
        log = torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0)
        return (log + 4.0) / 4.0

    def _log(self, padded: Tensor) -> Tensor:
        """Give the spectrogram of (n, 1, samples) before its range is limited."""
        spectrum = F.conv1d(padded, self.basis, stride=HOP)[:, :, :-1]
        real, imaginary = spectrum.chunk(2, 1)
        mel = self.filters @ (real * real + imaginary * imaginary)
        return mel.clamp(min=1e-10).log10()

    def padded(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Give the spectrograms of recordings of different lengths, each as `forward` does.

        Args:
            waves: (n, longest) samples; what is after a recording's end does not count.
            lengths: (n,) samples, over 200.

        Returns:
            (n, 80, longest // 160), zeros after each recording's end.
        """
        half, longest = N_FFT // 2, waves.shape[1]
        place = torch.arange(-half, longest + half, device=waves.device)[None].abs()
        place = torch.where(place < lengths[:, None], place, 2 * (lengths[:, None] - 1) - place)
        waves = waves.gather(1, place.clamp(min=0)) * (place >= 0)
        inside = (torch.arange(longest, device=waves.device) < lengths[:, None]).float()
        kept = waves[:, half : half + longest] * inside
        power = (kept * kept).sum(1, keepdim=True) / lengths[:, None]
        waves = waves * (LEVEL / power.sqrt().clamp(min=QUIETEST))
        log = self._log(waves[:, None])
        real = (torch.arange(log.shape[2], device=log.device) < (lengths // HOP)[:, None])[:, None]
        log = torch.maximum(log, log.masked_fill(~real, -torch.inf).amax((1, 2), keepdim=True) - 8)
        return (log + 4.0) / 4.0 * real


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each after its own layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(WIDTH)
        self.self_attn = Attention()
        self.final_layer_norm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, FEED_FORWARD)
        self.fc2 = nn.Linear(FEED_FORWARD, WIDTH)

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), real)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Attention(nn.Module):
    """Multi-head attention, with padding masked."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj = nn.Linear(WIDTH, WIDTH)
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        batch, steps, _ = x.shape

        def heads(y: Tensor) -> Tensor:
            return y.view(batch, steps, HEADS, WIDTH // HEADS).transpose(1, 2)

        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        weights = q @ k.transpose(2, 3) * (WIDTH // HEADS) ** -0.5
        if real is not None:
            weights = weights.masked_fill(~real[:, None, None], -torch.inf)
        return self.out_proj((weights.softmax(-1) @ v).transpose(1, 2).reshape(batch, steps, WIDTH))


class WhisperEncoder(nn.Module):
    """Whisper tiny.en's encoder, up to one of its layers, on a waveform of any length.

    The published encoder takes 30 s. Only its position table asks for that: cut to length, the
    same weights run on a short recording at a fraction of the multiplications.

    Args:
        depth: transformer layers kept, 1 to 4.
        max_steps: longest input, in 20 ms steps.
    """

    width = WIDTH

    def __init__(self, depth: int, max_steps: int) -> None:
        super().__init__()
        self.depth = depth
        self.log_mel = LogMel()
        self.conv1 = nn.Conv1d(MELS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(max_steps, WIDTH)
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(depth))

    def forward(self, wave: Tensor) -> Tensor:
        """Give every layer's states, averaged in pairs of steps.

        Args:
            wave: (1, n) samples, 16 kHz, at any level.

        Returns:
            (1, steps, depth, 384): one step for every 40 ms.
        """
        return pool_steps(self.layer_states(wave))

    def layer_states(self, wave: Tensor) -> Tensor:
        """Give every layer's states of (1, n) samples, one step for 20 ms."""
        return self._layers(self.log_mel(wave))

    def pooled(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Give the mean and the deviation over time of every layer's states.

        A recording's result is that of `forward`: the batch is padded, and padding is masked.

        Args:
            waves: (n, longest) samples, 16 kHz.
            lengths: (n,) samples of each.

        Returns:
            (n, depth, 384) each.
        """
        states, steps = self._pooled_steps(waves, lengths)
        real = torch.arange(states.shape[1], device=steps.device) < steps[:, None]
        weight = (real / steps[:, None])[:, :, None, None]
        mean = (states * weight).sum(1)
        variance = ((states - mean[:, None]) ** 2 * weight).sum(1)
        return mean, variance.clamp(min=1e-8).sqrt()

    def embed(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Give every layer's states of recordings of any lengths: (steps, depth, 384) each.

        A recording's result is that of `forward`: padding is masked in convolutions and attention.
        """
        lengths = torch.tensor([len(wave) for wave in waves])
        states, steps = self._pooled_steps(pad_sequence(list(waves), batch_first=True), lengths)
        return [state[:n] for state, n in zip(states, steps, strict=True)]

    def _pooled_steps(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Give every layer's states of (n, longest) padded recordings, and their (n,) steps.

        While training, spectrograms are masked at random.
        """
        mel = self.log_mel.padded(waves, lengths)
        frames = (lengths // HOP).clamp(min=2 * POOL)
        if self.training:
            mel = mask_spectrograms(mel, frames)
        # bfloat16 makes fine-tuning twice as fast on processors that have it.
        device = mel.device.type
        with torch.autocast(device, torch.bfloat16, self.training and has_bfloat16(device)):
            states = self._layers(mel, frames).float()
        return pool_steps(states), ((frames + 1) // 2) // POOL

    def _layers(self, mel: Tensor, frames: Tensor | None = None) -> Tensor:
        """Run (n, 80, time) spectrograms through all layers: (n, steps, depth, 384).

        Args:
            frames: (n,) lengths of the spectrograms before padding; by default all.
        """
        x = F.gelu(self.conv1(mel))
        real = None
        if frames is not None:
            x = x * (torch.arange(x.shape[2], device=x.device) < frames[:, None])[:, None]
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        if frames is not None:
            real = torch.arange(x.shape[1], device=x.device) < (frames[:, None] + 1) // 2
        x = x + self.embed_positions.weight[: x.shape[1]]
        states = []
        for layer in self.layers:
            x = layer(x, real)
            states.append(x)
        return torch.stack(states, 2)

    def trainable(self, last: int) -> list[nn.Module]:
        """Select the last of the convolutions, which count as one, and the layers.

        Raises:
            ValueError: there are not so many.
        """
        return last_blocks([nn.ModuleList([self.conv1, self.conv2]), *self.layers], last)

    def load_whisper(
        self, weights: Mapping[str, Tensor], what: str = "Whisper tiny.en's encoder"
    ) -> None:
        """Load the published weights, named as in `transformers`' `WhisperEncoder`.

        Args:
            what: name of the weights in errors: their path.

        Raises:
            CheckpointError: a name or a shape does not fit, or a weight is not finite.
        """
        dropped = ("layer_norm.", *(f"layers.{n}." for n in range(len(self.layers), 4)))
        kept = {name: value.float() for name, value in weights.items()}
        kept = {name: value for name, value in kept.items() if not name.startswith(dropped)}
        if (positions := kept.get("embed_positions.weight")) is not None:
            kept["embed_positions.weight"] = positions[: self.embed_positions.num_embeddings]
        load_strict(self, kept, what)


def pool_steps(states: Tensor) -> Tensor:
    """Average neighbouring steps of (n, steps, depth, width); a last odd one is dropped."""
    batch, steps, depth, width = states.shape
    pairs = steps // POOL
    return states[:, : pairs * POOL].view(batch, pairs, POOL, depth, width).mean(2)


def mask_spectrograms(mel: Tensor, frames: Tensor) -> Tensor:
    """SpecAugment: mask two bands and two spans of each spectrogram (Park et al. 2019).

    Args:
        mel: (n, 80, longest), zeros after each one's end.
        frames: (n,) their lengths.
    """
    count, _, longest = mel.shape
    bands = torch.arange(MELS, device=mel.device)[None, :, None]
    times = torch.arange(longest, device=mel.device)[None, None, :]
    real = times < frames[:, None, None]
    average = mel.sum((1, 2)) / (MELS * frames)

    def span(size: Tensor | int, longest: Tensor | int, places: Tensor) -> Tensor:
        length = (torch.rand(count, device=mel.device) * (longest + 1)).long()
        start = (torch.rand(count, device=mel.device) * (size - length + 1)).long()
        first, last = start[:, None, None], (start + length)[:, None, None]
        return (places >= first) & (places < last)

    masked = torch.zeros_like(mel, dtype=torch.bool)
    for _ in range(2):
        masked = masked | span(MELS, MASKED_MELS, bands)
        masked = masked | span(frames, (frames * MASKED_SHARE).long(), times)
    return torch.where(masked & real, average[:, None, None], mel)
