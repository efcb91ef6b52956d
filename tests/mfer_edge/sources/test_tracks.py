"""Files with several tracks: the one is read that players play, or the one asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from mfer_edge.bench.run import _measured_clip
from mfer_edge.errors import MediaError
from mfer_edge.outputs.overlay import write_overlay
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis
from mfer_edge.sources import tracks
from mfer_edge.sources.base import AudioChunk, Frame, TrackChoice
from mfer_edge.sources.clip import Clip
from tests.support.analyses import analysis, reading
from tests.support.clips import sine
from tests.support.commands import infer, passed, refused
from tests.support.paths import shared_cases

RATE = 16_000
NONE, DEFAULT = Disposition(0), Disposition.default


@dataclass(frozen=True)
class Voice:
    """A sound track of one tone, or of nothing."""

    hertz: float
    disposition: Disposition = NONE
    start_s: float = 0.0
    seconds: float = 1.0
    language: str = ""


@dataclass(frozen=True)
class Scene:
    """A video track of one grey level."""

    level: int
    disposition: Disposition = NONE
    seconds: float = 1.0


def write_tracks(path: Path, scenes: Sequence[Scene], voices: Sequence[Voice]) -> Path:
    with av.open(str(path), "w") as container:
        packets = []
        for scene in scenes:
            video = container.add_stream("libx264", rate=10)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.disposition = scene.disposition
            for index in range(round(10 * scene.seconds)):
                image = np.full((48, 64, 3), scene.level, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                packets += video.encode(frame)
            packets += video.encode(None)
        for voice in voices:
            audio = container.add_stream("aac", rate=RATE, layout="mono")
            audio.disposition = voice.disposition
            if voice.language:
                audio.metadata["language"] = voice.language
            tone = sine(voice.seconds, RATE, voice.hertz)
            for start in range(0, tone.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(tone[:, start : start + 1024], "fltp", "mono")
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = start + round(voice.start_s * RATE)
                packets += audio.encode(frame)
            packets += audio.encode(None) if voice.seconds else []
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def heard_hertz(path: Path, choice: TrackChoice | None = None) -> tuple[float, tuple[str, ...]]:
    """Pitch of the sound that is read, and the clip's warnings."""
    with Clip(path, choice=choice) as clip:
        chunks = [item.samples for item in clip if isinstance(item, AudioChunk)]
    wave = np.concatenate(chunks)
    return np.argmax(np.abs(np.fft.rfft(wave))) * RATE / len(wave), clip.warnings()


def seen_level(path: Path, choice: TrackChoice | None = None) -> float:
    with Clip(path, choice=choice) as clip:
        return float(np.mean([item.image.mean() for item in clip if isinstance(item, Frame)]))


class TestSound:
    @pytest.mark.parametrize(
        ("voices", "number"),
        [
            ([Voice(400), Voice(800)], 1),
            ([Voice(400), Voice(800, DEFAULT)], 2),
            ([Voice(400, DEFAULT), Voice(800, DEFAULT)], 1),
            ([Voice(400, Disposition.comment), Voice(800)], 2),
            ([Voice(400, Disposition.visual_impaired), Voice(800)], 2),
            ([Voice(400, Disposition.comment | DEFAULT), Voice(800)], 1),
            ([Voice(400, seconds=0), Voice(800)], 2),
            ([Voice(400, DEFAULT, seconds=0), Voice(800)], 2),
            ([Voice(400), Voice(600), Voice(800, DEFAULT)], 3),
            ([Voice(400, DEFAULT, start_s=3), Voice(800)], 1),
        ],
    )
    def test_is_the_track_that_players_play(
        self, voices: list[Voice], number: int, tmp_path: Path
    ) -> None:
        path = write_tracks(tmp_path / "clip.mkv", [Scene(90)], voices)
        hertz, warnings = heard_hertz(path)
        assert hertz == pytest.approx(voices[number - 1].hertz, abs=5)
        [warning] = warnings
        assert warning.startswith(f"of {len(voices)} sound tracks number {number} was read, not ")

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_or_the_one_asked_for(self, number: int, tmp_path: Path) -> None:
        voices = [Voice(400), Voice(600, DEFAULT), Voice(800)]
        path = write_tracks(tmp_path / "clip.mp4", [Scene(90)], voices)
        hertz, warnings = heard_hertz(path, TrackChoice(audio=number))
        assert hertz == pytest.approx(voices[number - 1].hertz, abs=5)
        assert warnings == ()

    def test_others_are_named(self, tmp_path: Path) -> None:
        voices = [Voice(400, DEFAULT), Voice(600, Disposition.comment, language="fra"), Voice(800)]
        _, [warning] = heard_hertz(write_tracks(tmp_path / "clip.mkv", [], voices))[1], [""]
        path = write_tracks(tmp_path / "other.mkv", [Scene(90)], voices)
        [warning] = heard_hertz(path)[1]
        assert warning == (
            "of 3 sound tracks number 1 was read, not 2 (fra, comments), 3: choose by --audio-track"
        )

    def test_one_track_needs_no_words(self, tmp_path: Path) -> None:
        assert heard_hertz(write_tracks(tmp_path / "a.mkv", [Scene(9)], [Voice(400)]))[1] == ()

    def test_an_empty_track_is_looked_for_in_bounded_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        voices = [Voice(400, DEFAULT, start_s=8), Voice(800, seconds=9)]
        path = write_tracks(tmp_path / "clip.mkv", [], voices)
        monkeypatch.setattr(tracks, "READ_AHEAD_BYTES", 10_000)
        with Clip(path) as clip:
            assert 10_000 < sum(p.size for p in clip._chosen.read_ahead) < 12_000
        hertz, _ = heard_hertz(path)  # nothing that was read ahead is lost
        assert hertz == pytest.approx(800, abs=5)


