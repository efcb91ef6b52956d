"""From folders of published datasets to one table of files that can be trained on."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip
from train.data.catalogue import DATASETS
from train.data.datasets import Rejected, reason_of
from train.data.images import read_picture
from train.data.index import KINDS, DatasetError, Entry
from train.labels import EMOTIONS

BLOCK = 1 << 20  # bytes read of a file at a time
MAX_MISSING_S = 0.1  # sound by which a file may be shorter than its header tells
EXAMPLES = 3  # shown of the files rejected for one reason


@dataclass(frozen=True)
class Gathered:
    """What was found below all roots."""

    entries: list[Entry]  # in the order of the roots, and by name below each
    rejected: list[Rejected]
    notes: list[str]  # what is used although something is odd about it


def gather(
    roots: Sequence[tuple[str, Path]], progress: Callable[[int, int], None] | None = None
) -> Gathered:
    """Scan datasets and read every file of them, to keep what is sound and there only once.

    Of several files with one content and one label the first is kept; with several labels none
    is. What is in a published test split stays whole, as published figures count it, and its
    copies outside are left out.

    Args:
        roots: names of datasets, and the folders that they are in.
        progress: is called with how many files were read, of how many.

    Raises:
        DatasetError: a name is unknown, or a root does not hold what it should.
    """
    for name, _ in roots:
        if name not in DATASETS:
            raise DatasetError(f"unknown dataset '{name}': known are {', '.join(DATASETS)}")
    found: dict[tuple[Path, int], Entry] = {}  # by what two roots may both reach
    rejected: list[Rejected] = []
    for name, root in roots:
        for item in DATASETS[name].scan(root):
            if isinstance(item, Rejected):
                rejected.append(item)
            elif (item.path, item.row) in found:
                rejected.append(Rejected(item.path, "below two of the folders", row=item.row))
            else:
                found[item.path, item.row] = item

    entries = []
    odd: Counter[str] = Counter()
    for number, entry in enumerate(found.values(), 1):
        try:
            entry, oddities = _read(entry)
        except (DatasetError, MediaError) as error:
            reason = reason_of(error, entry.path)
            rejected.append(Rejected(entry.path, reason, row=entry.row))
        else:
            entries.append(entry)
            odd.update(f"{entry.dataset}: {oddity}" for oddity in oddities)
        if progress:
            progress(number, len(found))

    copies = _copies(entries, odd)
    rejected += copies.values()
    kept = [entry for entry in entries if (entry.path, entry.row) not in copies]
    return Gathered(kept, rejected, [f"{text} ({count} files)" for text, count in odd.items()])


def _read(entry: Entry) -> tuple[Entry, list[str]]:
    """Fill in an entry's content, and say what is odd about it.

    Raises:
        MediaError, DatasetError: it can't be trained on.
    """
    try:
        str(entry.path).encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{entry.path}: the name is not UTF-8; rename it") from None
    if entry.kind == "image":
        return _read_image(entry)
    return _read_sound(entry) if entry.kind == "audio" else _read_video(entry)


def _read_image(entry: Entry) -> tuple[Entry, list[str]]:
    picture = read_picture(entry.path, entry.row)
    oddities = []
    if picture.min() == picture.max():
        if entry.split != "test":
            raise DatasetError(f"{entry.path}: the picture is blank")
        oddities.append("blank, but kept in the test split, as published figures count it")
    return replace(entry, content=hashlib.sha256(picture.tobytes()).hexdigest()), oddities


def _read_sound(entry: Entry) -> tuple[Entry, list[str]]:
    with Clip(entry.path, frame_rate=None) as clip:
        told_s = clip.duration_s
        pieces = [item.samples for item in clip if isinstance(item, AudioChunk)]
        damaged = clip.damaged or told_s - clip.duration_s > MAX_MISSING_S
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if not len(samples):
        raise DatasetError(f"{entry.path}: holds no sound")
    if samples.min() == samples.max():
        raise DatasetError(f"{entry.path}: the sound is silent from start to end")
    levels = np.round(samples.clip(-1, 1) * 32767).astype("<i2")
    content = hashlib.sha256(levels.tobytes()).hexdigest()
    oddities = ["damaged or cut off; what can be decoded is used"] if damaged else []
    return replace(entry, content=content), oddities


def _read_video(entry: Entry) -> tuple[Entry, list[str]]:
    with Clip(entry.path) as clip:
        if not any(isinstance(item, Frame) for item in clip):
            raise DatasetError(f"{entry.path}: holds no pictures")
        mute = entry.kind == "av" and not clip.has_audio
    digest = hashlib.sha256()
    with open(entry.path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    oddities = ["without a sound track; taken for silent video"] if mute else []
    kind = "video" if mute else entry.kind
    return replace(entry, kind=kind, content=digest.hexdigest()), oddities


def _copies(entries: Iterable[Entry], odd: Counter[str]) -> dict[tuple[Path, int], Rejected]:
    """Find the entries to leave out because another has their content, by path and row."""
    same: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        same[entry.content].append(entry)
    copies = {}
    for group in same.values():
        tested = [entry for entry in group if entry.split == "test"]
        if len(tested) > 1:
            oddity = "copies of each other in the test split; kept, as published figures count them"
            odd.update(f"{entry.dataset}: {oddity}" for entry in tested)
        for entry in group:
            reason, other = _better_copy(entry, group)
            if other is not entry:
                row = f", row {other.row}" if other.row >= 0 else ""
                detail = f"{entry.label}; {other.label} as {other.path}{row}"
                copies[entry.path, entry.row] = Rejected(entry.path, reason, detail, entry.row)
    return copies


def _better_copy(entry: Entry, group: Sequence[Entry]) -> tuple[str, Entry]:
    """Give the entry itself, or the one of its copies that speaks against it, and why."""
    if entry.split == "test":
        return "", entry
    for other in group:
        if other.split == "test":
            return "a copy of a file in the test split", other
    for other in group:
        if other.label != entry.label:
            return "a copy of a file with another label", other
    return "a copy of another file", group[0]


def counts_table(entries: Sequence[Entry]) -> str:
    """Count files by emotion and dataset, as in the paper's Table I, then actors and kinds."""
    counts: Counter[tuple[str, str]] = Counter()  # of (row, column)
    actors = {(entry.actor, entry.dataset) for entry in entries if entry.actor}
    counts.update(("actors", column) for _, dataset in actors for column in (dataset, "total"))
    for entry in entries:
        rows = [entry.label, "total", entry.kind]
        rows += [f"published for {entry.split}"] if entry.split else []
        rows += [] if entry.actor else ["actor unknown"]
        counts.update((row, column) for row in rows for column in (entry.dataset, "total"))
    columns = [*dict.fromkeys(entry.dataset for entry in entries), "total"]
    more = ["actor unknown", *KINDS, "published for train", "published for test"]
    titles = [*EMOTIONS, "total", "actors", *(row for row in more if counts[row, "total"])]
    table = [["", *columns]]
    table += [[title, *(str(counts[title, column]) for column in columns)] for title in titles]
    first, *others = (max(map(len, cells)) for cells in zip(*table, strict=True))
    return "\n".join(
        line[0].ljust(first)
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], others, strict=True))
        for line in table
    )


def rejected_table(rejected: Sequence[Rejected]) -> str:
    """Count rejected files by reason, the most frequent first, with a few examples of each."""
    lines = []
    by_reason = defaultdict(list)
    for item in rejected:
        by_reason[item.reason].append(item)
    for reason, items in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        lines.append(f"{len(items):7} {reason}")
        lines += [f"{'':10}{item}" for item in items[:EXAMPLES]]
        if len(items) > EXAMPLES:
            lines.append(f"{'':10}and {len(items) - EXAMPLES} more")
    return "\n".join(lines)
