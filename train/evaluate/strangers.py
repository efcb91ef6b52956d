"""An arm's predictions of people and corpora that it was not trained on, to calibrate it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.evaluate.corpora import PLAIN, STRONG
from train.evaluate.metrics import fit_temperature, softmax
from train.evaluate.predictions import Predictions


@dataclass(frozen=True)
class StrangerLogits:
    """An arm's logits by what they are of, such as datasets: every group counts as much."""

    logits: np.ndarray  # (n, labels) float32
    truth: np.ndarray  # (n,) int64
    groups: np.ndarray  # (n,) names

    @classmethod
    def none(cls, labels: int) -> StrangerLogits:
        """No predictions."""
        return cls(np.zeros((0, labels), np.float32), np.zeros(0, np.int64), np.zeros(0, "U1"))

    @classmethod
    def of(cls, predictions: Predictions) -> StrangerLogits:
        """Take predictions, grouped by dataset."""
        return cls(predictions.logits, predictions.truth, np.array(predictions.datasets))

    def with_group(self, name: str, logits: np.ndarray, truth: np.ndarray) -> StrangerLogits:
        """The same with one more group."""
        return StrangerLogits(
            np.concatenate([self.logits, logits]),
            np.concatenate([self.truth, truth]),
            np.concatenate([self.groups, np.full(len(truth), name)]),
        )

    def without(self, name: str) -> StrangerLogits:
        """The same without one group."""
        kept = self.groups != name
        return StrangerLogits(self.logits[kept], self.truth[kept], self.groups[kept])

    def temperature(self) -> float:
        """The temperature that is likeliest over the groups."""
        return fit_temperature(self.logits, self.truth, self.groups)


@dataclass(frozen=True)
class TalkFigures:
    """Ordinary talk of people left out: shares of recordings."""

    neutral: float  # called neutral
    false_alarms: float  # called anything else with a score of at least STRONG
    recordings: int
    people: int

    @classmethod
    def of(cls, talk: Predictions, temperature: float) -> TalkFigures:
        """Measure predictions of talk with an arm's temperature."""
        scores = softmax(talk.logits / temperature)
        plain = np.isin(np.array(talk.labels)[scores.argmax(1)], PLAIN)
        return cls(
            float(plain.mean()),
            float((~plain & (scores.max(1) >= STRONG)).mean()),
            len(plain),
            len(set(talk.actors)),
        )
