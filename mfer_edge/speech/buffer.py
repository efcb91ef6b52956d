"""Audio of a session: its latest samples, and the speech in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mfer_edge.engines.base import Engine
from mfer_edge.speech.vad import (
    CHUNK,
    SAMPLE_RATE,
    SpeechProbability,
    collect_speech,
    speech_segments,
)

if TYPE_CHECKING:
    from mfer_edge.speech.speaker import Voice


class SpeechBuffer:
    """The latest part of a recording, and the speech in it.

    Silero VAD runs when speech is asked for, so its input does not depend on how the recording was
    cut into chunks.

    Attributes:
        end: samples pushed so far.
    """

    def __init__(self, vad: Engine) -> None:
        self.end = 0
        self._vad = SpeechProbability(vad)
        self._samples = np.zeros(0, np.float32)  # from self._start on
        self._probability = np.zeros(0, np.float32)  # of the VAD chunks from self._start on
        self._start = 0  # earlier samples, in whole VAD chunks, were dropped
        self._pushed: list[np.ndarray] = []  # not yet in self._samples

    def push(self, samples: np.ndarray) -> None:
        """Add the recording's next samples, (n,) float32."""
        self._pushed.append(samples.copy())  # a microphone's driver may reuse the array
        self.end += len(samples)

    def speech(self, start: int, end: int, last: bool = False) -> np.ndarray:
        """Return the speech between two samples, and drop what lies before them.

        Args:
            start, end: in samples of the recording; neither may ever go back.
            last: the recording ends there.

        Returns:
            (n,) float32, without the pauses; empty where there is no speech.
        """
        self._run_vad(end, last)
        self._drop(start)
        segments = speech_segments(self._probability, end - self._start)
        offset = start - self._start
        clipped = [s for s in (segment.after(offset) for segment in segments) if s is not None]
        return collect_speech(self._samples[offset : end - self._start], clipped)

    def samples(self, start: int, end: int) -> np.ndarray:
        """Return all samples between two, (n,) float32, of what was not dropped."""
        self._join()
        return self._samples[start - self._start : end - self._start]

    def voice(self, start_s: float, end_s: float) -> Voice:
        """Return what is heard between two times, from the start of a VAD chunk on.

        Only what `speech` was asked for, and what it did not drop.
        """
        from mfer_edge.speech.speaker import Voice

        start = round(start_s * SAMPLE_RATE) // CHUNK * CHUNK
        end = min(round(end_s * SAMPLE_RATE), self.end)
        first = (start - self._start) // CHUNK
        speech = self._probability[first : -(-(end - self._start) // CHUNK)]
        return Voice(start / SAMPLE_RATE, self.samples(start, end), speech)

    def _join(self) -> None:
        self._samples = np.concatenate([self._samples, *self._pushed])
        self._pushed.clear()

    def _run_vad(self, end: int, last: bool) -> None:
        self._join()
        done = len(self._probability) * CHUNK
        until = end - self._start
        if not last:
            until -= until % CHUNK
        if until > done:
            fresh = self._vad(self._samples[done:until])
            self._probability = np.concatenate([self._probability, fresh])

    def _drop(self, start: int) -> None:
        chunks = (start - self._start) // CHUNK
        self._samples = self._samples[chunks * CHUNK :]
        self._probability = self._probability[chunks:]
        self._start += chunks * CHUNK