class TestVideo:
    def test_is_the_default_one_or_the_one_asked_for(self, tmp_path: Path) -> None:
        path = write_tracks(tmp_path / "clip.mkv", [Scene(60), Scene(180, DEFAULT)], [Voice(400)])
        assert seen_level(path) == pytest.approx(180, abs=4)
        assert seen_level(path, TrackChoice(video=1)) == pytest.approx(60, abs=4)
        with Clip(path) as clip:
            assert clip.warnings() == (
                "of 2 video tracks number 2 was read, not 1: choose by --video-track",
            )
        with Clip(path, frame_rate=None) as clip:  # no video is read, so it does not matter which
            assert clip.warnings() == ()

    def test_an_empty_one_is_passed_over(self, tmp_path: Path) -> None:
        path = write_tracks(tmp_path / "clip.mkv", [Scene(60, seconds=0), Scene(180)], [Voice(400)])
        assert seen_level(path) == pytest.approx(180, abs=4)

    def test_overlay_and_bench_take_the_same(self, tmp_path: Path) -> None:
        scenes, voices = [Scene(60), Scene(180, DEFAULT)], [Voice(400), Voice(800, DEFAULT)]
        path, out = write_tracks(tmp_path / "clip.mkv", scenes, voices), tmp_path / "out.mp4"
        made = analysis([reading(0, 1)], 1.0)
        write_overlay(path, made, out)
        assert seen_level(out) > 150
        assert heard_hertz(out)[0] == pytest.approx(800, abs=5)
        write_overlay(path, made, out, tracks=TrackChoice(video=1, audio=1))
        assert seen_level(out) < 120
        assert heard_hertz(out)[0] == pytest.approx(400, abs=5)
        measured = _measured_clip(path, made)
        assert (measured.width, measured.audio) == (64, "aac")


class TestWrongNumbers:
    def test_one_that_does_not_exist(self, tmp_path: Path) -> None:
        path = write_tracks(tmp_path / "clip.mkv", [Scene(60)], [Voice(400)])
        with pytest.raises(MediaError, match=r"clip\.mkv: sound track 3: there is 1"):
            Clip(path, choice=TrackChoice(audio=3))
        with pytest.raises(MediaError, match=r"clip\.mkv: video track 2: there is 1"):
            Clip(path, choice=TrackChoice(video=2))

    def test_on_the_command_line(self, tmp_path: Path) -> None:
        path = write_tracks(tmp_path / "clip.mkv", [Scene(60)], [Voice(400), Voice(600)])
        assert "there are 2" in refused(infer(path, "--audio-track", "5"), 1)
        assert "--audio-track" in refused(infer(path, "--audio-track", "0"), 2)
        printed = json.loads(passed(infer(path, "--audio-track", "2", "--json", "-")))
        assert printed["warnings"] == []


class TestCases:
    """Files as people have them, each with another person's or no voice in its first track."""

    @pytest.mark.parametrize(
        "name",
        [
            "two_default_second.mkv",
            "two_first_silent.mp4",
            "empty_first_audio.mkv",
            "two_video_default_second.mkv",
        ],
    )
    def test_is_read_like_its_clean_twin(
        self, name: str, pipeline: Pipeline, anger_analysis: Analysis
    ) -> None:
        [window], [expected] = pipeline.analyze(shared_cases(name)).windows, anger_analysis.windows
        assert window.scores is not None and expected.scores is not None
        assert window.faces == expected.faces
        for label, score in expected.scores.items():
            assert window.scores[label] == pytest.approx(score, abs=0.02)
