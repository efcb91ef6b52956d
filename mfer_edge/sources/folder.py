"""Clips in folders."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (
    *(".aac", ".aif", ".aiff", ".flac", ".m4a", ".mka", ".mp3", ".oga", ".ogg", ".opus", ".wav"),
    *(".wma", ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".ogv", ".ts", ".webm", ".wmv"),
)
"""File names in a folder that are taken for clips; a file that is named itself is always tried."""


def clips_in(folder: Path) -> list[Path]:
    """Clips in a folder and those below it, in order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
