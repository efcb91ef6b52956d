"""Markdown documents, and the blocks of code and commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->")
"""Stands before a block that must not be run, with the reason."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int  # of its first line of text, from 1
    language: str
    text: str
    runs: bool  # False: marked as not to be run

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    def follows(self, other: Block | None) -> bool:
        """Whether only an empty line lies between another block and this one."""
        return other is not None and self.line - other.line == other.text.count("\n") + 4


def blocks(document: Path) -> list[Block]:
    """Find the fenced blocks of a document."""
    found: list[Block] = []
    before, language, start, held = "", None, 0, []
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if language is None and line.startswith("```"):
            language, start, held = line[3:].strip(), number + 1, []
        elif language is not None and line == "```":
            text = "\n".join(held)
            found.append(Block(document, start, language, text, not NOT_RUN.fullmatch(before)))
            language, before = None, ""
        elif language is not None:
            held.append(line)
        elif line.strip():
            before = line
    assert language is None, f"{document}: a block does not end"
    return found


def prose(document: Path) -> str:
    """Give a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def inline_code(document: Path) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(document))]


def commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """Split shell lines into simple commands; with each, whether it reads another's output."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        words: list[str] = []
        reads = False
        for word in [*lexer, ";"]:
            if not set(word) <= set("|&;"):
                words.append(word)
                continue
            if words:
                yield words, reads
            words, reads = [], word == "|"
