"""Who of the faces in view speaks: whose mouth moves with the voice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mfer_edge.faces.mouth import MouthMotion
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.speech.vad import CHUNK, SAMPLE_RATE

SPEECH = 0.5  # mean probability from which on a step between two frames is speech
MIN_STEPS = 3  # in speech, to decide
SURE_STEPS = 12  # with fewer, the lead counts for less, in proportion
MIN_MOTION = 1e-3  # a picture does not move at all
STILL = 0.12  # mean motion in speech, under which a mouth is closed
MAX_CORRELATION = 0.95
# By a logistic regression on pairs of real faces, one that speaks beside one that does not, or
# beside one that says something else; rounded.
ACTIVITY_WEIGHT = 4.0  # of the logarithm of the mean motion
CORRELATION_WEIGHT = 1.5  # of motion with loudness, as Fisher's z in deviations of 4
MARGIN = 2.0
"""By which the best must lead. In steps of real clips put together to 4 s, one who speaks beside a
closed mouth is found in 67 to 79 %, the other one taken in 0.1 %; where both speak, and one is
heard, in 16 and 9 % at most. benchmarks/results/speakers.md has whole videos."""


@dataclass(frozen=True)
class Voice:
    """What is heard in a window."""

    start_s: float  # of the samples
    samples: np.ndarray  # (n,) float32, 16 kHz
    speech: np.ndarray  # (chunks,) probability of speech in each 512 samples


class Speakers:
    """Tells who of the people in a video speaks."""

    def __init__(self) -> None:
        self._mouths = MouthMotion()

    def push(self, time_s: float, image: np.ndarray, faces: Iterable[tuple[int, FaceBox]]) -> None:
        """Add the next frame; arguments are those of `MouthMotion.push`."""
        self._mouths.push(time_s, image, faces)

    def __call__(
        self, tracks: Iterable[int], start_s: float, end_s: float, voice: Voice
    ) -> dict[int, bool | None]:
        """Decide for each of the faces of a window whether it speaks: see `speaker`.

        What was before the window is forgotten.
        """
        self._mouths.drop(start_s)
        motions = {track: self._mouths.within(track, start_s, end_s) for track in tracks}
        return speaker(motions, voice)


def speaker(motions: Mapping[int, np.ndarray], voice: Voice) -> dict[int, bool | None]:
    """Decide for each face whether it speaks.

    Args:
        motions: by track, (n, 3) as `MouthMotion.within` gives them.

    Returns:
        By track: True for the one whose mouth moves with the voice, False for those whose does not;
        None where it can't be decided.
    """
    scores = {track: _score(motion, voice) for track, motion in motions.items()}
    still = [track for track, score in scores.items() if score is not None and score.still]
    open_ = {track: score for track, score in scores.items() if track not in still}
    decided: dict[int, bool | None] = dict.fromkeys(motions)
    decided.update(dict.fromkeys(still, False))
    if not open_ or None in open_.values():
        return decided
    ranked = sorted(
        ((score.value, track, score.steps) for track, score in open_.items() if score is not None),
        reverse=True,
    )
    best, *others = ranked
    sure = min(1.0, min(steps for _, _, steps in ranked) / SURE_STEPS)
    if not others or sure * (best[0] - others[0][0]) > MARGIN:
        decided.update({track: track == best[1] for track in open_})
    return decided


@dataclass(frozen=True)
class _Score:
    value: float
    still: bool
    steps: int  # in speech


def _score(motion: np.ndarray, voice: Voice) -> _Score | None:
    """How well a mouth's motion goes with the voice; None with too little of either."""
    steps = [(m, *heard) for a, b, m in motion if (heard := _heard(voice, a, b)) is not None]
    if len(steps) < MIN_STEPS:
        return None
    moved, speech, loudness = np.array(steps).T
    spoken = moved[speech > SPEECH]
    if len(spoken) < MIN_STEPS:
        return None
    correlation = 0.0
    if moved.std() > 0 and loudness.std() > 0:
        correlation = float(np.corrcoef(moved, loudness)[0, 1])
    fisher = np.arctanh(np.clip(correlation, -MAX_CORRELATION, MAX_CORRELATION))
    value = ACTIVITY_WEIGHT * np.log(max(MIN_MOTION, float(spoken.mean())))
    value += CORRELATION_WEIGHT * fisher * np.sqrt(max(1, len(moved) - 3)) / 4
    return _Score(float(value), bool(spoken.mean() < STILL), len(spoken))


def _heard(voice: Voice, start_s: float, end_s: float) -> tuple[float, float] | None:
    """Probability of speech, and loudness in powers of ten, between two times; None if unheard."""
    start = max(0, round((start_s - voice.start_s) * SAMPLE_RATE))
    end = round((end_s - voice.start_s) * SAMPLE_RATE)
    samples = voice.samples[start:end]
    speech = voice.speech[start // CHUNK : max(start // CHUNK + 1, end // CHUNK)]
    if not len(samples) or not len(speech):
        return None
    return float(speech.mean()), float(np.log10(np.square(samples).mean() + 1e-6))
