"""Sampling of a video: which frames are taken, which need not be decoded, how long they last."""

from __future__ import annotations

import math

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

MAX_OVERLAP_S = 1.0  # a time stamp further back than this starts a new clock, or is damaged
MAX_FRAME_S = 1.0  # a longer frame is damaged, or the last of a slide show
MAX_STILL_S = 3600.0  # a video's only frame that is longer is damaged
REMEMBERED_TICKS = 64  # a decoder reorders at most 16 frames, so packets are as far apart


class Sampler:
    """Choice of the first frame shown at or after each tick.

    Args:
        rate: ticks a second.
        unit_s: time base of the video, to which time stamps are rounded: in Matroska 1 ms.
    """

    def __init__(self, rate: float, unit_s: float) -> None:
        self._rate = rate
        self._slack_s = 1e-6 + unit_s / 2
        self._next = 0  # the tick at which the next frame is due

    def tick(self, time_s: float) -> int:
        """Number of ticks up to a time, in seconds from the clip's start."""
        return int((time_s + self._slack_s) * self._rate)

    def takes(self, time_s: float) -> bool:
        """Whether to take the next frame, in order of time."""
        reached = self.tick(time_s)
        if reached < self._next:
            return False
        self._next = reached + 1
        return True


class FrameSkipper:
    """Decoder set-up that skips frames which are neither taken nor referred to.

    A frame is not taken if one of the same tick is shown before it and came in an earlier packet.
    In H.264, often half of the frames are marked as non-reference frames: no other frame is
    predicted from them, so skipping those that are not taken changes no other frame. Other codecs
    are decoded whole: HEVC's mark, for one, holds within a frame's own temporal layer only.

    This relies on time stamps. Where they are missing or start again, after damage, and where a
    packet may hold a field instead of a frame, every packet is decoded from there on.

    Attributes:
        end_s: end of the video, by the packets that were skipped.
    """

    def __init__(self, stream: VideoStream, sampler: Sampler) -> None:
        self.end_s = 0.0
        self._stream, self._decoder = stream, stream.codec_context
        self._sampler = sampler
        self._earliest_s: dict[int, float] = {}  # of the frames of each of the latest ticks
        self._latest_s = -math.inf  # of all packets
        self._sure = self._decoder.name == "h264"
        self._progressive = False  # known once a frame is decoded

    def observe(self, frame: VideoFrame) -> None:
        """Take note of a decoded frame."""
        self._progressive = not frame.interlaced_frame
        self._sure &= self._progressive and not frame.is_corrupt

    def prepare(self, packet: Packet, start_s: float, damaged: bool) -> None:
        """Set the decoder up for the next packet of the video.

        Args:
            start_s: the time stamp at which the clip starts.
            damaged: whether anything in the clip was damaged so far.
        """
        self._sure &= not damaged
        skip = self._sure and self._can_skip(packet, start_s)
        self._decoder.skip_frame = "NONREF" if skip else "DEFAULT"

    def _can_skip(self, packet: Packet, start_s: float) -> bool:
        if packet.pts is None or packet.is_corrupt:
            self._sure = False
            return False
        if packet.is_discard:  # it is never shown
            return False
        time_s = packet.pts * float(packet.time_base) - start_s
        self._sure &= time_s >= self._latest_s - MAX_OVERLAP_S
        self._latest_s = max(self._latest_s, time_s)
        tick = self._sampler.tick(max(0.0, time_s))
        earliest_s = self._earliest_s.get(tick, math.inf)
        self._earliest_s[tick] = min(earliest_s, time_s)
        if len(self._earliest_s) > REMEMBERED_TICKS:
            del self._earliest_s[next(iter(self._earliest_s))]
        if not (self._sure and self._progressive and earliest_s < time_s):
            return False
        own_s = min(_own_duration_s(packet, self._stream), MAX_FRAME_S)
        self.end_s = max(self.end_s, time_s + own_s)
        return True


class VideoEnd:
    """End of a video, by the frames and packets so far.

    Attributes:
        expected_s: time at which the next frame would follow if it has no time stamp.
        longest_s: duration of the longest frame but the last one.
    """

    def __init__(self, stream: VideoStream | None) -> None:
        self.expected_s = 0.0
        self._stream = stream
        self._last_s: float | None = None
        self.longest_s = self._own_s = 0.0  # the latter of the last frame

    def add(self, frame: VideoFrame, time_s: float) -> None:
        """Take note of the next frame."""
        own_s = _own_duration_s(frame, self._stream)
        self.expected_s = max(self.expected_s, time_s + min(own_s, MAX_FRAME_S))
        if self._last_s is None or time_s > self._last_s:
            if self._last_s is not None:
                self.longest_s = max(self.longest_s, time_s - self._last_s)
            self._last_s, self._own_s = time_s, own_s

    def end_s(self, audio_s: float, told_s: float | None = None) -> float:
        """End of the last frame, as long as it says where that is plausible.

        Args:
            audio_s: end of the audio.
            told_s: end of the video by the file's header, if that tells.
        """
        if self._last_s is None:
            return self.expected_s
        longest_s = max(1.5 * self.longest_s, audio_s - self._last_s + MAX_FRAME_S)
        if not self.longest_s:
            longest_s = max(longest_s, MAX_STILL_S)
        end_s = self._last_s + self._own_s if self._own_s <= longest_s else 0.0
        if told_s is not None and told_s > self._last_s:
            end_s = min(end_s, told_s)
        return max(self.expected_s, end_s)


def _own_duration_s(frame: VideoFrame | Packet, stream: VideoStream | None) -> float:
    """Seconds for which a frame is shown; 0 where neither it nor its track says."""
    own_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
    rate = stream.average_rate if stream is not None else None
    return max(0.0, own_s or (float(1 / rate) if rate else 0.0))
