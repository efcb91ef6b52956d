"""Speech of a recording that comes in chunks of any size."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.buffer import SpeechBuffer
from mfer_edge.speech.vad import (
    CHUNK,
    SAMPLE_RATE,
    SpeechProbability,
    collect_speech,
    speech_segments,
)

Span = tuple[int, int]


@pytest.fixture(scope="module")
def engines(pipeline: Pipeline) -> dict[str, Engine]:
    return load_engines(pipeline.bundle)


@pytest.fixture(scope="module")
def audio(anger: Path) -> np.ndarray:
    return read_audio(anger)


def spoken(
    vad: Engine, audio: np.ndarray, cuts: list[int], windows: list[Span]
) -> list[np.ndarray]:
    """The speech of each window, asked for as soon as the audio has come that far."""
    buffer, found, left = SpeechBuffer(vad), [], list(windows)
    for start, end in itertools.pairwise([0, *cuts, len(audio)]):
        buffer.push(audio[start:end])
        while left and left[0][1] <= buffer.end:
            found.append(buffer.speech(*left.pop(0)))
    assert not left
    return found


def sliding(length: int, window: int = SAMPLE_RATE, hop: int = SAMPLE_RATE // 2) -> list[Span]:
    return [(start, start + window) for start in range(0, length - window + 1, hop)]


class TestSpeechBuffer:
    @given(data=st.data())
    @settings(max_examples=15)
    def test_any_cutting_gives_the_same_speech(
        self, engines: dict[str, Engine], audio: np.ndarray, data: st.DataObject
    ) -> None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(audio)), max_size=30)))
        windows = sliding(len(audio))
        whole = spoken(engines["vad"], audio, [], windows)
        pieces = spoken(engines["vad"], audio, cuts, windows)
        assert any(len(speech) for speech in whole)
        for one, other in zip(whole, pieces, strict=True):
            assert one.tobytes() == other.tobytes()

    def test_one_sample_at_a_time(self, engines: dict[str, Engine], audio: np.ndarray) -> None:
        short = audio[: 3 * SAMPLE_RATE // 2]
        windows = sliding(len(short))
        whole = spoken(engines["vad"], short, [], windows)
        drops = spoken(engines["vad"], short, list(range(1, len(short))), windows)
        assert [speech.tobytes() for speech in whole] == [speech.tobytes() for speech in drops]

    @pytest.mark.parametrize("short_by", [0, 1, 511, 20_000, 30_000, 65_000])
    def test_whole_recording(
        self, engines: dict[str, Engine], audio: np.ndarray, short_by: int
    ) -> None:
        """A window over all of a recording holds what VAD finds in the recording."""
        audio = audio[: len(audio) - short_by]
        buffer = SpeechBuffer(engines["vad"])
        buffer.push(audio)
        probability = SpeechProbability(engines["vad"])(audio)
        expected = collect_speech(audio, speech_segments(probability, len(audio)))
        assert (buffer.speech(0, len(audio), last=True) == expected).all()
        assert short_by > 60_000 or len(expected) > SAMPLE_RATE // 4

    def test_later_windows_hold_their_part_of_it(
        self, engines: dict[str, Engine], audio: np.ndarray
    ) -> None:
        """Speech that began before a window is cut at its start, not lost."""
        probability = SpeechProbability(engines["vad"])(audio)
        segment = max(speech_segments(probability, len(audio)), key=lambda s: s.end - s.start)
        middle = (segment.start + segment.end) // 2
        buffer = SpeechBuffer(engines["vad"])
        buffer.push(audio)
        speech = buffer.speech(middle, len(audio), last=True)
        assert (speech[: segment.end - middle] == audio[middle : segment.end]).all()

    @pytest.mark.parametrize("hop", [8000, 5000, 512])
    def test_windows_hold_what_vad_finds_in_one_pass(
        self, engines: dict[str, Engine], audio: np.ndarray, hop: int
    ) -> None:
        """Of the chunks that have come whole by the window's end, and are at least partly in it."""
        probability = SpeechProbability(engines["vad"])(audio)
        windows = sliding(len(audio), hop=hop)
        found = spoken(engines["vad"], audio, [], windows)
        for (start, end), speech in zip(windows, found, strict=True):
            first = start // CHUNK
            base = first * CHUNK
            segments = speech_segments(probability[first : end // CHUNK], end - base)
            inside = [range(max(start, base + s.start), base + s.end) for s in segments]
            assert (speech == audio[[i for part in inside for i in part]]).all()
        assert len({len(speech) for speech in found}) > 3

    def test_silence_and_nothing_give_no_speech(self, engines: dict[str, Engine]) -> None:
        buffer = SpeechBuffer(engines["vad"])
        assert buffer.speech(0, 0).shape == (0,)
        buffer.push(np.zeros(3 * SAMPLE_RATE, np.float32))
        assert buffer.speech(0, SAMPLE_RATE).shape == (0,)
        assert buffer.speech(2 * SAMPLE_RATE, 3 * SAMPLE_RATE, last=True).shape == (0,)

    def test_an_array_may_be_used_again(
        self, engines: dict[str, Engine], audio: np.ndarray
    ) -> None:
        """Microphone libraries hand out the same array every time."""
        expected, buffer = SpeechBuffer(engines["vad"]), SpeechBuffer(engines["vad"])
        same = np.zeros(1600, np.float32)
        for start in range(0, len(audio) - 1600, 1600):
            same[:] = audio[start : start + 1600]
            buffer.push(same)
            expected.push(audio[start : start + 1600])
        end = buffer.end
        assert (buffer.speech(0, end) == expected.speech(0, end)).all()

    def test_memory_holds_the_window_however_long_it_goes_on(
        self, engines: dict[str, Engine], audio: np.ndarray
    ) -> None:
        buffer, sizes = SpeechBuffer(engines["vad"]), []
        window, hop = 4 * SAMPLE_RATE, SAMPLE_RATE
        for start in range(0, 100 * SAMPLE_RATE, hop):
            buffer.push(audio[:hop])
            if start + hop >= window:
                buffer.speech(start + hop - window, start + hop)
                sizes.append(held(buffer))
        assert max(sizes) <= 4 * (window + hop + 2 * CHUNK)  # float32, and the VAD's few numbers
        assert max(sizes[-20:]) == max(sizes[10:30])


def held(buffer: SpeechBuffer) -> int:
    """Bytes in the arrays that a buffer holds, those that they are a part of included."""
    arrays = [v for v in vars(buffer).values() if isinstance(v, np.ndarray)]
    arrays += [piece for v in vars(buffer).values() if isinstance(v, list) for piece in v]
    return sum((a if a.base is None else a.base).nbytes for a in arrays)
