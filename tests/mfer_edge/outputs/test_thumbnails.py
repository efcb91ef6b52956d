"""Thumbnails of real clips."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mfer_edge.errors import MediaError
from mfer_edge.outputs.thumbnails import MAX_BYTES, MAX_COUNT, Thumbnail, small, thumbnails
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from tests.support.clips import frame_number, sine, write_clip

FAST = {"preset": "ultrafast", "sc_threshold": "0"}


def image(picture: Thumbnail) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def test_pictures_show_the_clip_at_their_times(anger: Path) -> None:
    pictures = thumbnails(anger, 4.1)
    times = [picture.time_s for picture in pictures]
    assert len(times) == 8 and times == sorted(set(times)) and times[0] == 0.0 and times[-1] < 4.1
    with Clip(anger, 100.0) as clip:
        frames = {item.time_s: small(item.image) for item in clip if isinstance(item, Frame)}
    for picture in pictures:
        assert np.abs(image(picture).astype(int) - frames[picture.time_s]).mean() < 4


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 s of frames that hold their number, two a second, a keyframe every 4 s."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return write_clip(path, 200, 2, encoding={**FAST, "g": "8"})


def numbers(pictures: tuple[Thumbnail, ...]) -> list[int]:
    return [frame_number(image(picture)) for picture in pictures]


def test_of_a_long_clip_only_keyframes_are_decoded(
    long_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mfer_edge.outputs.thumbnails._sampled", lambda *_: pytest.fail("all was decoded")
    )
    pictures = thumbnails(long_clip, 200.0)
    assert numbers(pictures) == list(range(0, 400, 8))
    assert [picture.time_s for picture in pictures] == [float(at) for at in range(0, 200, 4)]


def test_where_times_can_not_be_sought_everything_is_decoded(long_clip: Path) -> None:
    pictures = thumbnails(long_clip, 190.0)  # not its length: as of recordings that were joined
    assert len(pictures) == MAX_COUNT
    assert numbers(pictures) == [round(2 * picture.time_s) for picture in pictures]
    assert pictures[-1].time_s == pytest.approx(190 - 190 / MAX_COUNT, abs=0.5)


def test_with_too_few_keyframes_too(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "rare.mp4", 150, 2, encoding={**FAST, "g": "999"})
    assert numbers(thumbnails(clip, 150.0)) == [5 * number for number in range(60)]


def test_pictures_of_noise_stay_in_bounds(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 90, 160, 3), np.uint8)
    clip = write_clip(
        tmp_path / "noise.mp4", 32, 2, (160, 90), video=lambda i: noise[i], encoding=FAST
    )
    pictures = thumbnails(clip, 32.0)
    assert len(pictures) == MAX_COUNT
    assert 0.1 * MAX_BYTES < sum(len(picture.jpeg) for picture in pictures) <= MAX_BYTES


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1080, 1920), (90, 160)),
        ((1920, 1080), (90, 51)),
        ((40, 30), (40, 30)),
        ((1, 9000), (1, 160)),
    ],
)
def test_proportions_are_kept(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert small(np.zeros((*size, 3), np.uint8)).shape[:2] == expected


def test_sound_has_no_pictures(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "sound.wav", video=None, audio=sine(2.0))
    assert thumbnails(clip, 2.0) == ()


def test_clip_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        thumbnails(tmp_path / "gone.mp4", 3.0)
