"""The command line, as a person at a terminal and a script meet it."""

from __future__ import annotations

import csv
import ctypes
import io
import json
import os
import pty
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mfer_edge import __version__
from mfer_edge.bundle import Bundle
from mfer_edge.cli.main import describe, main
from mfer_edge.engines.onnx import import_onnxruntime
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Timing, Track
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.analyses import LABELS, analysis, reading
from tests.support.clips import write_clip
from tests.support.footage import filmed

HEAVY = {"numpy", "onnxruntime", "cv2", "av", "torch"}


def run(*arguments: object) -> Result:
    """Call `mfer-edge`; nothing but an exit may come out of it."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


def infer(*arguments: object) -> Result:
    return run("infer", "--device", "cpu", "--threads", 1, *arguments)


def passed(result: Result) -> str:
    """What a call that went well printed."""
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(result: Result, code: int) -> str:
    """The one line in which a call that did nothing said why."""
    assert result.exit_code == code
    assert result.stdout == ""
    return one_error(result)


def one_error(result: Result) -> str:
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def voice(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The voice alone."""
    sound = read_audio(anger)[None, 22_400:48_000]
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    return write_clip(path, audio=sound, rate=SAMPLE_RATE, video=None)


@pytest.fixture(scope="module")
def expected(pipeline: Pipeline, moment: Path) -> dict:
    """The moment's JSON, but for times and names."""
    return what_was_read(pipeline.analyze(moment).to_dict())


def what_was_read(made: dict) -> dict:
    return {key: made[key] for key in ("schema", "bundle", "overall", "windows", "tracks")}


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.mp4"
    path.write_text("no clip at all\n" * 50)
    return path


class TestJson:
    def test_of_one_clip(self, moment: Path, expected: dict) -> None:
        made = json.loads(passed(infer(moment, "--json", "-")))
        assert what_was_read(made) == expected
        assert made["source"] == str(moment)

    def test_of_several_clips_is_an_object_a_line(
        self, moment: Path, voice: Path, expected: dict
    ) -> None:
        lines = passed(infer(moment, voice, moment, "--json", "-")).splitlines()
        made = [json.loads(line) for line in lines]
        assert [one["source"] for one in made] == [str(moment), str(voice), str(moment)]
        assert what_was_read(made[0]) == what_was_read(made[2]) == expected
        assert made[1]["overall"]["modalities"] == ["audio"]

    def test_in_a_file(self, moment: Path, expected: dict, tmp_path: Path) -> None:
        printed = passed(infer(moment, "--json", tmp_path / "out.json"))
        assert what_was_read(json.loads((tmp_path / "out.json").read_text())) == expected
        assert printed.startswith(f"{moment}  ")  # the person is told all the same

    def test_of_several_clips_in_a_file(self, moment: Path, voice: Path, tmp_path: Path) -> None:
        passed(infer(moment, voice, "--json", tmp_path / "out.jsonl"))
        lines = (tmp_path / "out.jsonl").read_text().splitlines()
        assert [json.loads(line)["source"] for line in lines] == [str(moment), str(voice)]

    def test_through_a_link_keeps_the_link(self, moment: Path, tmp_path: Path) -> None:
        (tmp_path / "real.json").write_text("old")
        (tmp_path / "link.json").symlink_to("real.json")
        passed(infer(moment, "--json", tmp_path / "link.json"))
        assert (tmp_path / "link.json").is_symlink()
        assert json.loads((tmp_path / "real.json").read_text())["schema"] == 1

    def test_to_a_device(self, moment: Path) -> None:
        """Replaced like a file, /dev/null would be gone from the machine."""
        passed(infer(moment, "--json", "/dev/null"))
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    def test_to_a_pipe(self, moment: Path, expected: dict) -> None:
        command = [sys.executable, "-m", "mfer_edge", "infer", moment, "--json", "/dev/stdout"]
        done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True)
        made = json.loads(done.stdout)
        assert made["overall"].keys() == expected["overall"].keys()


