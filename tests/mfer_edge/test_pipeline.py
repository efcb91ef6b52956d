"""Clips in, analyses out: what a user gets for real clips, and for clips with parts missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.errors import BundleError, EngineError, MediaError
from mfer_edge.manifest import MANIFEST
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from mfer_edge.stopwatch import STAGES
from tests.support.analyses import SEVEN
from tests.support.clips import write_clip
from tests.support.footage import filmed, images_of, repeat, video_first
from tests.support.paths import shared_data

BLACK = np.zeros((180, 320, 3), np.uint8)
MAX_GROWTH_MB = 12.0  # of what Python and NumPy hold, from a clip of 8 s to one of 25 s
MAX_PROCESS_GROWTH_MB = 100.0  # of all; the pictures decoded in between are 150 MB
STRONG_ANGER = "01-01-05-02-02-01-01.mp4"  # RAVDESS: emotion 05, intensity 02
STRONG_FEAR = "01-01-06-02-01-02-04.mp4"


def check_scores(scores: dict[str, float] | None) -> None:
    assert scores is not None
    assert tuple(scores) == SEVEN
    assert all(0 <= value <= 1 for value in scores.values())
    assert sum(scores.values()) == pytest.approx(1, abs=1e-5)


class TestRealClips:
    @pytest.mark.parametrize(
        ("clip", "duration_s", "frames"), [("anger", 4.139, 21), ("fear", 3.413, 17)]
    )
    def test_json(
        self, request: pytest.FixtureRequest, clip: str, duration_s: float, frames: int
    ) -> None:
        analysis: Analysis = request.getfixturevalue(f"{clip}_analysis")
        made = json.loads(json.dumps(analysis.to_dict()))
        keys = "schema source duration_s bundle adaptation device providers overall windows tracks"
        assert list(made) == [*keys.split(), "timing", "warnings"]
        assert made["schema"] == 1
        assert made["source"] == str(request.getfixturevalue(clip))
        assert made["duration_s"] == pytest.approx(duration_s, abs=0.005)
        assert list(made["bundle"]) == ["name", "precision", "trained", "sha256"]
        assert made["bundle"]["sha256"] == Bundle.open().sha256
        assert (made["device"], made["providers"]) == ("cpu", ["CPUExecutionProvider"])
        assert list(made["overall"]) == ["label", "scores", "modalities"]
        [window] = made["windows"]
        keys = "start_s end_s track main label scores modalities visual audio frames faces reused"
        assert list(window) == [*keys.split(), "speech_s", "speaker"]
        assert (window["start_s"], window["end_s"]) == (0.0, made["duration_s"])
        assert (window["track"], window["main"]) == (0, True)
        for scores in (made["overall"]["scores"], *(window[k] for k in ("scores", "visual"))):
            check_scores(scores)
        check_scores(window["audio"])
        assert window["label"] == max(window["scores"], key=lambda label: window["scores"][label])
        assert made["overall"]["scores"] == window["scores"]
        assert made["overall"]["modalities"] == window["modalities"] == ["visual", "audio"]
        assert window["frames"] == frames
        assert window["faces"] >= frames - 1
        assert 1.0 < window["speech_s"] < 3.0
        [track] = made["tracks"]
        assert list(track) == ["track", "start_s", "end_s", "faces"]
        assert track["faces"] == window["faces"]
        timing = made["timing"]
        assert list(timing) == ["wall_s", "rtf", "load_s", "threads", "stages_s"]
        assert list(timing["stages_s"]) == list(STAGES)
        # Decoding goes on beside the other stages, which take turns.
        decode_s = timing["stages_s"].pop("decode")
        for busy_s in (decode_s, sum(timing["stages_s"].values())):
            assert 0 < busy_s <= timing["wall_s"] + 0.01
        assert timing["rtf"] == pytest.approx(timing["wall_s"] / made["duration_s"], abs=0.002)
        assert timing["threads"] == 1 and timing["load_s"] > 0
        assert made["warnings"] == []

    def test_the_two_differ(self, anger_analysis: Analysis, fear_analysis: Analysis) -> None:
        one, other = anger_analysis.windows[0], fear_analysis.windows[0]
        for a, b in ((one.scores, other.scores), (one.visual, other.visual)):
            assert a and b and max(abs(a[label] - b[label]) for label in SEVEN) > 0.01

    def test_twice_gives_the_same(self, pipeline: Pipeline, fear: Path, fear_analysis: Analysis):
        again = pipeline.analyze(fear)
        assert (again.windows, again.tracks) == (fear_analysis.windows, fear_analysis.tracks)

    def test_detections_lie_on_the_face(self, anger_analysis: Analysis) -> None:
        """The actor moves a little, near the middle of the frame of 640 by 360 pixels."""
        assert len(anger_analysis.detections) == anger_analysis.tracks[0].faces
        for detection in anger_analysis.detections:
            assert 120 < detection.left < 280 < detection.right < 440
            assert 20 < detection.top < 180 < detection.bottom < 340

    def test_progress_runs_to_the_end(self, pipeline: Pipeline, fear: Path, tmp_path: Path) -> None:
        audio_only = repeat(fear, tmp_path / "voice.m4a", kinds=("audio",))
        for path in (fear, audio_only):
            shares: list[float] = []
            pipeline.analyze(path, progress=shares.append)
            assert 0 <= min(shares) < 0.1 and 0.9 < max(shares) <= 1


class TestMissingParts:
    def test_no_audio_track(
        self, pipeline: Pipeline, anger: Path, anger_analysis: Analysis, tmp_path: Path
    ) -> None:
        analysis = pipeline.analyze(repeat(anger, tmp_path / "silent.mp4", kinds=("video",)))
        [window] = analysis.windows
        assert window.modalities == ("visual",)
        assert window.audio is None and window.speech_s == 0
        assert window.scores == window.visual == anger_analysis.windows[0].visual
        assert analysis.overall is not None and analysis.overall.modalities == ("visual",)
        assert analysis.warnings == ("no sound track: there is no voice to read",)

    @pytest.mark.parametrize("name", ["voice.m4a", "voice.wav"])
    def test_no_video_track(
        self,
        pipeline: Pipeline,
        anger: Path,
        anger_analysis: Analysis,
        tmp_path: Path,
        name: str,
    ) -> None:
        if name.endswith("m4a"):
            voice = repeat(anger, tmp_path / name, kinds=("audio",))
        else:
            audio = read_audio(anger)[None]
            voice = write_clip(tmp_path / name, audio=audio, rate=SAMPLE_RATE, video=None)
        analysis = pipeline.analyze(voice)
        [window] = analysis.windows
        assert window.modalities == ("audio",)
        assert (window.track, window.frames, window.faces, window.visual) == (None, 0, 0, None)
        assert window.scores == window.audio
        with_face = anger_analysis.windows[0]
        assert window.speech_s == pytest.approx(with_face.speech_s, abs=0.1)
        assert window.audio == pytest.approx(with_face.audio, abs=0.02)
        assert analysis.tracks == ()
        assert analysis.warnings == ("no video track: there is no face to read",)

    def test_black_video_with_the_audio(
        self, pipeline: Pipeline, anger: Path, anger_analysis: Analysis, tmp_path: Path
    ) -> None:
        analysis = pipeline.analyze(filmed(tmp_path / "b.mp4", [BLACK] * 21, read_audio(anger)))
        [window] = analysis.windows
        assert window.modalities == ("audio",)
        assert (window.frames, window.faces, window.track) == (21, 0, None)
        assert window.audio == pytest.approx(anger_analysis.windows[0].audio, abs=0.05)
        assert analysis.warnings == () and analysis.tracks == ()

    def test_silent_track_with_the_video(
        self, pipeline: Pipeline, anger: Path, tmp_path: Path
    ) -> None:
        silence = np.zeros(4 * SAMPLE_RATE, np.float32)
        analysis = pipeline.analyze(filmed(tmp_path / "s.mp4", images_of(anger), silence))
        [window] = analysis.windows
        assert window.modalities == ("visual",)
        assert (window.frames, window.speech_s) == (21, 0.0)
        assert window.faces >= 20
        check_scores(window.scores)
        assert analysis.warnings == ()

    def test_black_and_silent(self, pipeline: Pipeline, tmp_path: Path) -> None:
        silence = np.zeros(6 * SAMPLE_RATE, np.float32)
        analysis = pipeline.analyze(filmed(tmp_path / "n.mp4", [BLACK] * 30, silence))
        assert analysis.overall is None
        made = json.loads(json.dumps(analysis.to_dict()))
        assert made["overall"] is None
        assert [(w["start_s"], w["end_s"]) for w in made["windows"]] == [(0, 4), (1, 5), (2, 6)]
        for window in made["windows"]:
            assert [window[k] for k in ("label", "scores", "visual", "audio", "track")] == [
                None
            ] * 5
            assert (window["modalities"], window["frames"]) == ([], 20)
        assert made["tracks"] == []
        # Every form still has all the labels' columns or rows.
        assert analysis.to_csv().splitlines()[0].endswith(",".join(SEVEN))
        assert analysis.to_vtt() == "WEBVTT\n"

    def test_cut_off_file_says_so(self, pipeline: Pipeline, anger: Path, tmp_path: Path) -> None:
        data = anger.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
        analysis = pipeline.analyze(tmp_path / "cut.mp4")
        assert 0.5 < analysis.duration_s < 3.5
        assert f"after {analysis.duration_s:.1f} s of the 4.1 s" in analysis.warnings[-1]

    def test_audio_behind_all_the_pictures(
        self, pipeline: Pipeline, anger: Path, tmp_path: Path
    ) -> None:
        """Some programs write the frames first and the audio behind them."""
        long = repeat(anger, tmp_path / "long.mp4", 2)
        found = pipeline.analyze(video_first(long, tmp_path / "apart.mkv"))
        assert len(found.windows) == 5
        for window in found.windows:
            assert window.modalities == ("visual", "audio")
            assert window.frames == 20 and window.speech_s > 1
        assert found.warnings == ()

    def test_audio_too_far_behind_is_said(self, pipeline: Pipeline, tmp_path: Path) -> None:
        """It can't be waited for without holding a whole film in memory."""
        silence = np.zeros((1, 80 * SAMPLE_RATE), np.float32)
        made = write_clip(tmp_path / "t.mkv", 80, 5, audio=silence, rate=SAMPLE_RATE)
        found = pipeline.analyze(video_first(made, tmp_path / "apart.mkv"))
        [warning] = found.warnings
        assert re.match(r"1[89]\.\d s of the sound stand too far back in the file", warning)

    def test_untrained_weights_are_said_loudly(
        self, pipeline: Pipeline, fear: Path, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(pipeline.bundle.folder, tmp_path / "bundle")
        manifest = json.loads((folder / MANIFEST).read_text())
        untrained = {"trained": False, "notes": ["The arms are untrained."]}
        (folder / MANIFEST).write_text(json.dumps(manifest | untrained))
        analysis = Pipeline.open(folder, "cpu", 1).analyze(fear)
        assert analysis.to_dict()["bundle"]["trained"] is False
        assert analysis.warnings == ("The arms are untrained. The scores mean nothing.",)


class TestSeveralFaces:
    def test_main_and_all(self, pipeline: Pipeline, pair: Path) -> None:
        main = pipeline.analyze(pair, keep_detections=True)
        every = pipeline.analyze(pair, pipeline.options(faces="all"))
        assert len(main.windows) == 1
        assert main.windows[0].modalities == ("visual", "audio")
        # In so short a clip it is not decided who speaks: the voice is a reading of its own.
        assert [reading.main for reading in every.windows] == [True, False, False]
        kinds = [reading.modalities for reading in every.windows]
        assert kinds == [("visual",), ("visual",), ("audio",)]
        assert every.windows[0].track == main.windows[0].track
        assert every.windows[0].visual == main.windows[0].visual
        assert every.windows[2].audio == main.windows[0].audio and every.overall is not None
        assert [reading.speaker for reading in every.windows] == [None] * 3
        assert len(main.tracks) == len(every.tracks) == 2
        areas: dict[int, float] = {}
        for s in main.detections:
            area = (s.right - s.left) * (s.bottom - s.top)
            areas[s.track] = areas.get(s.track, 0) + area
        assert main.windows[0].track == max(areas, key=lambda track: areas[track])

    def test_csv_and_captions_tell_the_faces_apart(self, pipeline: Pipeline, pair: Path) -> None:
        analysis = pipeline.analyze(pair, pipeline.options(faces="all"))
        lines = analysis.to_csv().splitlines()
        assert len(lines) == 4  # the last for the voice, whose speaker is not known
        assert [line.split(",")[3] for line in lines[1:]] == ["0", "1", ""]
        vtt = analysis.to_vtt()
        assert vtt.count("-->") == 1 and "(face 0)" in vtt and "(face 1)" in vtt


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is measured by Linux")
class TestLongClips:
    @pytest.fixture(scope="class")
    @staticmethod
    def runs(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict]:
        """Analyses of 8 and then of 25 s in one fresh process, which tells its peaks after each.

        By Python's count, and by Linux's (what `getrusage` tells includes the process that started
        it), which includes what allocators keep for reuse: 60 MB more or less, on a busy machine.
        """
        folder = tmp_path_factory.mktemp("long")
        code = (
            "import json, sys, tracemalloc\n"
            "from mfer_edge import Pipeline\n"
            "from mfer_edge.bench.machine import peak_memory\n"
            "pipeline = Pipeline.open(device='cpu', threads=1)\n"
            "tracemalloc.start()\n"
            "for clip in sys.argv[1:]:\n"
            "    tracemalloc.reset_peak()\n"
            "    made = pipeline.analyze(clip).to_dict()\n"
            "    made['held'] = tracemalloc.get_traced_memory()[1]\n"
            "    made |= {'peak': peak_memory(), 'torch': 'torch' in sys.modules}\n"
            "    print(json.dumps(made))\n"
        )
        clips = [repeat(anger, folder / f"{times}.mp4", times) for times in (2, 6)]
        done = subprocess.run(
            [sys.executable, "-c", code, *clips], capture_output=True, check=True, text=True
        )
        return dict(zip((2, 6), map(json.loads, done.stdout.splitlines()), strict=True))

    def test_windows_slide_over_the_clip(self, runs: dict[int, dict]) -> None:
        spans = [(window["start_s"], window["end_s"]) for window in runs[6]["windows"]]
        assert runs[6]["duration_s"] == pytest.approx(25.17, abs=0.05)
        assert spans == [(start, start + 4) for start in range(22)]
        assert all(window["modalities"] == ["visual", "audio"] for window in runs[6]["windows"])
        assert [window["frames"] for window in runs[6]["windows"]] == pytest.approx(
            [20] * 22, abs=1
        )

    def test_memory_does_not_grow_with_the_clip(self, runs: dict[int, dict]) -> None:
        assert runs[6]["held"] - runs[2]["held"] < MAX_GROWTH_MB * 1e6
        assert runs[6]["peak"] - runs[2]["peak"] < MAX_PROCESS_GROWTH_MB * 1e6

    def test_pytorch_is_not_needed(self, runs: dict[int, dict]) -> None:
        assert runs[2]["torch"] is False


class TestWrongInput:
    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda path: None, "No such file"),
            (lambda path: path.write_bytes(b""), "empty"),
            (lambda path: path.write_text("not a clip\n" * 100), "not a video or sound file"),
            (lambda path: path.mkdir(), "folder"),
        ],
        ids=["missing", "empty", "text", "folder"],
    )
    def test_no_clip(
        self, pipeline: Pipeline, tmp_path: Path, make: Callable[[Path], object], told: str
    ) -> None:
        make(tmp_path / "clip.mp4")
        with pytest.raises(MediaError, match=told) as caught:
            pipeline.analyze(tmp_path / "clip.mp4")
        assert str(tmp_path / "clip.mp4") in str(caught.value)

    def test_pipeline_goes_on_after_a_bad_clip(
        self, pipeline: Pipeline, tmp_path: Path, fear: Path, fear_analysis: Analysis
    ) -> None:
        with pytest.raises(MediaError):
            pipeline.analyze(tmp_path / "nothing.mp4")
        assert pipeline.analyze(fear).windows == fear_analysis.windows

    def test_bad_bundle_or_device(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError):
            Pipeline.open(tmp_path, "cpu")
        with pytest.raises(EngineError, match="abacus"):
            Pipeline.open(device="abacus")

    @pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
    def test_a_name_that_is_no_text(self, pipeline: Pipeline, fear: Path, tmp_path: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
        shutil.copy(fear, path)
        analysis = pipeline.analyze(path)
        assert analysis.source == f"{tmp_path}/caf\N{REPLACEMENT CHARACTER}.mp4"
        json.dumps(analysis.to_dict(), ensure_ascii=False).encode()


class TestWindows:
    def test_a_clip_in_short_windows(self, pipeline: Pipeline, anger: Path) -> None:
        analysis = pipeline.analyze(anger, pipeline.options(1.0, 0.5))
        spans = [(r.start_s, r.end_s) for r in analysis.windows]
        assert spans == [(start / 2, start / 2 + 1) for start in range(7)]
        assert analysis.overall is not None
        check_scores(analysis.overall.scores)
        mean = {
            label: np.mean([r.scores[label] for r in analysis.windows if r.scores])
            for label in SEVEN
        }
        assert analysis.overall.scores == pytest.approx(mean)

    def test_detections_are_left_out_of_the_json(self, anger_analysis: Analysis) -> None:
        bare = replace(anger_analysis, detections=())
        assert bare.to_dict() == anger_analysis.to_dict()


class TestOriginals:
    """The full RAVDESS clips, 1280 by 720, where the machine has them."""

    @pytest.fixture(scope="class")
    @staticmethod
    def analyses(pipeline: Pipeline) -> dict[str, Analysis]:
        clips = shared_data("RAVDESS_AV").glob("*.mp4")
        return {clip.name: pipeline.analyze(clip) for clip in sorted(clips)}

    def test_all_can_be_read(self, analyses: dict[str, Analysis]) -> None:
        assert len(analyses) == 4
        for analysis in analyses.values():
            assert analysis.overall is not None
            assert analysis.overall.modalities == ("visual", "audio")
            assert analysis.windows[0].faces >= analysis.windows[0].frames - 1
            assert analysis.warnings == ()

    def test_smaller_samples_are_read_alike(
        self, analyses: dict[str, Analysis], anger_analysis: Analysis
    ) -> None:
        """The sample is the same clip at half the size."""
        original, sample = analyses[STRONG_ANGER].windows[0], anger_analysis.windows[0]
        assert original.frames == sample.frames
        assert original.faces == pytest.approx(sample.faces, abs=1)
        assert original.speech_s == pytest.approx(sample.speech_s, abs=0.15)

    def test_strong_anger_is_angry(self, analyses: dict[str, Analysis]) -> None:
        overall = analyses[STRONG_ANGER].overall
        assert overall is not None and overall.label == "angry"

    def test_strong_fear_is_neither_neutral_nor_calm(self, analyses: dict[str, Analysis]) -> None:
        overall = analyses[STRONG_FEAR].overall
        assert overall is not None and overall.label not in ("neutral", "calm")
