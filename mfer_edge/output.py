"""Files out: whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mfer_edge.errors import OutputError


@contextmanager
def replacing(out: Path | str, suffixes: Sequence[str] = ()) -> Iterator[Path]:
    """Lend a path beside `out` to write to; what is there in the end takes the place of `out`.

    If the block raises, `out` stays as it was and nothing is left beside it.

    Args:
        suffixes: the endings that `out` may have, lower case; by default any.

    Raises:
        OutputError: `out` has another ending, or its folder is missing or can't be written to.
    """
    out = Path(out)
    if suffixes and out.suffix.lower() not in suffixes:
        raise OutputError(f"{out}: the name should end in {' or '.join(suffixes)}")
    beside = out.with_name(f".mfer-edge-{secrets.token_hex(4)}{out.suffix}")
    try:
        if out.is_dir():
            raise OutputError(f"{out}: a folder, not a file")
        if not out.parent.is_dir():
            raise OutputError(f"{out}: there is no folder {out.parent}")
        if not os.access(out.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{out}: no permission to write to the folder {out.parent}")
        yield beside
        beside.replace(out)
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            beside.unlink()