class TestOtherForms:
    def test_csv(self, moment: Path, voice: Path, expected: dict, tmp_path: Path) -> None:
        passed(infer(moment, voice, "--csv", tmp_path / "out.csv"))
        with open(tmp_path / "out.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["source"] for row in rows] == [str(moment), str(voice)]
        assert [row["modalities"] for row in rows] == ["visual+audio", "audio"]
        scores = {label: float(rows[0][label]) for label in LABELS}
        assert scores == expected["windows"][0]["scores"]

    def test_csv_of_an_empty_clip_and_a_full_one_has_one_heading(
        self, moment: Path, tmp_path: Path
    ) -> None:
        nothing = filmed(tmp_path / "n.mp4", [np.zeros((48, 64, 3), np.uint8)] * 5, None)
        printed = passed(infer(nothing, moment, "--csv", "-"))
        rows = list(csv.reader(io.StringIO(printed)))
        assert len(rows) == 3
        assert {len(row) for row in rows} == {10 + len(LABELS)}

    def test_vtt(self, moment: Path, tmp_path: Path) -> None:
        printed = passed(infer(moment, "--vtt", "-"))
        assert printed.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.6")
        passed(infer(moment, "--vtt", tmp_path / "out.vtt", "--quiet"))
        assert (tmp_path / "out.vtt").read_text() == printed

    def test_video(self, moment: Path, tmp_path: Path) -> None:
        passed(infer(moment, "--video", tmp_path / "out.mp4"))
        images = {}
        for path in (moment, tmp_path / "out.mp4"):
            with Clip(path) as clip:
                images[path] = [item.image for item in clip if isinstance(item, Frame)]
                assert clip.has_audio
        before, after = (np.array(made, int) for made in images.values())
        assert before.shape == after.shape
        assert (np.abs(before - after) > 60).mean() > 0.01  # something was drawn

    def test_plot(self, moment: Path, tmp_path: Path) -> None:
        passed(infer(moment, "--plot", tmp_path / "out.png"))
        image = cv2.imread(str(tmp_path / "out.png"))
        assert image is not None and image.shape[1] == 1600

    def test_all_at_once(self, moment: Path, tmp_path: Path) -> None:
        names = {"--json": "a.json", "--csv": "a.csv", "--vtt": "a.vtt", "--plot": "a.jpg"}
        names["--video"] = "a.MP4"
        options = [part for o, name in names.items() for part in (o, tmp_path / name)]
        assert passed(infer(moment, *options, "--quiet")) == ""
        assert {path.name for path in tmp_path.iterdir()} == set(names.values())

    def test_quiet_prints_nothing(self, moment: Path, bad: Path) -> None:
        assert passed(infer(moment, "--quiet")) == ""
        refused(infer(bad, "--quiet"), 1)


class TestOptions:
    def test_window_and_hop(self, moment: Path) -> None:
        made = json.loads(passed(infer(moment, "--window", 1, "--hop", 0.3, "--json", "-")))
        spans = [(window["start_s"], window["end_s"]) for window in made["windows"]]
        assert spans == [(0.0, 1.0), (0.3, 1.3), (0.6, 1.6)]

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--window", 0], "the window is 0 s: it must be over 0"),
            (["--window", -1], "the window is -1 s"),
            (["--window", "nan"], "the window is nan s"),
            (["--window", 20], "it must be at most the 10 s that the bundle compact takes"),
            (["--window", "long"], "'long' is not a valid float"),
            (["--hop", 0], "the hop is 0 s"),
            (["--hop", -1], "the hop is -1 s"),
            (["--hop", 9], "at most the window, 4 s"),
            (["--hop", 1e-6], "it must be at least 0.1 s"),
            (["--threads", 0], "'--threads'"),
            (["--threads", "two"], "'two' is not a valid integer"),
            (["--faces", "both"], "'both' is not one of 'main', 'all'"),
            (["--device", "abacus"], "'abacus' is not one of 'auto', 'cpu', 'cuda', 'tensorrt'"),
            (["--speed", 2], "No such option"),
        ],
    )
    def test_wrong_value(self, moment: Path, options: list, told: str) -> None:
        assert told in refused(run("infer", moment, *options), 2)

    def test_faces(self, pair: Path) -> None:
        main = json.loads(passed(infer(pair, "--json", "-")))
        every = json.loads(passed(infer(pair, "--faces", "all", "--json", "-")))
        assert [window["main"] for window in main["windows"]] == [True]
        assert [window["main"] for window in every["windows"]] == [True, False]
        assert every["windows"][0] == main["windows"][0]
        assert len(main["tracks"]) == len(every["tracks"]) == 2

    def test_threads(self, moment: Path) -> None:
        made = json.loads(passed(run("infer", moment, "--threads", 2, "--json", "-")))
        assert made["timing"]["threads"] == 2

    def test_bundle(self, moment: Path, expected: dict, tmp_path: Path) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        made = json.loads(passed(infer(moment, "--bundle", folder, "--json", "-")))
        assert what_was_read(made) == expected

    def test_device_that_is_not_there(self, moment: Path) -> None:
        if "CUDAExecutionProvider" in import_onnxruntime().get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
        line = refused(run("infer", moment, "--device", "cuda"), 1)
        assert "--device cuda" in line and "mfer-edge[gpu]" in line

    def test_no_source(self) -> None:
        assert "SOURCES" in refused(run("infer"), 2)

    def test_no_such_command(self) -> None:
        assert "No such command 'infre'" in refused(run("infre"), 2)


