"""Speech detection, against the `silero-vad` package and on its own promises."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.assets import SILERO_VAD
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import (
    CALL_CHUNKS,
    CHUNK,
    SAMPLE_RATE,
    SpeechProbability,
    SpeechSegment,
    VadOptions,
    collect_speech,
    speech_segments,
)
from tests.support.oracles import silero, silero_probability, silero_segments
from tests.support.paths import shared_data

REAL = [
    *(("RAVDESS", f"Actor_{n:02}", f"03-01-0{n}-01-01-01-{n:02}.flac") for n in range(1, 9)),
    ("RAVDESS", "Actor_23", "03-01-06-02-02-02-23.flac"),
    ("URDU", "Angry"),
    ("URDU", "Happy"),
    ("URDU", "Neutral"),
    ("URDU", "Sad"),
    ("RAVDESS_AV", "01-01-01-01-01-02-01.mp4"),
    ("RAVDESS_AV", "01-01-01-01-01-02-04.mp4"),
    ("RAVDESS_AV", "01-01-05-02-02-01-01.mp4"),
    ("RAVDESS_AV", "01-01-06-02-01-02-04.mp4"),
]

OPTIONS = [
    VadOptions(),
    VadOptions(threshold=0.3, end_threshold=0.15),
    VadOptions(threshold=0.7, end_threshold=0.55),
    VadOptions(threshold=0.9, end_threshold=0.1, min_silence_s=0.0, pad_s=0.0),
    VadOptions(min_silence_s=0.5),
    VadOptions(min_speech_s=1.0, min_silence_s=0.032),
    VadOptions(min_speech_s=0.0, min_silence_s=0.0, pad_s=0.07),
    VadOptions(pad_s=0.4),
]


@functools.cache
def vad() -> OnnxEngine:
    return OnnxEngine(SILERO_VAD, providers_for("cpu"), threads=1)


@functools.cache
def recording(parts: tuple[str, ...]) -> np.ndarray:
    path = shared_data(*parts)
    return read_audio(sorted(path.iterdir())[0] if path.is_dir() else path)


def package_options(options: VadOptions) -> dict[str, float]:
    return {
        "threshold": options.threshold,
        "neg_threshold": options.end_threshold,
        "min_speech_duration_ms": round(options.min_speech_s * 1000),
        "min_silence_duration_ms": round(options.min_silence_s * 1000),
        "speech_pad_ms": round(options.pad_s * 1000),
    }


def pairs(segments: list[SpeechSegment]) -> list[tuple[int, int]]:
    return [(segment.start, segment.end) for segment in segments]


@pytest.mark.parametrize("parts", REAL, ids="/".join)
class TestAgainstThePackage:
    def test_probability(self, parts: tuple[str, ...]) -> None:
        samples = recording(parts)
        silero()
        probability = SpeechProbability(vad())(samples)
        assert probability.dtype == np.float32
        np.testing.assert_allclose(probability, silero_probability(samples), atol=1e-4)

    def test_segments_by_default(self, parts: tuple[str, ...]) -> None:
        samples = recording(parts)
        silero()
        found = speech_segments(SpeechProbability(vad())(samples), len(samples))
        assert pairs(found) == silero_segments(samples)
        assert found  # somebody speaks in all of them

    def test_segments_with_other_options(self, parts: tuple[str, ...]) -> None:
        samples = recording(parts)
        theirs = silero_probability(samples) if silero() else []
        ours = SpeechProbability(vad())(samples)
        for options in OPTIONS:
            expected = silero().get_speech_timestamps_from_probs(
                theirs, audio_length_samples=len(samples), **package_options(options)
            )
            found = speech_segments(ours, len(samples), options)
            assert pairs(found) == [(s["start"], s["end"]) for s in expected], options


def test_the_option_sets_matter() -> None:
    """The parity above would prove little if every option gave the same segments."""
    samples = recording(REAL[0])
    probability = SpeechProbability(vad())(samples)
    results = {tuple(pairs(speech_segments(probability, len(samples), o))) for o in OPTIONS}
    assert len(results) >= 5


levels = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.49, 0.5, 0.6, 0.7, 0.85, 1.0])
runs = st.lists(st.tuples(levels, st.integers(1, 20)), max_size=30)
# A chunk is 32 ms: on its multiples it matters whether a limit itself counts.
milliseconds = st.integers(0, 600) | st.integers(0, 18).map(lambda chunks: 32 * chunks)


@given(
    runs=runs,
    beyond=st.integers(1 - CHUNK, CHUNK),
    threshold=st.sampled_from([0.3, 0.5, 0.6, 0.7]),
    hysteresis=st.sampled_from([0.0, 0.1, 0.15, 0.25]),
    speech_ms=milliseconds,
    silence_ms=milliseconds,
    pad_ms=milliseconds,
)
@settings(max_examples=400)
def test_segments_follow_the_packages_rules(
    runs: list[tuple[float, int]],
    beyond: int,
    threshold: float,
    hysteresis: float,
    speech_ms: int,
    silence_ms: int,
    pad_ms: int,
) -> None:
    probability = np.array([level for level, count in runs for _ in range(count)], np.float32)
    length = max(0, len(probability) * CHUNK + beyond)
    options = VadOptions(
        threshold, threshold - hysteresis, speech_ms / 1000, silence_ms / 1000, pad_ms / 1000
    )
    expected = silero().get_speech_timestamps_from_probs(
        probability.tolist(), audio_length_samples=length, **package_options(options)
    )
    found = speech_segments(probability, length, options)
    assert pairs(found) == [(s["start"], s["end"]) for s in expected]
    edges = [edge for segment in pairs(found) for edge in segment]
    assert edges == sorted(edges)
    assert all(0 <= edge <= length for edge in edges)


@pytest.mark.parametrize("beyond", [-511, -1, 0, 1, 512])
def test_speech_still_going_on_runs_to_the_length(beyond: int) -> None:
    length = 20 * CHUNK + beyond
    assert speech_segments(np.ones(20, np.float32), length) == [SpeechSegment(0, length)]


NOISE = np.random.default_rng(1).normal(0, 0.1, 60 * CHUNK + 123).astype(np.float32)


@given(cuts=st.sets(st.integers(0, 60), max_size=12))
@settings(max_examples=40)
def test_any_cutting_gives_the_same_probability(cuts: set[int]) -> None:
    whole = SpeechProbability(vad())(NOISE)
    stream = SpeechProbability(vad())
    edges = [0, *(cut * CHUNK for cut in sorted(cuts)), len(NOISE)]
    pieces = [NOISE[start:end] for start, end in itertools.pairwise(edges)]
    streamed = np.concatenate([stream(piece) for piece in pieces])
    assert len(streamed) == len(whole) == 61
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_real_speech_chunk_by_chunk() -> None:
    samples = recording(REAL[4])
    stream = SpeechProbability(vad())
    chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    streamed = np.concatenate([stream(chunk) for chunk in chunks])
    np.testing.assert_allclose(streamed, SpeechProbability(vad())(samples), atol=1e-5)


def test_long_recording_does_not_go_through_the_engine_at_once() -> None:
    sizes = []

    def spy(**arrays: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(arrays["input"]))
        return vad()(**arrays)

    samples = np.tile(NOISE, 20)
    probability = SpeechProbability(spy)(samples)
    assert len(probability) == sum(sizes) == -(-len(samples) // CHUNK)
    assert max(sizes) <= CALL_CHUNKS


def test_empty_recording() -> None:
    probability = SpeechProbability(vad())(np.zeros(0, np.float32))
    assert probability.shape == (0,)
    assert speech_segments(probability, 0) == []


def test_recording_shorter_than_a_chunk() -> None:
    samples = NOISE[:100]
    probability = SpeechProbability(vad())(samples)
    assert probability.shape == (1,)
    assert speech_segments(probability, 100) == []


@pytest.mark.parametrize("loudness", [0.0, 1e-4])
def test_silence_holds_no_speech(loudness: float) -> None:
    samples = (NOISE * 10 * loudness).astype(np.float32)
    assert speech_segments(SpeechProbability(vad())(samples), len(samples)) == []


def test_speech_is_found_where_it_is() -> None:
    samples = recording(REAL[4])
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    padded = np.concatenate([silence, samples, silence])
    segments = speech_segments(SpeechProbability(vad())(padded), len(padded))
    assert segments[0].start > 2 * SAMPLE_RATE
    assert segments[-1].end < 2 * SAMPLE_RATE + len(samples)


def test_collected_speech_leaves_out_what_lies_between() -> None:
    samples = np.arange(100, dtype=np.float32)
    speech = collect_speech(samples, [SpeechSegment(10, 20), SpeechSegment(50, 53)])
    assert speech.tolist() == [*range(10, 20), 50, 51, 52]
    assert collect_speech(samples, []).shape == (0,)
