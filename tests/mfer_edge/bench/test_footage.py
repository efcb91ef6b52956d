"""Replay of decoded footage."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import read_sound
from mfer_edge.sources.replay import read_footage
from mfer_edge.speech.vad import SAMPLE_RATE

RATE = 5.0  # frames per second


class TestFootage:
    def test_is_the_clip_in_order_of_time_again_and_again(self, moment: Path) -> None:
        footage = read_footage(moment, RATE)
        assert footage.length_s == pytest.approx(1.6)
        assert len(footage.sound) == round(1.6 * SAMPLE_RATE)
        once = 8 + 16  # pictures, and blocks of 0.1 s
        items = list(islice(footage.replay(), 3 * once))
        due = [due_s for due_s, _ in items]
        assert due == sorted(due)
        times = [item.time_s for _, item in items if isinstance(item, Frame)]
        assert np.allclose(np.diff(times), 0.2)
        sound = np.concatenate([i.samples for _, i in items if not isinstance(i, Frame)])
        assert np.array_equal(sound, np.tile(footage.sound, 3))
        expected = read_sound(moment)
        assert np.array_equal(footage.sound[: len(expected)], expected[: len(footage.sound)])

    def test_gives_nothing_before_it_was_heard(self, moment: Path) -> None:
        heard_s = 0.0
        for due_s, item in islice(read_footage(moment, RATE).replay(), 60):
            if not isinstance(item, Frame):
                heard_s += len(item.samples) / SAMPLE_RATE
                assert due_s == pytest.approx(heard_s)

    def test_holds_no_more_than_asked(self, anger: Path) -> None:
        footage = read_footage(anger, RATE, length_s=1.0)
        assert len(footage.pictures) == 5
        assert (footage.length_s, len(footage.sound)) == (1.0, SAMPLE_RATE)

    def test_of_one_track(self, voice: Path, face: Path) -> None:
        heard, seen = read_footage(voice, RATE), read_footage(face, RATE)
        assert (heard.has_video, heard.has_audio) == (False, True)
        assert (seen.has_video, seen.has_audio) == (True, False)
