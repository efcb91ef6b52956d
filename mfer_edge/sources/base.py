"""Sources: what a session reads from, as frames and chunks of audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

MAX_PIXELS = 1 << 26
"""Pixels of the largest frame that is decoded, twice those of 8K: a file of a few bytes may
announce frames of gigabytes."""

DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
"""For FFmpeg's decoders, so that they refuse larger frames before they take memory for them."""


@dataclass(frozen=True)
class Frame:
    """One frame of a video."""

    time_s: float  # from the start of the source
    image: np.ndarray  # (height, width, 3) uint8, BGR
    until_s: float | None = None
    """Until when it is shown if no other follows. None: for as long as the frame before was; a
    source's only frame to the end."""


@dataclass(frozen=True)
class AudioChunk:
    """The next samples of an audio track; chunks follow each other without gaps."""

    samples: np.ndarray  # (n,) float32, 16 kHz, mono; full scale is [-1, 1]


@dataclass(frozen=True)
class TrackChoice:
    """Numbers of the tracks to read, from 1 among those of their kind; None: as players do."""

    video: int | None = None
    audio: int | None = None


def size_of(item: Frame | AudioChunk) -> int:
    """Bytes of an item's pixels or samples."""
    return item.image.nbytes if isinstance(item, Frame) else item.samples.nbytes


class Source(Protocol):
    """Anything that yields frames and audio: a file, a camera, footage held in memory.

    Frames come in order of time, and so does audio; how the two are interleaved is up to the
    source. Leaving the `with` block releases what the source holds open.

    Example:
        >>> class Slides:
        ...     '''Still images, one each fifth of a second.'''
        ...
        ...     name, has_video, has_audio, max_lag_s = "slides", True, False, 5.0
        ...
        ...     def __init__(self, images):
        ...         self.images, self.duration_s = images, len(images) / 5
        ...
        ...     def __iter__(self):
        ...         return (Frame(index / 5, image) for index, image in enumerate(self.images))
        ...
        ...     def __enter__(self):
        ...         return self
        ...
        ...     def __exit__(self, *exception):
        ...         pass
        ...
        ...     def warnings(self):
        ...         return ()
    """

    @property
    def name(self) -> str:
        """Name in results, such as a path."""

    @property
    def has_video(self) -> bool:
        """Whether frames are to be expected."""

    @property
    def has_audio(self) -> bool:
        """Whether audio is to be expected."""

    @property
    def duration_s(self) -> float | None:
        """Length: once all was read, of what there was; before, as announced.

        None where it is not known, as of a camera: the stream then ends with its last item.
        """

    @property
    def max_lag_s(self) -> float:
        """How far audio may be behind video, or the reverse, before it counts as missing."""

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        """Yield the items, each once."""

    def __enter__(self) -> Source: ...

    def __exit__(self, *exception: object) -> None: ...

    def warnings(self) -> tuple[str, ...]:
        """What was missing or damaged in what was read so far, a line each, for the user."""


class SourceAround:
    """A source that gives the items of another one, which it opens and closes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.max_lag_s = source.name, source.max_lag_s
        self.has_video, self.has_audio = source.has_video, source.has_audio

    @property
    def duration_s(self) -> float | None:
        """Length of the source."""
        return self._source.duration_s

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        return iter(self._source)

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._source.__exit__(*exception)

    def warnings(self) -> tuple[str, ...]:
        """Warnings of the source."""
        return self._source.warnings()


class AudioOnly(SourceAround):
    """The audio of a source, without its frames."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.has_video = False

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        return (item for item in self._source if isinstance(item, AudioChunk))


def missing_tracks(source: Source) -> list[str]:
    """Warnings of a source on the tracks that it lacks."""
    missing = []
    if not source.has_video:
        missing.append("no video track: there is no face to read")
    if not source.has_audio:
        missing.append("no sound track: there is no voice to read")
    return missing
