"""Inputs of a batch: files, folders, patterns, lists with columns, and paths on stdin."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from mfer_edge.adapt import NO_AUTO
from mfer_edge.batch.lists import LIST_SUFFIXES, ListedClip, Value, read_list
from mfer_edge.errors import BatchError
from mfer_edge.sources.folder import clips_in

STDIN = "-"
PATH, ADAPT = "path", "adapt"  # columns of a list that mean something


@dataclass(frozen=True)
class BatchInput:
    """A clip to analyse. Whether there is such a file is seen when it is its turn."""

    path: Path
    adaptation: Path | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)  # further ones of its list

    @property
    def name(self) -> str:
        """The path as text: it may hold bytes that are none."""
        return os.fsencode(self.path).decode(errors="replace")


def read_inputs(
    arguments: Sequence[str], stdin: TextIO, adaptation: Path | None = None
) -> list[BatchInput]:
    """Read what the arguments of a batch stand for, in their order.

    A file is taken once, however often files, folders and patterns name it; a list's rows all are.

    Args:
        arguments: paths of clips, folders and lists, patterns, or `STDIN`.
        stdin: lines with a path each.
        adaptation: of clips without one of their own.

    Raises:
        BatchError: a list can't be read.
    """
    inputs: list[BatchInput] = []
    seen: set[str] = set()
    for argument in arguments:
        if Path(argument).suffix.lower() in LIST_SUFFIXES:
            inputs += _listed(Path(argument), adaptation)
            continue
        for path in _paths(argument, stdin):
            if (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                inputs.append(BatchInput(path, adaptation))
    return inputs


def column_names(inputs: Iterable[BatchInput]) -> list[str]:
    """Names of the further columns of all lists, in the order in which they come up."""
    return list(dict.fromkeys(name for one in inputs for name in one.columns))


def _paths(argument: str, stdin: TextIO) -> Iterator[Path]:
    if argument == STDIN:
        yield from (Path(line) for line in (raw.rstrip("\r\n") for raw in stdin) if line.strip())
        return
    path = Path(argument)
    if path.is_dir():
        yield from clips_in(path) or [path]  # one without clips fails under its name
    elif glob.has_magic(argument) and not path.exists():
        yield from map(Path, sorted(glob.glob(argument, recursive=True)) or [argument])
    else:
        yield path


def _listed(list_path: Path, default: Path | None) -> Iterator[BatchInput]:
    for clip in read_list(list_path):
        columns = dict(clip.columns)
        path = columns.pop(PATH, None)
        if not isinstance(path, str) or not path:
            raise BatchError(f"{list_path}, {clip.place}: no {PATH}")
        adaptation = _adaptation(list_path, clip, columns.pop(ADAPT, None), default)
        yield BatchInput(list_path.parent / path, adaptation, columns)


def _adaptation(
    list_path: Path, clip: ListedClip, value: Value, default: Path | None
) -> Path | None:
    if value is None or value == "":
        return default
    if value == "off":
        return None
    if value == "auto":
        raise BatchError(f"{list_path}, {clip.place}: {ADAPT} {NO_AUTO}")
    return list_path.parent / str(value)