class TestBadClips:
    def test_no_clip(self, bad: Path) -> None:
        assert refused(infer(bad), 1).startswith(f"{bad}: not a video or sound file")

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty.mp4").touch()
        assert refused(infer(tmp_path / "empty.mp4"), 1).endswith("empty.mp4: the file is empty")

    def test_folder(self, tmp_path: Path) -> None:
        assert refused(infer(tmp_path), 1) == f"{tmp_path}: a folder, not a clip"

    def test_missing(self, tmp_path: Path) -> None:
        line = refused(infer(tmp_path / "nowhere.mp4"), 1)
        assert line.startswith(f"{tmp_path / 'nowhere.mp4'}: ")

    def test_cut_before_its_index(self, moment: Path, tmp_path: Path) -> None:
        """The usual broken mp4: what tells where the pictures are stood at the end."""
        data = moment.read_bytes()
        assert data.index(b"mdat") < data.index(b"moov")
        (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
        line = refused(infer(tmp_path / "cut.mp4"), 1)
        assert line.startswith(f"{tmp_path / 'cut.mp4'}: ") and "cut off" in line

    def test_cut_after_its_index(self, anger: Path, tmp_path: Path) -> None:
        data = anger.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
        assert "warning: the file ends after" in passed(infer(tmp_path / "cut.mp4"))

    def test_the_others_are_still_read(
        self, moment: Path, bad: Path, voice: Path, tmp_path: Path
    ) -> None:
        result = infer(moment, bad, voice, "--json", "-", "--csv", tmp_path / "out.csv")
        assert result.exit_code == 1
        assert str(bad) in one_error(result)
        made = [json.loads(line) for line in result.stdout.splitlines()]
        assert [one["source"] for one in made] == [str(moment), str(voice)]
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 3

    def test_results_of_before_are_kept_where_there_are_none(
        self, bad: Path, tmp_path: Path
    ) -> None:
        for name in ("old.json", "old.csv", "old.vtt"):
            (tmp_path / name).write_text("precious")
        options = ["--json", tmp_path / "old.json", "--csv", tmp_path / "old.csv"]
        refused(infer(bad, *options, "--vtt", tmp_path / "old.vtt"), 1)
        for name in ("old.json", "old.csv", "old.vtt"):
            assert (tmp_path / name).read_text() == "precious"

    def test_a_picture_that_cannot_be_drawn_leaves_the_other_results(
        self, voice: Path, tmp_path: Path
    ) -> None:
        result = infer(voice, "--video", tmp_path / "v.mp4", "--json", tmp_path / "v.json")
        assert result.exit_code == 1
        assert one_error(result) == f"{voice}: no video to draw on"
        assert json.loads((tmp_path / "v.json").read_text())["source"] == str(voice)
        assert not (tmp_path / "v.mp4").exists()


class TestBadBundles:
    def test_no_bundle(self, moment: Path, tmp_path: Path) -> None:
        line = refused(infer(moment, "--bundle", tmp_path), 1)
        assert line == f"{tmp_path}: not a bundle (it has no manifest.json)"

    @pytest.mark.parametrize("damage", ["flipped", "missing"])
    def test_damaged_file(self, moment: Path, tmp_path: Path, damage: str) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        path = folder / "face.onnx"
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        path.unlink()
        if damage == "flipped":
            path.write_bytes(data)
        line = refused(infer(moment, "--bundle", folder), 1)
        assert line.startswith(f"{path}: {'altered' if damage == 'flipped' else 'missing'}")


class TestOutputs:
    """What can't be written is said before any work is done: the clip here does not even exist."""

    CLIP = "nowhere.mp4"

    @pytest.mark.parametrize("option", ["--vtt", "--video", "--plot"])
    def test_of_one_clip_only(self, option: str) -> None:
        line = refused(infer(self.CLIP, self.CLIP, option, "out.mp4"), 2)
        assert line == f"{option} takes one source; 2 were given"

    @pytest.mark.parametrize(
        ("option", "name", "told"),
        [
            ("--video", "out.avi", "the name should end in .mp4"),
            ("--video", "-", "the name should end in .mp4"),
            ("--plot", "out.svg", "the name should end in .png or .jpg or .jpeg"),
            ("--json", "nowhere/out.json", "there is no folder"),
            ("--csv", "nowhere/out.csv", "there is no folder"),
            ("--plot", "nowhere/out.png", "there is no folder"),
            ("--json", "file/out.json", "there is no folder"),
        ],
    )
    def test_impossible_place(self, tmp_path: Path, option: str, name: str, told: str) -> None:
        (tmp_path / "file").touch()
        out = name if name == "-" else tmp_path / name
        line = refused(infer(self.CLIP, option, out), 1)
        assert line.startswith(f"{out}: ") and told in line

    def test_folder(self, tmp_path: Path) -> None:
        assert str(tmp_path) in refused(infer(self.CLIP, "--json", tmp_path), 2)

    def test_device_for_a_picture(self, tmp_path: Path) -> None:
        (tmp_path / "null.png").symlink_to("/dev/null")
        line = refused(infer(self.CLIP, "--plot", tmp_path / "null.png"), 1)
        assert line.endswith("a device or a pipe, not a file")

    def test_disk_that_takes_nothing(self) -> None:
        line = refused(infer(self.CLIP, "--json", "/proc/mfer-edge/out.json"), 1)
        assert line.startswith("/proc/mfer-edge/out.json: ")

    def test_two_results_on_stdout(self) -> None:
        line = refused(infer(self.CLIP, "--json", "-", "--csv", "-"), 2)
        assert line == "only one of --json, --csv and --vtt can go to stdout"

    @pytest.mark.parametrize("option", ["--json", "--video"])
    def test_the_clip_itself(self, moment: Path, tmp_path: Path, option: str) -> None:
        clip = Path(shutil.copy(moment, tmp_path))
        line = refused(infer(clip, option, clip), 2)
        assert line.endswith("this is a source; write to another name")
        assert clip.read_bytes() == moment.read_bytes()

    def test_a_forgotten_name_does_not_cost_the_next_clip(
        self, moment: Path, tmp_path: Path
    ) -> None:
        """`--json a.mp4 b.mp4` takes a.mp4 for the place to write to."""
        clip = Path(shutil.copy(moment, tmp_path / "a.mp4"))
        line = refused(infer("--json", clip, moment), 2)
        assert line.endswith("this is the name of a clip, not of a result")
        assert clip.read_bytes() == moment.read_bytes()


def without_privilege() -> None:
    """Take from root, in a process about to start, that it may read and write everything."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="takes the privilege from root as Linux does")
class TestPermissions:
    @pytest.fixture
    @staticmethod
    def closed(tmp_path: Path) -> Iterator[Path]:
        """A folder that may not be entered."""
        path = tmp_path / "closed"
        path.mkdir(mode=0)
        yield path
        path.chmod(0o700)

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mfer_edge", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, preexec_fn=without_privilege)

    def test_clips_that_may_not_be_read(self, moment: Path, closed: Path, tmp_path: Path) -> None:
        path = Path(shutil.copy(moment, tmp_path))
        path.chmod(0)
        done = self.run("infer", path, closed / "clip.mp4", moment, "--json", "-")
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"error: {path}: no permission to read it",
            f"error: {closed / 'clip.mp4'}: Permission denied",
        ]
        assert json.loads(done.stdout)["source"] == str(moment)  # the others go on

    @pytest.mark.parametrize("name", ["manifest.json", "vad.onnx", "."])
    def test_bundle_that_may_not_be_read(self, moment: Path, tmp_path: Path, name: str) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        (folder / name).chmod(0)
        done = self.run("infer", moment, "--bundle", folder)
        (folder / name).chmod(0o700)
        assert (done.returncode, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert line.startswith(f"error: {folder}") and line.endswith("Permission denied")

    @pytest.mark.parametrize("mode", [0o000, 0o500], ids=["closed", "read only"])
    @pytest.mark.parametrize("option", ["--json", "--plot"])
    def test_place_that_may_not_be_written_to(self, closed: Path, option: str, mode: int) -> None:
        closed.chmod(mode)
        done = self.run("infer", "nowhere.mp4", option, closed / "out.png")
        assert (done.returncode, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert line.startswith(f"error: {closed / 'out.png'}: ") and "ermission" in line


class TestDescribe:
    def test_one_window(self) -> None:
        made = analysis([reading(0, 4.14)], 4.14, timing=Timing(0.5, 0.3, 1))
        assert describe(made).splitlines() == [
            "clip.mp4  4.14 s",
            "  happy (face + voice)",
            "",
            "  happy       79% ########################",
            *(f"  {label:<10}   3% #" for label in LABELS if label != "happy"),
            "",
            "  compact int8 on cpu, 1 thread: 0.50 s, real-time factor 0.12",
        ]

    def test_several_windows_are_told_as_stretches(self) -> None:
        windows = [reading(0, 4), reading(1, 5), reading(2, 6, "sad"), reading(3, 7, None)]
        lines = describe(analysis(windows, 7.0)).splitlines()
        assert lines[12:-2] == [
            "      0.0 -    3.5 s  happy       79%",
            "      3.5 -    4.5 s  sad         79%",
            "      4.5 -    7.0 s  no face, no speech",
        ]

    def test_several_faces_are_told_apart(self) -> None:
        windows = [
            made
            for start in (0, 1)
            for made in (
                reading(start, start + 4),
                reading(start, start + 4, "sad", track=1, main=False),
            )
        ]
        tracks = (Track(0, 0, 5, 25), Track(1, 0, 5, 25))
        lines = describe(analysis(windows, 5.0, tracks=tracks)).splitlines()
        assert lines[12:-2] == [
            "      0.0 -    5.0 s  happy       79%  face 0",
            "      0.0 -    5.0 s  sad         79%  face 1",
        ]

    def test_nothing_and_warnings(self) -> None:
        made = analysis([reading(0, 3, None)], 3.0, tracks=(), warnings=("it is dark",))
        lines = describe(made).splitlines()
        assert lines[1] == "  no reading: neither a face nor speech was found"
        assert lines[-1] == "  warning: it is dark"

    def test_voice_alone(self) -> None:
        alone = replace(reading(0, 3), visual=None, track=None, faces=0)
        assert describe(analysis([alone], 3.0)).splitlines()[1] == "  happy (voice)"

    def test_several_clips_follow_each_other(self, moment: Path, voice: Path) -> None:
        printed = passed(infer(moment, voice))
        assert printed.count("real-time factor") == 2
        assert printed.index(str(moment)) < printed.index(str(voice))
        assert "(face + voice)" in printed and "(voice)" in printed


class TestTerminal:
    def test_progress_on_a_terminal_only(self, moment: Path) -> None:
        command = [sys.executable, "-m", "mfer_edge", "infer", moment, "--threads", "1"]
        piped = subprocess.run(command, capture_output=True, text=True, check=True)
        assert piped.stderr == ""
        terminal, side = pty.openpty()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=side, check=True)
        os.close(side)
        shown = os.read(terminal, 100_000).decode()
        os.close(terminal)
        assert moment.name in shown and "100%" in shown

    def test_interrupted(self, moment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Pipeline, "analyze", interrupt)
        result = run("infer", moment)
        assert (result.exit_code, result.output) == (130, "interrupted\n")

    def test_reader_that_went_away(self, moment: Path) -> None:
        """As with `| head -1`."""
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "mfer_edge", "infer", moment, "--json", "-"]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert "Traceback" not in done.stderr


class TestDoctor:
    def test_tells_what_there_is(self) -> None:
        result = run("doctor")
        assert result.exit_code == 0
        lines = {line[4:27].strip(): line for line in result.stdout.splitlines()}
        for name in ("python", "numpy", "onnxruntime", "device cpu", "bundle"):
            assert lines[name].startswith("ok ")
        assert "compact" in lines["bundle"] and "files intact" in lines["bundle"]
        for name in ("device cuda", "device tensorrt", "extra export", "extra train"):
            assert lines[name][:3] in ("ok ", "no ")

    def test_bundle_that_is_not_whole(self, tmp_path: Path) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        (folder / "vad.onnx").unlink()
        result = run("doctor", "--bundle", folder)
        assert result.exit_code == 1
        [line] = [line for line in result.stdout.splitlines() if line.startswith("no  bundle")]
        assert line.endswith(f"{folder / 'vad.onnx'}: missing from the bundle")

    def test_without_onnx_runtime(self) -> None:
        done = python(
            "import sys; sys.modules['onnxruntime'] = None\n"
            "from mfer_edge.cli.main import main; main(['doctor'])"
        )
        assert done.returncode == 1 and done.stderr == ""
        assert "pip install 'mfer-edge[cpu]'" in done.stdout


class TestProgram:
    def test_version(self) -> None:
        assert passed(run("--version")) == f"mfer-edge, version {__version__}\n"

    def test_module_and_script(self) -> None:
        script = Path(sys.executable).with_name("mfer-edge")
        for command in ([sys.executable, "-m", "mfer_edge"], [str(script)]):
            done = subprocess.run([*command, "--version"], capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, "")
            assert __version__ in done.stdout

    def test_help_names_every_command_and_option(self) -> None:
        listed = passed(run("--help"))
        assert all(command in listed for command in ("infer", "export", "doctor"))
        shown = passed(run("infer", "--help"))
        options = "--bundle --device --window --hop --faces --threads --json --csv --vtt --video"
        assert all(option in shown for option in [*options.split(), "--plot", "--quiet"])

    @pytest.mark.parametrize(
        "code",
        [
            "import mfer_edge",
            "import mfer_edge.cli.main",
            "from mfer_edge.cli.main import main; main(['--help'], standalone_mode=False)",
            "from mfer_edge.cli.main import main; main(['infer', '--help'], standalone_mode=False)",
        ],
        ids=["package", "cli", "help", "infer help"],
    )
    def test_start_loads_nothing_heavy(self, code: str) -> None:
        done = python(f"import sys; {code}; print({HEAVY} & sys.modules.keys())")
        assert done.stdout.splitlines()[-1] == "set()"

    def test_infer_works_where_there_is_no_pytorch(self, moment: Path, tmp_path: Path) -> None:
        """And nothing of what the extras bring."""
        code = (
            "import sys\n"
            "absent = ['torch', 'onnx', 'onnxscript', 'safetensors', 'transformers', 'scipy']\n"
            "sys.modules.update(dict.fromkeys(absent))\n"
            "from mfer_edge.cli.main import main\n"
            "main(sys.argv[1:], standalone_mode=False)"
        )
        arguments = ["--plot", tmp_path / "a.png", "--video", tmp_path / "a.mp4", "--quiet"]
        done = python(code, "infer", moment, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_infer_does_not_load_pytorch_where_there_is(self, moment: Path) -> None:
        code = (
            "import sys\n"
            "from mfer_edge.cli.main import main\n"
            "try: main(sys.argv[1:], standalone_mode=False)\n"
            "except SystemExit: print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
        )
        assert python(code, "infer", moment, "--quiet").stdout == "False True\n"

    def test_export_names_the_extra_that_is_missing(self) -> None:
        code = (
            "import sys; sys.modules['torch'] = None\n"
            "from mfer_edge.cli.main import main; main(['export'])"
        )
        done = python(code)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "error: torch is not installed: pip install 'mfer-edge[cpu,export]'\n"

    def test_public_names(self) -> None:
        import mfer_edge

        for name in mfer_edge.__all__:
            assert getattr(mfer_edge, name).__name__ == name
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            mfer_edge.nothing  # noqa: B018
