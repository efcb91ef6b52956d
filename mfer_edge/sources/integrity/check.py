"""Damage that shows in the structure of a file, which FFmpeg passes over without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mfer_edge.sources.integrity.asf import check_asf
from mfer_edge.sources.integrity.boxes import check_boxes
from mfer_edge.sources.integrity.flash import check_flash
from mfer_edge.sources.integrity.layer3 import check_layer3
from mfer_edge.sources.integrity.matroska import check_matroska
from mfer_edge.sources.integrity.mpeg import check_program, check_transport
from mfer_edge.sources.integrity.ogg import check_ogg
from mfer_edge.sources.integrity.reading import BLOCK, Content, StructureError
from mfer_edge.sources.integrity.riff import check_avi, check_wav

CHECKS: dict[str, Callable[[Content], None]] = {
    "asf": check_asf,
    "avi": check_avi,
    "flv": check_flash,
    "matroska": check_matroska,
    "mov": check_boxes,
    "mp3": check_layer3,
    "mpeg": check_program,
    "mpegts": check_transport,
    "ogg": check_ogg,
    "wav": check_wav,
}
"""By FFmpeg's names of formats."""


def structure_note(path: Path, container: str) -> str:
    """Sentence on the first place where a file's structure is damaged; "" for none.

    Args:
        container: FFmpeg's name of the format, up to the first comma.
    """
    check = CHECKS.get(container)
    if check is None or not path.is_file():
        return ""
    try:
        with path.open("rb", buffering=BLOCK) as file:
            check(Content(file, path.stat().st_size, "a part of it"))
    except StructureError as error:
        return str(error)
    except OSError as error:
        return f"its structure could not be checked: {error.strerror or error}"
    return ""
