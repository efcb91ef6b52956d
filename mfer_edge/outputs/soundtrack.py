"""Sound of a clip in the packets of an mp4: copied where players take it, else encoded as AAC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import av
import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.packet import Packet

from mfer_edge.sources.resample import average, filtered
from mfer_edge.sources.sampling import MAX_OVERLAP_S

AAC_RATE = 48_000  # Hz, for audio at a rate that AAC does not have
AAC_FRAME = 1024  # samples per packet
MAX_JUMP_S = 60  # as in `Clip`
MAX_DRIFT_S = Fraction(1, 20)  # sound that is nearer to its time stamp follows without a gap


class SoundClock:
    """Times from the start of a clip, whose time stamps may start anew: a joined recording.

    Args:
        start_s: time stamp at which the clip starts.
        duration_s: as announced.
    """

    def __init__(self, start_s: Fraction, duration_s: Fraction) -> None:
        self._start_s = start_s
        self._duration_s = duration_s

    def time_s(self, stamp_s: Fraction, expected_s: Fraction) -> Fraction:
        """Time of what has this time stamp; `expected_s` if the stamps start anew there."""
        time_s = stamp_s - self._start_s
        latest_s = max(expected_s, self._duration_s) + MAX_JUMP_S
        if not expected_s - Fraction(MAX_OVERLAP_S) <= time_s <= latest_s:
            self._start_s, time_s = stamp_s - expected_s, expected_s
        return time_s


def audio_packets(
    source: InputContainer, stream: AudioStream, target: OutputContainer
) -> Iterator[Packet]:
    """Audio packets for a new stream of the target, with times from the start of the clip."""
    start_s = Fraction(source.start_time or 0, av.time_base)
    clock = SoundClock(start_s, Fraction(source.duration or 0, av.time_base))
    packets = _packets(source, stream)
    context = stream.codec_context
    if _plays_in_mp4(context):
        return _copied(packets, target.add_stream_from_template(stream), clock)
    rate = context.rate if context.rate in (av.Codec("aac", "w").audio_rates or ()) else AAC_RATE
    encoded = target.add_stream("aac", rate)
    encoded.layout = "mono" if context.layout.nb_channels == 1 else "stereo"
    return _encoded(packets, encoded, clock)


def _plays_in_mp4(context: AudioCodecContext) -> bool:
    """Whether browsers play these packets in an mp4 as they are.

    AAC without a header of its own (in a transport stream) may change its format from one packet to
    the next, where recordings were joined.
    """
    name = context.codec.canonical_name
    return name == "mp3" or (name == "aac" and bool(context.extradata))


def _packets(source: InputContainer, stream: AudioStream) -> Iterator[Packet]:
    with suppress(av.error.FFmpegError, IndexError):  # as in `Clip`: the rest can't be read
        yield from source.demux(stream)


def _copied(packets: Iterator[Packet], target: AudioStream, clock: SoundClock) -> Iterator[Packet]:
    last: int | None = None
    end_s = Fraction(0)
    for packet in packets:
        if packet.dts is None or not packet.size:
            continue  # end of the file, or damaged
        unit = packet.time_base
        later = 0 if packet.pts is None else packet.pts - packet.dts
        packet.dts = round(clock.time_s(packet.dts * unit, end_s) / unit)
        packet.pts = packet.dts + later
        end_s = max(end_s, (packet.dts + (packet.duration or 0)) * unit)
        if last is not None and packet.dts <= last:
            continue  # damaged
        last = packet.dts
        packet.stream = target
        yield packet


def _encoded(packets: Iterator[Packet], target: AudioStream, clock: SoundClock) -> Iterator[Packet]:
    encoder = AacEncoder(target)
    for frame in _decoded(packets):
        time_s = None
        if frame.pts is not None and frame.time_base is not None:
            time_s = max(Fraction(0), clock.time_s(frame.pts * frame.time_base, encoder.end_s))
        yield from encoder.push(frame, time_s)
    yield from encoder.finish()


def _decoded(packets: Iterator[Packet]) -> Iterator[AudioFrame]:
    for packet in packets:
        with suppress(av.error.FFmpegError):  # a damaged packet
            for frame in packet.decode():
                if isinstance(frame, AudioFrame) and frame.sample_rate > 0:
                    yield frame


class AacEncoder:
    """Encoder of frames of any format, which may change, into one track without gaps.

    Args:
        target: the track, of an AAC encoder.

    Attributes:
        end_s: end of the latest frame.
    """

    def __init__(self, target: AudioStream) -> None:
        self.end_s = Fraction(0)
        self._target = target
        self._rate = target.codec_context.rate
        self._fifo = AudioFifo()
        self._graph: Graph | None = None
        self._averages = False  # channels that FFmpeg can't mix
        self._format: tuple[str, str, int] | None = None  # of the latest frame
        self._encoded: int | None = None  # samples up to which the track is encoded
        self._end = 0  # and to which the queue reaches
        self._repeated = 0  # samples to come that lie before that

    def push(self, frame: AudioFrame, time_s: Fraction | None) -> Iterator[Packet]:
        """Encode the next frame; without a time it follows the one before."""
        format_ = frame.format.name, frame.layout.name, frame.sample_rate
        time_s = self.end_s if time_s is None else time_s
        if format_ != self._format or abs(time_s - self.end_s) > MAX_DRIFT_S:
            self._flush()
            self._move(round(time_s * self._rate))
            self.end_s = time_s
            self._format, self._graph = format_, self._converter(frame)
        self.end_s += Fraction(frame.samples, frame.sample_rate)
        self._convert(average(frame) if self._averages else frame)
        yield from self._encode(AAC_FRAME)

    def finish(self) -> Iterator[Packet]:
        """Encode the rest."""
        self._flush()
        yield from self._encode(AAC_FRAME)
        yield from self._encode(0)
        yield from self._target.encode(None)

    def _move(self, start: int) -> None:
        """Continue at another sample: fill the gap with silence, or drop what would be repeated."""
        if self._encoded is None:
            self._encoded = self._end = start
        self._repeated = max(0, self._end - start)
        while self._end < start:
            samples = min(self._rate, start - self._end)
            layout = self._target.layout
            silence = np.zeros((layout.nb_channels, samples), np.float32)
            frame = AudioFrame.from_ndarray(silence, format="fltp", layout=layout.name)
            frame.sample_rate = self._rate
            self._queue(frame)

    def _converter(self, frame: AudioFrame) -> Graph:
        self._averages = False
        try:
            return self._graph_of(frame)
        except av.error.FFmpegError:  # as of ambisonics: no channel has a place
            self._averages = True
        return self._graph_of(average(frame))

    def _graph_of(self, frame: AudioFrame) -> Graph:
        graph = Graph()
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name
        )
        layout = self._target.layout.name
        # As in `MonoResampler`: without a limit, more channels than two add up over full scale.
        options = f"out_chlayout={layout}:out_sample_fmt=fltp:rematrix_maxval=1"
        mix = graph.add("aresample", f"{self._rate}:{options}")
        sink = graph.add("abuffersink")
        source.link_to(mix)
        mix.link_to(sink)
        graph.configure()
        return graph

    def _flush(self) -> None:
        self._convert(None)
        self._graph = None

    def _convert(self, frame: AudioFrame | None) -> None:
        if self._graph is not None:
            for converted in filtered(self._graph, frame):
                self._queue(self._unrepeated(converted))

    def _unrepeated(self, frame: AudioFrame) -> AudioFrame | None:
        if not self._repeated:
            return frame
        samples = np.ascontiguousarray(frame.to_ndarray()[:, self._repeated :], np.float32)
        self._repeated = max(0, self._repeated - frame.samples)
        if not samples.shape[1]:
            return None
        rest = AudioFrame.from_ndarray(samples, format="fltp", layout=frame.layout.name)
        rest.sample_rate = self._rate
        return rest

    def _queue(self, frame: AudioFrame | None) -> None:
        if frame is not None:
            frame.pts = None  # the queue counts by itself
            self._end += frame.samples
            self._fifo.write(frame)

    def _encode(self, samples: int) -> Iterator[Packet]:
        """Encode frames of so many samples from the queue; 0 takes what it holds."""
        while frame := self._fifo.read(samples, partial=samples == 0):
            assert self._encoded is not None
            frame.pts, frame.time_base = self._encoded, Fraction(1, self._rate)
            self._encoded += frame.samples
            yield from self._target.encode(frame)
