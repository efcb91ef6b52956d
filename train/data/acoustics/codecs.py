"""Lossy audio codecs, run in memory by PyAV."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from mfer_edge.speech.vad import SAMPLE_RATE

FULL_SCALE = 32767  # of 16-bit samples
SHORTEST = 4096  # samples that every encoder turns into a packet


@dataclass(frozen=True)
class Codec:
    """An encoder of FFmpeg."""

    encoder: str
    container: str
    sample_format: str
    bit_rates: tuple[int, ...]  # bit/s, to choose from
    options: tuple[tuple[str, str], ...] = ()
    delay: int = 0  # samples, which the container does not tell the decoder


CODECS = (
    Codec("libopus", "ogg", "s16", (8_000, 12_000, 16_000, 24_000, 32_000),
          (("compression_level", "1"),)),
    Codec("libmp3lame", "mp3", "s16p", (24_000, 32_000, 48_000, 64_000),
          (("compression_level", "7"),)),
    Codec("aac", "adts", "fltp", (24_000, 32_000, 48_000), delay=1024),
)  # fmt: skip
"""Those of calls and messages (Opus), files (MP3), and phones' recordings (AAC)."""


def round_trip(voice: np.ndarray, codec: Codec, bit_rate: int) -> np.ndarray:
    """Encode and decode a recording.

    Args:
        voice: (n,) in [-1, 1], 16 kHz.

    Returns:
        (n,) float32, without the codec's delay and padding.
    """
    encoded = io.BytesIO()
    with av.open(encoded, "w", format=codec.container) as file:
        stream = file.add_stream(
            codec.encoder, rate=SAMPLE_RATE, layout="mono", format=codec.sample_format
        )
        stream.bit_rate = bit_rate
        stream.options = dict(codec.options)
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(codec.sample_format, "mono", SAMPLE_RATE, frame_size=size)
        padded = np.pad(voice.clip(-1, 1), (0, max(codec.delay, SHORTEST - len(voice))))
        samples = np.round(padded * FULL_SCALE).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    encoded.seek(0)
    decoded = []
    with av.open(encoded) as source:
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        for frame in source.decode(audio=0):
            decoded += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        decoded += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    wave = np.concatenate(decoded)[codec.delay : codec.delay + len(voice)]
    return np.pad(wave, (0, len(voice) - len(wave))).astype(np.float32) / FULL_SCALE


def coded(voice: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Put a recording through a random codec at a random bit rate."""
    codec = CODECS[random.integers(len(CODECS))]
    return round_trip(voice, codec, int(random.choice(codec.bit_rates)))
