"""Options of a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfer_edge.manifest import Manifest
from mfer_edge.results import Reading

MIN_HOP_S = 0.1  # of the most frequent readings
MAX_LEVELS = 255  # of grey, between black and white
MAX_LAG_S = 5.0  # audio or video that is further behind the other counts as missing

FACE_CHOICES = ("main", "all")


@dataclass(frozen=True)
class SessionOptions:
    """Which windows to read, which faces in them, and how much a face may change unnoticed."""

    window_s: float
    hop_s: float  # from the start of one window to the start of the next
    faces: str = "main"  # which faces have readings: one of FACE_CHOICES
    skip_still: float = 0.0
    """Grey levels by which a crop may differ on average from the one that was embedded last, to
    take over its embedding; 0 embeds every crop."""


def make_options(
    manifest: Manifest,
    window_s: float | None = None,
    hop_s: float | None = None,
    *,
    faces: str = "main",
    skip_still: float = 0.0,
) -> SessionOptions:
    """Options for a bundle; windows and hops that are not given are those of its training.

    Raises:
        ValueError: the engines can't take such windows.
    """
    window_s = manifest.window_s if window_s is None else window_s
    hop_s = min(manifest.hop_s, window_s) if hop_s is None else hop_s
    options = SessionOptions(window_s, hop_s, faces, skip_still)
    check_options(options, manifest)
    return options


def check_options(options: SessionOptions, manifest: Manifest) -> None:
    """Refuse options that a bundle can't serve.

    Raises:
        ValueError: with one line that says why.
    """
    window_s, hop_s = options.window_s, options.hop_s
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
    if options.faces not in FACE_CHOICES:
        raise ValueError(f"faces is {options.faces!r}: it must be one of {', '.join(FACE_CHOICES)}")
    if not 0 <= options.skip_still <= MAX_LEVELS:
        raise ValueError(
            f"skip_still is {options.skip_still:g} grey levels: it must be 0 to {MAX_LEVELS}"
        )


def approximations(
    options: SessionOptions, manifest: Manifest, readings: Sequence[Reading]
) -> list[str]:
    """Warnings on what makes the scores approximate, incomplete or void."""
    warnings = []
    if options.skip_still:
        warnings.append(
            f"faces that changed by at most {options.skip_still:g} grey levels were not looked at "
            "again: the scores are approximate"
        )
    spoken = any(reading.speech_s for reading in readings)
    if spoken and options.window_s < manifest.min_speech_s:
        warnings.append(
            f"windows of {options.window_s:g} s are shorter than the {manifest.min_speech_s:g} s "
            "of speech that a voice needs: no voice was read"
        )
    return [*warnings, *manifest.warnings]
