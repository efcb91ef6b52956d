"""Decoded audio of any rate and layout, resampled to 16 kHz mono without gaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from mfer_edge.errors import MediaError
from mfer_edge.sources.phase import PhaseCorrection
from mfer_edge.speech.vad import SAMPLE_RATE

MAX_DRIFT_S = 0.1  # audio that is further than this from its time stamp is moved there
MIN_GAP_S = 1.0  # of a pause in the time stamps, to be worth a warning: Opus pauses for 0.4 s
SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; others are damage, and take FFmpeg gigabytes
SILENCE_BLOCK = SAMPLE_RATE  # samples of silence in one piece


class MonoResampler:
    """Resampler of a track to 16 kHz mono, gapless from the clip's start.

    Attributes:
        written: samples returned so far.
        end_s: end of the latest frame by the track's time stamps; the next frame follows there,
            unless something is missing.
        phase: what is corrected before the channels are mixed.
        dropped_s: of what came twice by its time stamps.
        gaps_s: of longer pauses by the time stamps, between frames.
        heard_s: of all frames, without what lies between them.
        longest_frame_s: duration of the longest frame.
        averaged: layouts that FFmpeg can't mix, whose channels were averaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.written = 0
        self.end_s = 0.0
        self.dropped_s = self.gaps_s = self.heard_s = self.longest_frame_s = 0.0
        self.phase = PhaseCorrection()
        self.averaged: set[str] = set()
        self._path = path
        self._format: tuple[str, str, int] | None = None  # of the latest frame
        self._graph: Graph | None = None
        self._repeated = 0  # samples to come that lie before the end of what was written

    def push(self, frame: AudioFrame, time_s: float | None) -> Iterator[np.ndarray]:
        """Resample the next frame: arrays of (n,) float32.

        Args:
            time_s: from the clip's start; None if the frame has no time stamp.

        Raises:
            MediaError: samples are not finite.
        """
        format_ = frame.format.name, frame.layout.name, frame.sample_rate
        drift_s = 0.0 if time_s is None else time_s - self.end_s
        if self._format is not None and drift_s > MIN_GAP_S:
            self.gaps_s += drift_s
        if format_ != self._format or abs(drift_s) > MAX_DRIFT_S:
            yield from self.flush()
            yield from self._move(self.end_s + drift_s)
            self._format, self._graph = format_, self._to_mono(frame)
        frame_s = frame.samples / frame.sample_rate
        self.end_s += frame_s
        self.heard_s += frame_s
        self.longest_frame_s = max(self.longest_frame_s, frame_s)
        frame = self.phase(frame)
        yield from self._convert(average(frame) if frame.layout.name in self.averaged else frame)

    def flush(self) -> Iterator[np.ndarray]:
        """Return what the filters still hold."""
        yield from self._convert(None)

    def _to_mono(self, frame: AudioFrame) -> Graph:
        if frame.layout.name not in self.averaged:
            try:
                return to_mono(frame)
            except av.error.FFmpegError:  # as of ambisonics: no channel has a place
                self.averaged.add(frame.layout.name)
        return to_mono(average(frame))

    def _convert(self, frame: AudioFrame | None) -> Iterator[np.ndarray]:
        if self._graph is not None:
            for converted in filtered(self._graph, frame):
                yield from self._add(converted)

    def _move(self, time_s: float) -> Iterator[np.ndarray]:
        """Continue at another time: fill the gap with silence, or drop what would be repeated."""
        self.end_s = time_s
        missing = round(time_s * SAMPLE_RATE) - self.written
        self._repeated = max(0, -missing)
        for start in range(0, missing, SILENCE_BLOCK):
            silence = np.zeros(min(SILENCE_BLOCK, missing - start), np.float32)
            self.written += len(silence)
            yield silence

    def _add(self, frame: AudioFrame) -> Iterator[np.ndarray]:
        samples = frame.to_ndarray()[0]
        if not np.isfinite(samples).all():
            raise MediaError(f"{self._path}: the audio holds NaN or infinite samples")
        dropped = min(self._repeated, len(samples))
        samples, self._repeated = samples[dropped:], self._repeated - dropped
        self.dropped_s += dropped / SAMPLE_RATE
        if len(samples):
            self.written += len(samples)
            yield samples


def filtered(graph: Graph, frame: AudioFrame | None) -> Iterator[AudioFrame]:
    """Push a frame through a filter graph, or None at the end; yield what comes out by now."""
    graph.push(frame)
    while True:
        try:
            converted = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):  # nothing more for now, or ever
            return
        if isinstance(converted, AudioFrame):
            yield converted


def to_mono(frame: AudioFrame) -> Graph:
    """Build the filter graph for frames of this format.

    Raises:
        av.error.FFmpegError: FFmpeg does not know how to mix these channels.
    """
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


def average(frame: AudioFrame) -> AudioFrame:
    """The plain average of all channels, as a mono frame of float samples."""
    samples = frame.to_ndarray()  # planar: (channels, n); packed: (1, n * channels)
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mean = samples.mean(axis=0, dtype=np.float64)
    if samples.dtype.kind in "iu":
        full_scale = 2.0 ** (8 * samples.itemsize - 1)
        mean = (mean - full_scale * (samples.dtype.kind == "u")) / full_scale
    mono = AudioFrame.from_ndarray(mean[None].astype(np.float32), format="flt", layout="mono")
    mono.sample_rate, mono.pts = frame.sample_rate, frame.pts
    if frame.time_base is not None:
        mono.time_base = frame.time_base
    return mono


def can_be_resampled(frame: AudioFrame) -> bool:
    """Whether FFmpeg can bring a frame to 16 kHz."""
    return frame.sample_rate in SAMPLE_RATES
