"""Which damage nothing in a file can show: by the bytes that were changed, and where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.torture.coverage import can_be_noticed, mark, unchecked
from benchmarks.torture.damage import write_wholes

NAMES = ("wav", "ogg", "flac", "webm", "mkv", "asf", "ts", "mp4")


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_wholes(tmp_path_factory.mktemp("wholes"), NAMES)


def changed(path: Path, *places: int) -> Path:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 255
    made = path.with_name(f"changed{path.suffix}")
    made.write_bytes(data)
    return made


def test_samples_of_a_wav(wholes: dict[str, Path]) -> None:
    data = wholes["wav"].read_bytes()
    samples, rate = data.index(b"data") + 8, data.index(b"fmt ") + 12
    assert not can_be_noticed(wholes["wav"], changed(wholes["wav"], samples))
    assert not can_be_noticed(wholes["wav"], changed(wholes["wav"], len(data) - 1))
    assert can_be_noticed(wholes["wav"], changed(wholes["wav"], rate))
    assert can_be_noticed(wholes["wav"], changed(wholes["wav"], samples, rate))
    unused = data.index(b"fmt ") + 16  # by FFmpeg, which computes the bytes a second
    assert not can_be_noticed(wholes["wav"], changed(wholes["wav"], samples, unused))
    shorter = wholes["wav"].with_name("shorter.wav")
    shorter.write_bytes(data[:500] + data[501:])
    assert can_be_noticed(wholes["wav"], shorter)
    assert int(unchecked(wholes["wav"]).sum()) == len(data) - samples


@pytest.mark.parametrize("name", ["ogg", "flac", "mkv"])
def test_what_a_checksum_covers(name: str, wholes: dict[str, Path]) -> None:
    assert not unchecked(wholes[name]).any()
    middle = len(wholes[name].read_bytes()) // 2
    assert can_be_noticed(wholes[name], changed(wholes[name], middle))


@pytest.mark.parametrize("name", ["webm", "asf", "ts", "mp4"])
def test_payload_between_headers(name: str, wholes: dict[str, Path]) -> None:
    share = unchecked(wholes[name]).mean()
    assert 0.6 < share < 1
    places = np.flatnonzero(unchecked(wholes[name]))
    assert not can_be_noticed(wholes[name], changed(wholes[name], int(places[len(places) // 2])))
    kept = len(wholes[name].read_bytes()) // 2
    assert can_be_noticed(wholes[name], changed(wholes[name], *range(kept)))


def test_headers_of_transport_packets_are_no_payload(wholes: dict[str, Path]) -> None:
    heads = unchecked(wholes["ts"]).reshape(-1, 188)[:, :4]
    assert not heads.any()


def test_pieces() -> None:
    data = b"HEAD" + b"abcdefghijklmnop" + b"HEAD" + b"qrstuvwxyz0123456789" + b"END"
    mask = np.zeros(len(data), bool)
    assert mark(mask, data, b"abcdefghijklmnopqrstuvwxyz0123456789", 0) == len(data) - 3
    assert bytes(np.frombuffer(data, np.uint8)[~mask]) == b"HEADHEADEND"
