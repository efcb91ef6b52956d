"""Features of recordings under the frozen speech encoder, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import load_file

from export.assets import SILERO_VAD
from mfer_edge.bundle import file_sha256
from mfer_edge.engine import Engine, providers_for
from mfer_edge.media import read_sound
from mfer_edge.vad import SpeechProbability, collect_speech, speech_segments
from train.augment_voices import vary_voice
from train.compact import DEPTH, MAX_STEPS, POOL, pool_steps
from train.datasets import Recording
from train.speech_encoder import SAMPLE_RATE, SpeechEncoder

LONGEST_S = 4.0  # of speech in one window


@dataclass(frozen=True)
class VoiceFeatures:
    """What the speech encoder makes of each view of each recording."""

    states: np.ndarray  # (all steps, depth, 384) float16, the views one after another
    ends: np.ndarray  # (recordings, views) int64: one past each view's last step

    def view(self, recording: int, view: int) -> np.ndarray:
        """One view of a recording, (steps, depth, 384); view 0 is the recording as it is."""
        flat = recording * self.ends.shape[1] + view
        start = self.ends.flat[flat - 1] if flat else 0
        return self.states[start : self.ends.flat[flat]]

    @property
    def views(self) -> int:
        return self.ends.shape[1]


def speech_of(path: Path, vad: Engine) -> np.ndarray:
    """The speech in a recording, as the runtime hears it; all of it where it hears none."""
    samples = read_sound(path)
    segments = speech_segments(SpeechProbability(vad)(samples), len(samples))
    return collect_speech(samples, segments) if segments else samples


def voice_features(
    recordings: list[Recording], whisper: Path, views: int, cache: Path
) -> VoiceFeatures:
    """Compute, or read back, the features of recordings and of random changes to them.

    Args:
        whisper: the encoder's published weights.
        views: of each recording: itself, and this many less one random changes.
        cache: a folder for them; its files are named by what they were made from.
    """
    key = hashlib.sha256(repr((LONGEST_S, POOL, DEPTH, views, file_sha256(whisper))).encode())
    key.update(Path(__file__).with_name("augment_voices.py").read_bytes())
    for recording in recordings:
        key.update(f"{recording.path.name}{recording.path.stat().st_size}".encode())
    stem = cache / f"voices-{key.hexdigest()[:16]}"
    states_path, ends_path = stem.with_suffix(".states.npy"), stem.with_suffix(".ends.npy")
    if ends_path.exists():
        return VoiceFeatures(np.load(states_path), np.load(ends_path))

    encoder = SpeechEncoder(DEPTH, MAX_STEPS).eval()
    encoder.load_whisper(load_file(whisper))
    vad = Engine(SILERO_VAD, providers_for("cpu"), threads=1)
    longest = int(LONGEST_S * SAMPLE_RATE)
    pieces: list[np.ndarray] = []
    with click.progressbar(recordings, label="voice features") as progress:
        for index, recording in enumerate(progress):
            speech = speech_of(recording.path, vad)
            random = np.random.default_rng(index)
            for view in range(views):
                voice = (vary_voice(speech, random) if view else speech)[:longest]
                with torch.inference_mode():
                    states = pool_steps(encoder(torch.from_numpy(voice)[None]))[0]
                pieces.append(states.half().numpy())
    ends = np.cumsum([len(piece) for piece in pieces]).reshape(len(recordings), views)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(states_path, np.concatenate(pieces))
    np.save(ends_path, ends)
    return VoiceFeatures(np.load(states_path), ends)
