"""HTML pages, parsed; what a browser would forgive is an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset(("meta", "img", "input", "track", "br", "link"))


@dataclass
class Element:
    """An element with its attributes, the text in it, and what it is in."""

    tag: str
    attributes: dict[str, str | None]
    parents: tuple[str, ...]
    text: str = ""


@dataclass
class Document(HTMLParser):
    """All elements of a page, in order."""

    elements: list[Element] = field(default_factory=list)
    doctype: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []

    @classmethod
    def of(cls, text: str) -> Document:
        """Parse a page.

        Raises:
            ValueError: its elements don't nest.
        """
        document = cls()
        document.feed(text)
        document.close()
        if document._open:
            raise ValueError(f"never closed: {[element.tag for element in document._open]}")
        return document

    def all(self, tag: str) -> list[Element]:
        """Elements of a kind."""
        return [element for element in self.elements if element.tag == tag]

    def by_id(self, name: str) -> Element:
        """The one element with an id."""
        (found,) = [e for e in self.elements if e.attributes.get("id") == name]
        return found

    def handle_decl(self, decl: str) -> None:
        self.doctype = decl

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            raise ValueError(f"<{tag}> has an attribute twice: {names}")
        element = Element(tag, dict(attrs), tuple(one.tag for one in self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        last = self._open.pop() if self._open else None
        if last is None or last.tag != tag:
            raise ValueError(f"</{tag}> closes {last.tag if last else 'nothing'}")

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data
