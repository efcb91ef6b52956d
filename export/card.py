"""Model cards: Markdown beside a model's files."""

from __future__ import annotations

from pathlib import Path

from mfer_edge.errors import MferError
from mfer_edge.manifest import CARD


class CardError(MferError):
    """A model card that can't be read."""


def read_card(folder: Path) -> str:
    """Read the model card of a checkpoint's or bundle's folder; empty if it has none.

    Raises:
        CardError: the card can't be read.
    """
    card = folder / CARD
    try:
        return card.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CardError(f"{card}: the model card can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CardError(f"{card}: the model card is not UTF-8 text ({error.reason})") from error
