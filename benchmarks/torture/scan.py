"""Decoding a clip without reading it: what differs, and is said, need not be read to be judged."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.torture.judge import Outcome, failure
from mfer_edge.errors import MferError
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip

MAX_S = 5.0  # in which a clip of a second is decoded


@dataclass(frozen=True)
class Scan:
    """What came out of a clip."""

    content: str  # hash of all frames with their times, of all samples, and of the length
    warnings: tuple[str, ...]


def scan(path: Path) -> Scan | MferError | None:
    """Decode a clip; None if that takes too long."""
    pictures, sound = hashlib.sha256(), hashlib.sha256()
    until_s = time.monotonic() + MAX_S
    try:
        with Clip(path, threads=1) as clip:
            for item in clip:
                if isinstance(item, Frame):
                    pictures.update(f"{item.time_s} {item.until_s} {item.image.shape}".encode())
                    pictures.update(item.image.tobytes())
                else:
                    sound.update(item.samples.tobytes())
                if time.monotonic() > until_s:
                    return None
            content = f"{pictures.hexdigest()} {sound.hexdigest()} {clip.duration_s:.3f}"
            return Scan(content, clip.warnings())
    except MferError as error:
        return error


def judge_scan(
    got: Scan | MferError | None, whole: Scan | MferError | None
) -> tuple[Outcome, str] | None:
    """Outcome of a damaged clip; None where it has to be read for that."""
    if isinstance(got, MferError):
        return failure(got)
    if got is None or not isinstance(whole, Scan):
        return None
    if got.content == whole.content:
        return Outcome.SAME, ""
    said = [line for line in got.warnings if line not in whole.warnings]
    return (Outcome.TOLD, said[0]) if said else None
