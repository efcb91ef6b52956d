"""Which of a container's tracks are read: the ones that players play, or those asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import TrackChoice

READ_AHEAD_BYTES = 16_000_000  # of packets that are held to find out which tracks hold data
NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
SECONDARY = {
    Disposition.comment: "comments",
    Disposition.descriptions: "descriptions",
    Disposition.visual_impaired: "for the visually impaired",
    Disposition.hearing_impaired: "for the hearing impaired",
    Disposition.clean_effects: "without speech",
    Disposition.karaoke: "karaoke",
    Disposition.dub: "dubbed",
    Disposition.still_image: "stills",
}
"""Tracks that a player takes only if they are the default one, or there is no other."""

S = TypeVar("S", bound=Stream)


@dataclass(frozen=True)
class Tracks:
    """The tracks of a container that are read.

    Attributes:
        video_note, audio_note: what to tell of tracks that were not chosen; "" for nothing.
    """

    video: VideoStream | None
    audio: AudioStream | None
    video_note: str
    audio_note: str
    read_ahead: tuple[Packet, ...]  # packets that were read in order to choose

    def packets(self, container: InputContainer, *streams: Stream) -> Iterator[Packet]:
        """Demux some of the tracks from the container's start.

        Raises:
            av.error.FFmpegError: the file can't be read from here on.
        """
        wanted = {stream.index for stream in streams}
        yield from (p for p in self.read_ahead if p.stream.index in wanted)
        yield from container.demux(*streams)


def choose_tracks(container: InputContainer, choice: TrackChoice, name: str) -> Tracks:
    """Choose a video and an audio track: those asked for, else as players do.

    That is the first track with a default flag, else the first that is no comment or the like, of
    those that hold data and that FFmpeg can decode.

    Args:
        name: of the clip, for messages.

    Raises:
        MediaError: a track that was asked for does not exist or can't be decoded.
    """
    videos = [s for s in container.streams.video if not s.disposition & NO_VIDEO]
    audios = list(container.streams.audio)
    video_order = _order(videos, choice.video, f"{name}: video track")
    audio_order = _order(audios, choice.audio, f"{name}: sound track")
    ahead = _read_ahead(container, [o for o in (video_order, audio_order) if len(o) > 1])
    full = {packet.stream.index for packet in ahead}
    video, audio = _first(video_order, full), _first(audio_order, full)
    return Tracks(
        video,
        audio,
        "" if choice.video else _note(videos, video, "video"),
        "" if choice.audio else _note(audios, audio, "audio"),
        tuple(ahead),
    )


def _order(streams: Sequence[S], number: int | None, what: str) -> list[S]:
    """Streams that can be decoded, the one to be preferred first; only the one asked for."""
    if number is not None:
        if not 1 <= number <= len(streams):
            are = "is" if len(streams) == 1 else "are"
            raise MediaError(f"{what} {number}: there {are} {len(streams)}")
        if streams[number - 1].codec_context is None:  # a codec that FFmpeg does not know
            raise MediaError(f"{what} {number}: it can't be decoded")
        return [streams[number - 1]]
    usable = [s for s in streams if s.codec_context is not None]
    return sorted(usable, key=lambda s: (not s.disposition & Disposition.default, _is_secondary(s)))


def _is_secondary(stream: Stream) -> bool:
    return any(stream.disposition & flag for flag in SECONDARY)


def _read_ahead(container: InputContainer, orders: Sequence[Sequence[Stream]]) -> list[Packet]:
    """Read packets until the preferred track of each kind is known to hold data."""
    unsure = {order[0].index for order in orders if not order[0].frames}
    ahead: list[Packet] = []
    held = 0
    packets = container.demux(*container.streams.video, *container.streams.audio) if unsure else ()
    try:
        for packet in packets:
            if packet.size:
                ahead.append(packet)
                held += packet.size
                unsure.discard(packet.stream.index)
            if not unsure or held > READ_AHEAD_BYTES:
                break
    except (av.error.FFmpegError, IndexError):  # as where the packets are read: so far and no more
        pass
    return ahead


def _first(order: Sequence[S], full: set[int]) -> S | None:
    """The first that holds data, as far as is known; else the first."""
    return next((s for s in order if s.frames or s.index in full), order[0] if order else None)


def _note(streams: Sequence[Stream], chosen: Stream | None, kind: str) -> str:
    """Sentence on the tracks that were not chosen."""
    kind_name = {"video": "video", "audio": "sound"}[kind]
    if chosen is None and streams:
        return f"the {kind_name} is in a format that FFmpeg can't decode: it was left out"
    others = [
        f"{number}{_description(stream)}"
        for number, stream in enumerate(streams, 1)
        if stream is not chosen
    ]
    if chosen is None or not others:
        return ""
    return (
        f"of {len(streams)} {kind_name} tracks number {list(streams).index(chosen) + 1} was read, "
        f"not {', '.join(others)}: choose by --{kind}-track"
    )


def _description(stream: Stream) -> str:
    """Language, title and use of a track, in brackets."""
    words = [stream.language or "", stream.metadata.get("title", "")]
    words += [use for flag, use in SECONDARY.items() if stream.disposition & flag]
    if stream.codec_context is None:
        words.append("can't be decoded")
    told = [word for word in words if word and word != "und"]
    return f" ({', '.join(told)})" if told else ""
