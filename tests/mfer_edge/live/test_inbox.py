"""The hand-over from a source to a session: frames are dropped, sound never is."""

from __future__ import annotations

import threading

import numpy as np

from mfer_edge.live.inbox import MAX_FRAMES, Connected, Ended, Inbox, Lost
from mfer_edge.sources.base import AudioChunk, Frame
from tests.support.sessions import NOBODY


def frame(time_s: float) -> Frame:
    return Frame(time_s, NOBODY)


def sound(samples: int = 1600) -> AudioChunk:
    return AudioChunk(np.zeros(samples, np.float32))


def items(inbox: Inbox) -> list:
    found = []
    while (arrival := inbox.get(0)) is not None:
        found.append(arrival.item)
    return found


def test_the_frame_that_waited_longest_is_dropped_and_no_sound() -> None:
    inbox = Inbox()
    chunks = [sound() for _ in range(40)]
    for index, chunk in enumerate(chunks):
        inbox.put(frame(float(index)))
        inbox.put(chunk)
    assert inbox.dropped == 40 - MAX_FRAMES
    left = items(inbox)
    assert [i.time_s for i in left if isinstance(i, Frame)] == [35, 36, 37, 38, 39]
    assert [i for i in left if isinstance(i, AudioChunk)] == chunks


def test_items_stay_in_order_and_nothing_is_dropped_while_there_is_room() -> None:
    inbox = Inbox()
    given = [Connected(True, True, 5.0), frame(0), sound(), frame(1), Lost("gone"), frame(2)]
    for item in given:
        inbox.put(item)
    assert items(inbox) == given
    assert inbox.dropped == 0


def test_room_that_was_made_is_used() -> None:
    inbox = Inbox(max_frames=1)
    for index in range(4):
        inbox.put(frame(index))
        assert [item.time_s for item in items(inbox)] == [index]
    assert inbox.dropped == 0


def test_a_source_that_can_wait_waits() -> None:
    inbox, count = Inbox(), 30

    def fill() -> None:
        for index in range(count):
            inbox.put(frame(index), wait=True)
            inbox.put(sound(16_000), wait=True)
        inbox.put(Ended())

    thread = threading.Thread(target=fill)
    thread.start()
    found = []
    while (arrival := inbox.get()) is not None:
        assert inbox.audio_s <= 3.0
        found.append(arrival.item)
    thread.join()
    assert [i.time_s for i in found if isinstance(i, Frame)] == list(range(count))
    assert inbox.dropped == 0 and len(found) == 2 * count + 1


def test_after_the_end_nothing_is_taken() -> None:
    inbox = Inbox()
    assert inbox.put(frame(0))
    inbox.put(Ended(3.0))
    assert not inbox.put(frame(1)) and not inbox.put(sound(), wait=True) and inbox.ended
    assert items(inbox)[1:] == [Ended(3.0)]
    assert inbox.get() is None  # at once, though it may wait forever


def test_the_end_releases_a_source_that_waits() -> None:
    inbox = Inbox(max_frames=1)
    inbox.put(frame(0))
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.put(frame(1), wait=True)))
    thread.start()
    inbox.put(Ended())
    thread.join(10)
    assert taken == [False]
