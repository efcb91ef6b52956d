"""Train the compact audio arm on RAVDESS, and measure it on speakers that it has not heard.

`python -m train.voices --data RAVDESS --whisper WEIGHTS --out DIR` goes through the five
subject-wise folds of Luna-Jimenez et al. 2022, then trains the arm that ships on all speakers.
The number of steps is fixed in advance: no fold's test speakers choose anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from train.arms import VoiceArm
from train.compact import AUDIO_WIDTH, DEPTH
from train.datasets import EMOTIONS, LUNA_JIMENEZ_FOLDS, ravdess_speech
from train.features import VoiceFeatures, voice_features
from train.fit import (
    Batch,
    FitOptions,
    calibration_error,
    fit,
    fit_temperature,
    softmax,
    unweighted_recall,
)
from train.speech_encoder import WIDTH

VIEWS = 8  # of each recording: itself and seven random changes
BATCH = 32


def train_voice_arm(
    features: VoiceFeatures, labels: np.ndarray, recordings: np.ndarray, epochs: int, seed: int
) -> VoiceArm:
    """Train an arm on some of the recordings, a random view of each at a time."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    arm = VoiceArm(DEPTH, WIDTH, AUDIO_WIDTH, len(EMOTIONS))

    def draw() -> Batch:
        chosen = random.choice(recordings, BATCH, replace=False)
        views = [features.view(i, int(random.integers(features.views))) for i in chosen]
        return [as_sequence(v) for v in views], torch.from_numpy(labels[chosen])

    fit(arm, draw, FitOptions(steps=epochs * len(recordings) // BATCH))
    return arm


def as_sequence(view: np.ndarray) -> Tensor:
    return torch.from_numpy(view.astype(np.float32))


@torch.inference_mode()
def predict(arm: VoiceArm, features: VoiceFeatures, recordings: np.ndarray) -> np.ndarray:
    """Give (n, 8) logits of recordings as they are."""
    return arm([as_sequence(features.view(i, 0)) for i in recordings]).numpy()


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--whisper", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--epochs", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(data: Path, whisper: Path, out: Path, epochs: int, seed: int) -> None:
    """Leave OUT/voice.pt, OUT/unseen.npz (logits of every recording by an arm that has not heard
    its speaker) and OUT/report.json."""
    recordings = ravdess_speech(data)
    features = voice_features(recordings, whisper, VIEWS, out / "cache")
    labels = np.array([recording.emotion for recording in recordings])
    actors = np.array([recording.actor for recording in recordings])

    logits = np.zeros((len(recordings), len(EMOTIONS)), np.float32)
    folds: list[dict[str, Any]] = []
    for number, test_actors in enumerate(LUNA_JIMENEZ_FOLDS, 1):
        test = np.isin(actors, test_actors)
        arm = train_voice_arm(features, labels, np.flatnonzero(~test), epochs, seed)
        logits[test] = predict(arm, features, np.flatnonzero(test))
        predicted = logits[test].argmax(1)
        fold = {
            "fold": number,
            "test_actors": test_actors,
            "recordings": int(test.sum()),
            "unweighted_recall": unweighted_recall(predicted, labels[test]),
            "accuracy": float((predicted == labels[test]).mean()),
        }
        folds.append(fold)
        click.echo(fold)

    temperature = fit_temperature(logits, labels)
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(confusion, (labels, logits.argmax(1)), 1)
    report = {
        "protocol": "five subject-wise folds (Luna-Jimenez et al. 2022), RAVDESS speech, 8 classes",
        "folds": folds,
        **{
            f"{name}_{statistic.__name__}": float(statistic([fold[name] for fold in folds]))
            for name in ("unweighted_recall", "accuracy")
            for statistic in (np.mean, np.std, np.min, np.max)
        },
        "chance": 1 / len(EMOTIONS),
        "majority_accuracy": float(np.bincount(labels).max() / len(labels)),
        "temperature": temperature,
        "calibration_error": calibration_error(softmax(logits / temperature), labels),
        "labels": EMOTIONS,
        "confusion": confusion.tolist(),
    }
    arm = train_voice_arm(features, labels, np.arange(len(labels)), epochs, seed)
    torch.save(arm.state_dict(), out / "voice.pt")
    np.savez(out / "unseen.npz", logits=logits, labels=labels, actors=actors)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    click.echo(json.dumps({k: v for k, v in report.items() if k != "folds"}, indent=1))


if __name__ == "__main__":
    main()
