"""Model cards: what people should know of a model, beside its files."""

from __future__ import annotations

from pathlib import Path

from mfer_edge.errors import MferError
from mfer_edge.manifest import CARD


class CardError(MferError):
    """A model card that can't be read."""


def read_card(folder: Path) -> str:
    """Read the card, in Markdown, of the model in a folder; nothing where there is none.

    Raises:
        CardError: there is one that can't be read.
    """
    card = folder / CARD
    try:
        return card.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CardError(f"{card}: the model card can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CardError(f"{card}: the model card is no text in UTF-8 ({error.reason})") from error
