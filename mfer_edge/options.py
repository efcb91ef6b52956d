"""A session takes pictures and sound as they come and gives readings: here, time passes."""

from __future__ import annotations

from dataclasses import dataclass

from mfer_edge.faces.embedding_cache import MAX_LEVELS
from mfer_edge.manifest import Manifest

MIN_HOP_S = 0.1  # of the most frequent readings

FACE_CHOICES = ("main", "all")


@dataclass(frozen=True)
class SessionOptions:
    """How time is cut into readings, of which faces, and how closely these are looked at."""

    window_s: float
    hop_s: float  # from the start of one window to that of the next
    faces: str = "main"  # whose readings to give: one of FACE_CHOICES
    skip_still: float = 0.0  # up to so many grey levels a changed face is not embedded again


def check_options(windows: SessionOptions, manifest: Manifest) -> None:
    """Refuse windows that the networks can't take.

    Raises:
        ValueError: with one line that says why.
    """
    window_s, hop_s = windows.window_s, windows.hop_s
    if not window_s > 0:
        raise ValueError(f"the window is {window_s:g} s: it must be over 0")
    if not MIN_HOP_S <= hop_s <= window_s:
        raise ValueError(
            f"the hop is {hop_s:g} s: it must be at least {MIN_HOP_S:g} s and at most the window, "
            f"{window_s:g} s"
        )
    if window_s + hop_s / 2 > manifest.max_window_s:  # the most that a short clip's window covers
        raise ValueError(
            f"the window is {window_s:g} s: with half a hop of {hop_s:g} s it must be at most the "
            f"{manifest.max_window_s:g} s that the bundle {manifest.name} takes"
        )
    if windows.faces not in FACE_CHOICES:
        raise ValueError(f"faces is {windows.faces!r}: it must be one of {', '.join(FACE_CHOICES)}")
    if not 0 <= windows.skip_still <= MAX_LEVELS:
        raise ValueError(
            f"still faces are to be skipped up to {windows.skip_still:g} grey levels: it must be 0 "
            f"to {MAX_LEVELS}"
        )
