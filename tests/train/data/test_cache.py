"""The cache gives back what was put in, whole or not at all, whatever became of its files."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfer_edge.errors import OutputError
from tests.support.paths import ROOT
from train.data.cache import Arrays, Cache
from train.data.index import DatasetError

ENTRIES = 20_000  # far more than are made before the kill


def key(number: int) -> str:
    return f"{number * 7919 % 256:02x}{number:08}"


def arrays(number: int) -> Arrays:
    """Some arrays of their own for every key, large enough that a file takes several writes."""
    made = np.random.default_rng(number)
    return {"states": made.normal(0, 1, (200, 400)), "ends": np.arange(number)}


def never() -> Arrays:
    raise AssertionError("made again")


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name])
        for name in one
    )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "deep" / "cache")


def test_what_is_made_once_is_read_back(cache: Cache) -> None:
    made = {
        "states": np.arange(6, dtype=np.float16).reshape(2, 1, 3),
        "nothing": np.zeros((0, 48, 48), np.uint8),
        "ends": np.array([[3, 5]]),
    }
    assert "abcd" not in cache
    assert cache.get("abcd", lambda: made) is made
    assert "abcd" in cache and "abce" not in cache
    assert same(cache.get("abcd", never), made)
    assert same(Cache(cache.folder).get("abcd", never), made)


def test_what_could_not_be_made_is_not_there(cache: Cache) -> None:
    with pytest.raises(AssertionError):
        cache.get("abcd", never)
    assert "abcd" not in cache
    assert not list(cache.folder.rglob("*.npz"))


def fill(folder: str) -> None:
    """What the process that is killed does."""
    for number in range(ENTRIES):
        Cache(Path(folder)).get(key(number), lambda number=number: arrays(number))  # type: ignore[misc]


def test_after_a_kill_what_is_there_is_whole_and_only_the_rest_is_made(cache: Cache) -> None:
    code = f"from tests.train.data.test_cache import fill; fill({str(cache.folder)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    started = time.monotonic()
    while key(20) not in cache and time.monotonic() < started + 60:
        time.sleep(random.random() / 100)
    assert process.poll() is None  # it is still at work
    process.kill()
    process.wait()
    there = {number for number in range(ENTRIES) if key(number) in cache}
    assert 20 < len(there) < ENTRIES
    made = set()

    def make(number: int) -> Arrays:
        made.add(number)
        return arrays(number)

    some = range(len(there) + 20)
    for number in some:
        assert same(cache.get(key(number), lambda n=number: make(n)), arrays(number))  # type: ignore[misc]
    assert made == set(some) - there


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, bytes]:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    cache.put("abcd", {"states": np.arange(60, dtype=np.float16), "ends": np.array([[10, 20]])})
    return cache, cache.path("abcd").read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_is_a_clear_error(whole: tuple[Cache, bytes], share: float) -> None:
    cache, data = whole
    path = cache.path("abcd")
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DatasetError) as caught:
        cache.get("abcd", never)
    assert str(caught.value).startswith(f"{path}: damaged")
    assert "delete it" in str(caught.value)


@given(at=st.integers(0, 119), change=st.integers(1, 255))
def test_a_byte_that_flipped_is_never_taken_for_data(
    whole: tuple[Cache, bytes], at: int, change: int
) -> None:
    cache, data = whole
    spoilt = bytearray(data)
    spoilt[data.index(np.arange(60, dtype=np.float16).tobytes()) + at] ^= change
    cache.path("abcd").write_bytes(spoilt)
    with pytest.raises(DatasetError, match="damaged"):
        cache.get("abcd", never)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_whatever_is_wrong_with_a_file_there_is_no_traceback(
    whole: tuple[Cache, bytes], place: float, value: int
) -> None:
    cache, data = whole
    spoilt = bytearray(data)
    spoilt[int(place * len(data))] = value
    cache.path("abcd").write_bytes(spoilt)
    try:
        cache.get("abcd", never)
    except DatasetError as error:
        assert "abcd.npz: damaged" in str(error)


@pytest.mark.parametrize("data", [b"", b"no arrays", b"PK"])
def test_a_foreign_file_is_told_and_left(cache: Cache, data: bytes) -> None:
    cache.put("abcd", {})
    cache.path("abcd").write_bytes(data)
    with pytest.raises(DatasetError, match=r"abcd\.npz: damaged"):
        cache.get("abcd", never)
    assert cache.path("abcd").read_bytes() == data


def test_a_folder_that_can_t_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutputError, match=f"{tmp_path}/cache/ab: no folder for a cache"):
        Cache(tmp_path / "cache").get("abcd", lambda: arrays(3))


def test_a_folder_in_a_file_s_place_is_a_clear_error(cache: Cache) -> None:
    cache.path("abcd").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"abcd\.npz: a folder, not a file"):
        cache.get("abcd", lambda: arrays(3))
