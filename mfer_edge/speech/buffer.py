"""The audio arm: what a stretch of speech shows."""

from __future__ import annotations

import numpy as np

from mfer_edge.engines.base import Engine
from mfer_edge.speech.vad import CHUNK, SpeechProbability, collect_speech, speech_segments


class SpeechBuffer:
    """The latest stretch of a recording, and which of it is speech.

    Silero VAD runs when speech is asked for, so what it sees does not depend on how the recording
    was cut into pieces.
    """

    def __init__(self, vad: Engine) -> None:
        self._vad = SpeechProbability(vad)
        self._samples = np.zeros(0, np.float32)  # from self._start on
        self._probability = np.zeros(0, np.float32)  # of the chunks from self._start on
        self._start = 0  # whole chunks before it are forgotten
        self._pieces: list[np.ndarray] = []
        self.end = 0  # samples pushed

    def push(self, samples: np.ndarray) -> None:
        """Add the recording's next samples, (n,) float32."""
        self._pieces.append(samples.copy())  # a microphone's driver may use the array again
        self.end += len(samples)

    def speech(self, start: int, end: int, last: bool = False) -> np.ndarray:
        """Give the speech between two samples.

        Args:
            start, end: in samples of the recording; neither ever goes back.
            last: the recording ends there.

        Returns:
            (n,) float32 with what lies between left out; empty where nobody speaks.
        """
        self._listen(end, last)
        self._forget(start)
        segments = speech_segments(self._probability, end - self._start)
        inside = start - self._start
        samples = self._samples[inside : end - self._start]
        clipped = [s for s in (segment.after(inside) for segment in segments) if s is not None]
        return collect_speech(samples, clipped)

    def _listen(self, end: int, last: bool) -> None:
        self._samples = np.concatenate([self._samples, *self._pieces])
        self._pieces.clear()
        heard = len(self._probability) * CHUNK
        until = end - self._start
        if not last:
            until -= until % CHUNK
        if until > heard:
            fresh = self._vad(self._samples[heard:until])
            self._probability = np.concatenate([self._probability, fresh])

    def _forget(self, start: int) -> None:
        chunks = (start - self._start) // CHUNK
        self._samples = self._samples[chunks * CHUNK :]
        self._probability = self._probability[chunks:]
        self._start += chunks * CHUNK
