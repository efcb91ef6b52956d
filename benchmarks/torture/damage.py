"""Damaged clips: cut off, and changed at random."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.torture.coverage import can_be_noticed
from benchmarks.torture.material import Writing, write
from benchmarks.torture.variants import PLAIN, Case

SHORT = replace(PLAIN, seconds=1.2)
VP8 = {"cpu-used": "4", "deadline": "good"}
WHOLES: dict[str, Writing] = {
    "mp4": replace(SHORT, suffix=".mp4", audio="aac"),
    "mp4 faststart": replace(SHORT, suffix=".mp4", audio="aac", muxing={"movflags": "faststart"}),
    "mp4 fragments": replace(
        SHORT, suffix=".mp4", audio="aac", muxing={"movflags": "frag_keyframe+empty_moov"}
    ),
    "mkv": replace(SHORT, audio="flac"),
    "webm": replace(SHORT, suffix=".webm", video="libvpx", audio="libopus", encoding=VP8),
    "avi": replace(SHORT, suffix=".avi", video="mpeg4", audio="libmp3lame"),
    "mov": replace(SHORT, suffix=".mov", video="mjpeg", encoding={"strict": "unofficial"}),
    "ts": replace(SHORT, suffix=".ts", audio="aac"),
    "mpg": replace(SHORT, suffix=".mpg", video="mpeg2video", audio="mp2"),
    "flv": replace(SHORT, suffix=".flv", audio="aac"),
    "asf": replace(SHORT, suffix=".wmv", video="wmv2", audio="wmav2"),
    "hevc mkv": replace(SHORT, video="libx265", audio="ac3", encoding={"preset": "ultrafast"}),
    "wav": replace(SHORT, suffix=".wav", video=None),
    "mp3": replace(SHORT, suffix=".mp3", video=None, audio="libmp3lame"),
    "ogg": replace(SHORT, suffix=".ogg", video=None, audio="libopus"),
    "flac": replace(SHORT, suffix=".flac", video=None, audio="flac"),
}
OPEN_ENDED = ("ts", "mpg", "ogg", "mp4 fragments")  # no header tells their length
CUTS = tuple(share / 100 for share in range(5, 100, 5))
ENDS = 4096  # bytes at either end of a file, where its headers and indices are


def cut_cases(wholes: dict[str, Path]) -> Iterator[Case]:
    """Each of the clips cut off at every twentieth; the twin is the whole one."""
    for name, whole in wholes.items():
        data = whole.read_bytes()
        for share in CUTS:
            yield _changed(
                "cut off", f"{name} at {share:.0%}", whole, data[: int(share * len(data))]
            )


def mutants(wholes: dict[str, Path], count: int, seed: int) -> Iterator[Case]:
    """Clips that were changed at random; each has a seed of its own."""
    names = list(wholes)
    contents = {name: path.read_bytes() for name, path in wholes.items()}
    for number in range(count):
        name = names[number % len(names)]
        rng = random.Random(f"{seed}-{number}")
        data = mutated(contents[name], rng)
        yield _changed("mutant", f"{name} {seed}-{number}", wholes[name], data)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change a file in one to four places, in its headers as often as anywhere."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        length = max(1, min(rng.choice((1, 2, 4, 8, 64, 512, 4096)), len(changed) // 4))
        start = _place(len(changed) - length, rng)
        part = slice(start, start + length)
        match rng.randrange(7):
            case 0:
                changed[start] ^= 1 << rng.randrange(8)
            case 1:
                changed[part] = rng.randbytes(length)
            case 2:
                changed[part] = bytes([rng.choice((0, 0x7F, 0x80, 0xFF))]) * length
            case 3:
                del changed[part]
            case 4:
                changed[start:start] = changed[part]
            case 5:
                changed[start:start] = rng.randbytes(length)
            case _:
                other = _place(len(changed) - length, rng)
                changed[part] = changed[other : other + length]
    return bytes(changed)


def _place(most: int, rng: random.Random) -> int:
    if rng.random() < 0.5 and most > ENDS:
        place = rng.randrange(ENDS)
        return place if rng.random() < 0.6 else most - place
    return rng.randrange(max(1, most))


def _changed(kind: str, name: str, whole: Path, data: bytes) -> Case:
    def make(path: Path) -> Path:
        made = path.with_suffix(whole.suffix)
        made.write_bytes(data)
        return made

    untold = kind == "mutant" or name.partition(" at ")[0] in OPEN_ENDED
    shows = (lambda clip: can_be_noticed(whole, clip)) if kind == "mutant" else None
    return Case(kind, name, make, lambda clip, out: whole, may_differ=untold, shows=shows)


def write_wholes(folder: Path, names: Iterable[str] = tuple(WHOLES)) -> dict[str, Path]:
    """Write the clips that are to be damaged."""
    return {
        name: write(folder / f"{name.replace(' ', '-')}{WHOLES[name].suffix}", WHOLES[name])
        for name in names
    }
