"""Who speaks: mouths that move with the voice, beside those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from mfer_edge.speech.speaker import STILL, Voice, speaker
from mfer_edge.speech.vad import CHUNK, SAMPLE_RATE

STEPS = 20
TALKING = np.array([0.3, 0.2, 0.35, 0.25] * 5)


def motion(values: np.ndarray, step_s: float = 0.2) -> np.ndarray:
    starts = np.arange(len(values)) * step_s
    return np.stack([starts, starts + step_s, values], axis=1)


def voice(loud: np.ndarray, speech: float = 1.0) -> Voice:
    """A voice as loud in each step as told."""
    wave = np.repeat(loud, round(0.2 * SAMPLE_RATE)).astype(np.float32)
    wave *= np.tile([1, -1], len(wave) // 2)
    return Voice(0.0, wave, np.full(len(wave) // CHUNK, speech, np.float32))


EVEN = voice(np.full(STEPS, 0.1))


def test_the_one_whose_mouth_moves() -> None:
    motions = {3: motion(np.full(STEPS, 0.1)), 5: motion(TALKING)}
    assert speaker(motions, EVEN) == {3: False, 5: True}


def test_two_who_move_alike_are_not_decided() -> None:
    motions = {0: motion(TALKING), 1: motion(TALKING[::-1])}
    assert speaker(motions, EVEN) == {0: None, 1: None}


def test_of_two_who_move_the_one_that_goes_with_the_voice() -> None:
    loud = voice(TALKING)
    assert speaker({0: motion(TALKING), 1: motion(0.55 - TALKING)}, loud) == {0: True, 1: False}


def test_a_third_one_with_a_closed_mouth_is_not_it() -> None:
    still = motion(np.full(STEPS, 0.8 * STILL))
    motions = {0: motion(TALKING), 1: motion(TALKING), 2: still}
    assert speaker(motions, EVEN) == {0: None, 1: None, 2: False}


def test_a_single_face() -> None:
    assert speaker({0: motion(TALKING)}, EVEN) == {0: True}
    assert speaker({0: motion(np.full(STEPS, 0.1))}, EVEN) == {0: False}


@pytest.mark.parametrize("steps", [0, 2])
def test_a_face_that_was_hardly_seen(steps: int) -> None:
    seen = motion(TALKING[:steps])
    assert speaker({0: seen}, EVEN) == {0: None}
    assert speaker({0: seen, 1: motion(TALKING)}, EVEN) == {0: None, 1: None}


def test_motion_without_speech_tells_nothing() -> None:
    assert speaker({0: motion(TALKING)}, voice(np.full(STEPS, 0.1), speech=0.1)) == {0: None}


def test_frames_beyond_the_sound() -> None:
    later = motion(TALKING) + np.array([60, 60, 0])
    assert speaker({0: later}, EVEN) == {0: None}
