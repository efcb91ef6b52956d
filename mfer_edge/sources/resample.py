"""Clips in: one decoding pass gives pictures at a fixed rate and 16 kHz mono sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from mfer_edge.errors import MediaError
from mfer_edge.speech.vad import SAMPLE_RATE

MAX_DRIFT_S = 0.1  # sound that is further than this from its time stamp is moved there
SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; others are damage, and FFmpeg would take GBs for them
SILENCE_BLOCK = SAMPLE_RATE  # samples of silence given at a time


class MonoResampler:
    """Turns decoded sound into one gapless 16 kHz mono line that starts at the clip's start."""

    def __init__(self, path: Path) -> None:
        self.given = 0  # samples
        self.end_s = 0.0  # where the next frame belongs if nothing is missing
        self._path = path
        self._form: tuple[str, str, int] | None = None  # of the frames that came last
        self._graph: Graph | None = None
        self._heard = 0  # samples to come that lie before the end of the line

    def push(self, frame: AudioFrame, time_s: float | None) -> Iterator[np.ndarray]:
        form = frame.format.name, frame.layout.name, frame.sample_rate
        drift_s = 0.0 if time_s is None else time_s - self.end_s
        if form != self._form or abs(drift_s) > MAX_DRIFT_S:
            yield from self.flush()
            yield from self._move(self.end_s + drift_s)
            self._form, self._graph = form, _to_mono(frame)
        self.end_s += frame.samples / frame.sample_rate
        yield from self._convert(frame)

    def flush(self) -> Iterator[np.ndarray]:
        """Give what the filters still hold."""
        yield from self._convert(None)

    def _convert(self, frame: AudioFrame | None) -> Iterator[np.ndarray]:
        if self._graph is None:
            return
        self._graph.push(frame)
        while True:
            try:
                converted = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):  # nothing more for now, or ever
                return
            if isinstance(converted, AudioFrame):
                yield from self._add(converted)

    def _move(self, time_s: float) -> Iterator[np.ndarray]:
        """Continue at another time: fill up to it with silence, or leave out what was heard."""
        self.end_s = time_s
        missing = round(time_s * SAMPLE_RATE) - self.given
        self._heard = max(0, -missing)
        for start in range(0, missing, SILENCE_BLOCK):
            silence = np.zeros(min(SILENCE_BLOCK, missing - start), np.float32)
            self.given += len(silence)
            yield silence

    def _add(self, frame: AudioFrame) -> Iterator[np.ndarray]:
        samples = frame.to_ndarray()[0]
        if not np.isfinite(samples).all():
            raise MediaError(f"{self._path}: the sound holds NaN or infinite samples")
        samples, self._heard = samples[self._heard :], max(0, self._heard - len(samples))
        if len(samples):
            self.given += len(samples)
            yield samples


def _to_mono(frame: AudioFrame) -> Graph:
    graph = Graph()
    source = graph.add_abuffer(
        sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name
    )
    # Without a limit FFmpeg adds stereo up, 3 dB too loud, and 5.1 channels far over full scale.
    # `av.AudioResampler` takes no such option before PyAV 18.
    mix = graph.add(
        "aresample", f"{SAMPLE_RATE}:out_chlayout=mono:out_sample_fmt=flt:rematrix_maxval=1"
    )
    sink = graph.add("abuffersink")
    source.link_to(mix)
    mix.link_to(sink)
    graph.configure()
    return graph


def can_be_mixed(frame: AudioFrame) -> bool:
    """Whether FFmpeg can bring the sound to 16 kHz mono."""
    # It guesses what up to eight channels are when the file doesn't tell.
    known = frame.layout.nb_channels <= 8 or not frame.layout.name.endswith(" channels")
    return known and frame.sample_rate in SAMPLE_RATES
