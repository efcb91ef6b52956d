"""Where a clip ended, beside where its header tells that it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from mfer_edge.sources.announced import AnnouncedDuration

MAX_SLACK_S = 0.5  # by which no container rounds, and no codec pads
EXACT_S = 0.02  # of sound that is stored as samples: time stamps may be rounded
SOUND_FRAMES = 4  # that encoders add before and after: AAC 3.04 of them
LOSSLESS_FRAMES = 1  # the last one need not be full
VIDEO_FRAMES = 2.5  # the last one's duration may be left out, or counted twice
PRECISE_S = 0.5  # below this, lengths are told to hundredths


@dataclass(frozen=True)
class TrackEnd:
    """End of a track, as the header tells it and as it was found."""

    name: str
    told_s: float | None  # None where there is no header of the track's own
    end_s: float
    slack_s: float  # by which the two may differ though nothing is missing


@dataclass(frozen=True)
class Ending:
    """End of a clip.

    Attributes:
        told: whole or track, the one whose end is missed; None for none.
        missing_s: of the whole clip, rounding included.
    """

    told: TrackEnd | None
    missing_s: float

    @classmethod
    def of(
        cls,
        announced: AnnouncedDuration,
        tracks: Sequence[TrackEnd],
        *,
        by_file: bool,
    ) -> Ending:
        """Compare the ends of all tracks that were read with what was announced.

        Args:
            by_file: whether the length of the file counts where a track tells none of its own.
        """
        if not tracks:
            return cls(None, 0.0)
        told = [track.told_s for track in tracks if track.told_s is not None]
        # Of the file as a whole, it may be a track that is not read which ends last.
        told_s = announced.duration_s if announced.is_told and by_file else 0.0
        if announced.is_told and len(told) == len(tracks):
            told_s = max(told)
        file = TrackEnd(
            "file", told_s, max(t.end_s for t in tracks), max(t.slack_s for t in tracks)
        )
        missed = [
            track for track in (file, *(tracks if announced.is_told else ())) if _is_early(track)
        ]
        return cls(missed[0] if missed else None, max(0.0, told_s - file.end_s))

    def note(self) -> str:
        """Sentence on what is missing at the end; "" if nothing is."""
        if self.told is None or self.told.told_s is None:
            return ""
        digits = 1 if self.told.told_s - self.told.end_s > PRECISE_S else 2
        return (
            f"the {self.told.name} ends after {self.told.end_s:.{digits}f} s of the "
            f"{self.told.told_s:.{digits}f} s that its header tells of: it may have been cut off"
        )


def _is_early(track: TrackEnd) -> bool:
    return track.told_s is not None and track.told_s - track.end_s > track.slack_s


def video_slack_s(video: VideoStream, longest_s: float) -> float:
    """By how much the end of a video may differ from what is told.

    Args:
        longest_s: between two frames. Of slides, the last one may be shown for any time.
    """
    if longest_s > MAX_SLACK_S:
        return math.inf
    rate = float(video.average_rate or 0)
    return min(MAX_SLACK_S, VIDEO_FRAMES / rate if rate > 0 else MAX_SLACK_S)


def sound_slack_s(audio: AudioStream, frame_s: float) -> float:
    """By how much the end of a sound may differ from what is told.

    Args:
        frame_s: duration of its longest frame.
    """
    if audio.codec_context.name.startswith("pcm_"):
        return EXACT_S
    frames = SOUND_FRAMES if audio.codec_context.codec.lossy else LOSSLESS_FRAMES
    return min(MAX_SLACK_S, EXACT_S + frames * frame_s)
