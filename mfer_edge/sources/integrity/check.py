"""Damage that shows in the structure of a file, which FFmpeg passes over without a word."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from mfer_edge.sources.integrity.reading import BLOCK, Content, StructureError

CHECKS = {
    "asf": "asf.check_asf",
    "avi": "riff.check_avi",
    "flv": "flash.check_flash",
    "matroska": "matroska.check_matroska",
    "mov": "boxes.check_boxes",
    "mp3": "layer3.check_layer3",
    "mpeg": "mpeg.check_program",
    "mpegts": "mpeg.check_transport",
    "ogg": "ogg.check_ogg",
    "wav": "riff.check_wav",
}
"""Modules of this package, and their functions, by FFmpeg's names of formats: a clip needs one."""


def structure_note(path: Path, container: str) -> str:
    """Sentence on the first place where a file's structure is damaged; "" for none.

    Args:
        container: FFmpeg's name of the format, up to the first comma.
    """
    if container not in CHECKS or not path.is_file():
        return ""
    module, _, name = CHECKS[container].partition(".")
    loaded = importlib.import_module(f"{__package__}.{module}")
    check: Callable[[Content], None] = getattr(loaded, name)
    try:
        with path.open("rb", buffering=BLOCK) as file:
            check(Content(file, path.stat().st_size, "a part of it"))
    except StructureError as error:
        return str(error)
    except OSError as error:
        return f"its structure could not be checked: {error.strerror or error}"
    return ""
