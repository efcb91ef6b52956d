"""Voice activity detection by Silero VAD (Silero Team 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfer_edge.engines.base import Engine

SAMPLE_RATE = 16_000  # Hz, what Silero VAD and the audio backbones were trained on
CHUNK = 512  # samples, 32 ms: the one chunk size that the 16 kHz Silero model takes
CALL_CHUNKS = 512  # chunks in one call of the engine, 16 s: its memory grows with them
CONTEXT = 64  # samples of the chunk before, which Silero takes again
STATE = (1, 1, 128)  # shape of each of the two LSTM states


@dataclass(frozen=True)
class VadOptions:
    """Options of the segmentation; the defaults are the `silero-vad` package's."""

    threshold: float = 0.5  # probability from which speech begins
    end_threshold: float = 0.35  # probability under which speech may end
    min_speech_s: float = 0.25  # shorter speech is dropped
    min_silence_s: float = 0.1  # shorter silence does not end speech
    pad_s: float = 0.03  # added on both sides of a segment


@dataclass(frozen=True)
class SpeechSegment:
    """A part of a recording that contains speech, in samples."""

    start: int  # first sample
    end: int  # one past the last sample

    def after(self, sample: int) -> SpeechSegment | None:
        """The same segment where a recording's first samples are cut off; None if it ends there."""
        if self.end <= sample:
            return None
        return SpeechSegment(max(0, self.start - sample), self.end - sample)


class SpeechProbability:
    """Silero VAD on a recording that arrives in parts.

    Args:
        engine: the bundle's `vad`, which takes any number of chunks in one call.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hidden = np.zeros(STATE, np.float32)
        self._cell = np.zeros(STATE, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Compute the probability of speech in each of the recording's next chunks.

        Args:
            samples: (n,) float32, 16 kHz, following on the samples of the call before. A last
                chunk that is not full is padded with zeros, so only a recording's last call may
                have one.

        Returns:
            (ceil(n / 512),) float32.
        """
        starts = range(0, len(samples), CALL_CHUNKS * CHUNK)
        blocks = [self._block(samples[start : start + CALL_CHUNKS * CHUNK]) for start in starts]
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def _block(self, samples: np.ndarray) -> np.ndarray:
        chunks = -(-len(samples) // CHUNK)
        padded = np.zeros(CONTEXT + chunks * CHUNK, np.float32)
        padded[:CONTEXT] = self._context
        padded[CONTEXT : CONTEXT + len(samples)] = samples
        self._context = padded[-CONTEXT:].copy()
        frames = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK)[::CHUNK]
        result = self._engine(input=np.ascontiguousarray(frames), h=self._hidden, c=self._cell)
        self._hidden, self._cell = result["hn"], result["cn"]
        return result["speech_probs"]


def speech_segments(
    probability: np.ndarray, length: int, options: VadOptions | None = None
) -> list[SpeechSegment]:
    """Find segments of speech by `silero-vad`'s own rules.

    Args:
        probability: (chunks,) speech probability of each 512-sample chunk.
        length: samples in the recording. Speech that goes on in the last chunk ends here; in a
            stream, the last samples, less than a chunk, have no probability yet.

    Returns:
        Segments in order, not overlapping.
    """
    options = options or VadOptions()
    spans = _spans(probability, length, options)
    return _padded(spans, length, round(options.pad_s * SAMPLE_RATE))


def _spans(probability: np.ndarray, length: int, options: VadOptions) -> list[tuple[int, int]]:
    """Spans from a chunk at the threshold to the start of a long enough silence."""
    min_speech = round(options.min_speech_s * SAMPLE_RATE)
    min_silence = round(options.min_silence_s * SAMPLE_RATE)
    spans: list[tuple[int, int]] = []
    start: int | None = None  # of the current speech
    quiet: int | None = None  # where it may have ended
    for chunk, value in enumerate(probability.tolist()):
        at = chunk * CHUNK
        if value >= options.threshold:
            quiet = None
            if start is None:
                start = at
        elif value < options.end_threshold and start is not None:
            if quiet is None:
                quiet = at
            if at - quiet >= min_silence:
                if quiet - start > min_speech:
                    spans.append((start, quiet))
                start = quiet = None
    if start is not None and length - start > min_speech:
        spans.append((start, length))
    return spans


def _padded(spans: list[tuple[int, int]], length: int, pad: int) -> list[SpeechSegment]:
    """Widen spans by the padding; neighbours closer than twice that share the gap between them."""
    starts = [start for start, _ in spans]
    ends = [end for _, end in spans]
    for index in range(len(spans)):
        gap_before = starts[index] - spans[index - 1][1] if index else None
        gap_after = spans[index + 1][0] - ends[index] if index + 1 < len(spans) else None
        room_before = pad if gap_before is None or gap_before >= 2 * pad else gap_before // 2
        room_after = pad if gap_after is None or gap_after >= 2 * pad else gap_after // 2
        starts[index] = max(0, starts[index] - room_before)
        ends[index] = min(length, ends[index] + room_after)
    return [SpeechSegment(start, end) for start, end in zip(starts, ends, strict=True)]


def collect_speech(samples: np.ndarray, segments: list[SpeechSegment]) -> np.ndarray:
    """Concatenate the speech of a recording: (m,) of the (n,) samples."""
    if not segments:
        return samples[:0]
    return np.concatenate([samples[segment.start : segment.end] for segment in segments])
