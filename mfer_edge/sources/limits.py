"""Limits of clips: of any, and stricter ones of clips from people who are not trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import MAX_PIXELS

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext


@dataclass(frozen=True)
class ClipLimits:
    """What a clip may be at most: a megabyte of a video can hold a hundred gigabytes of frames."""

    length_s: float = math.inf
    frame_pixels: int = MAX_PIXELS

    def check_length(self, path: Path | str, seconds: float | Fraction) -> None:
        """Refuse a clip that goes on, or claims to, for longer.

        Raises:
            MediaError: it does.
        """
        if seconds > self.length_s:
            raise MediaError(f"{path}: longer than {self.length_s:g} s, the most that is taken")

    def check_frames(self, path: Path | str, width: int, height: int) -> None:
        """Refuse larger frames.

        Raises:
            MediaError: they are.
        """
        if width * height > self.frame_pixels:
            raise MediaError(
                f"{path}: frames of {width} x {height} pixels; at most {self.frame_pixels:,} are "
                "taken"
            )

    def apply(self, decoder: VideoCodecContext) -> None:
        """Have FFmpeg itself refuse larger frames, before it takes memory for them.

        A stream may hold larger frames than its header tells of.
        """
        decoder.options = {**decoder.options, "max_pixels": str(self.frame_pixels)}


USUAL_LIMITS = ClipLimits()
