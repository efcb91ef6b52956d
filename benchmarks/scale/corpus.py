"""A corpus of clips of very different lengths, made from real ones; some are broken or copies."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import av

from benchmarks.cpu.length import REPEATABLE, repeat
from mfer_edge.bundle import file_sha256
from mfer_edge.errors import MferError
from mfer_edge.sources.folder import clips_in

SEED = 15
FULL_SIZE = 600  # clips, of which
BROKEN = 20  # can't be read, and
COPIES = 10  # have the content of another
MADE_LENGTHS = ((300.0, 2), (60.0, 4), (0.3, 40), (0.7, 20))
"""Seconds, and how many clips are repeated or cut to them; the others are as recorded."""


@dataclass(frozen=True)
class Corpus:
    """What was made."""

    folder: Path
    clips: int
    broken: int
    contents: int  # different ones


def make_corpus(sources: Sequence[Path], folder: Path, size: int = FULL_SIZE) -> Corpus:
    """Write a corpus; the same every time.

    Args:
        sources: folders of real clips, from which equal numbers are taken.
        folder: replaced.
        size: number of files. Of fewer than `FULL_SIZE` each kind has its share, at least one.

    Raises:
        MferError: a source has no clips.
    """
    rng = random.Random(SEED)
    broken, copies = _share(BROKEN, size), _share(COPIES, size)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    lengths_s = [s for s, count in MADE_LENGTHS for _ in range(_share(count, size))]
    taken = _taken(sources, size - broken - copies, rng)
    made: list[Path] = []
    for number, clip in enumerate(taken):
        length_s = lengths_s[number] if number < len(lengths_s) else None
        made.append(_made(clip, folder / f"{number:04}", length_s))
    for number in range(copies):
        original = made[-1 - number]
        shutil.copyfile(original, folder / f"copy{number:04}{original.suffix}")
    for number in range(broken):
        _break(made[-1 - number], folder / f"broken{number:04}", number)
    contents = len({file_sha256(clip) for clip in folder.iterdir()})
    return Corpus(folder, size, broken, contents)


def _share(count: int, size: int) -> int:
    return max(1, round(count * size / FULL_SIZE))


def _taken(sources: Sequence[Path], count: int, rng: random.Random) -> list[Path]:
    """Clips of all sources in turn; a source that is used up is passed over."""
    pools = []
    for source in sources:
        pool = clips_in(source)
        if not pool:
            raise MferError(f"{source}: no clips in this folder")
        rng.shuffle(pool)
        pools.append(pool)
    turns = [clip for turn in zip_longest(*pools) for clip in turn if clip is not None]
    if len(turns) < count:
        raise MferError(f"the folders have {len(turns)} clips, {count} are needed")
    return turns[:count]


def _made(clip: Path, out: Path, length_s: float | None) -> Path:
    if length_s is None:
        return Path(shutil.copyfile(clip, out.with_suffix(clip.suffix)))
    out = out.with_suffix(".mkv")
    if length_s >= 1:
        repeat(clip, length_s, out)
    else:
        cut(clip, length_s, out)
    return out


def cut(clip: Path, length_s: float, out: Path) -> None:
    """Copy the packets of a clip's beginning, without encoding them anew."""
    with av.open(str(clip)) as source, av.open(str(out), "w", options=REPEATABLE) as target:
        tracks = [s for s in source.streams if s.type in ("video", "audio")]
        streams = {track.index: target.add_stream_from_template(track) for track in tracks}
        for packet in source.demux(tracks):
            if packet.dts is not None and packet.dts * packet.time_base < length_s:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)


def _break(clip: Path, out: Path, number: int) -> None:
    """Break a copy of a clip in one of four ways."""
    data = clip.read_bytes()
    text = f"this is no clip, number {number}\n".encode()
    ways = (b"" if number == 0 else text, data[:150], bytes(reversed(data)), text * 40)
    out.with_suffix(clip.suffix).write_bytes(ways[number % len(ways)])
