"""`mfer-edge infer`: its outputs and options."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count
from mfer_edge.engines.onnx import import_onnxruntime
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from tests.support.commands import infer, passed, refused, run, scores_of
from tests.support.footage import filmed
from tests.support.html import Document

LABELS = Bundle.open().manifest.labels


class TestJson:
    def test_of_one_clip(self, moment: Path, expected: dict) -> None:
        made = json.loads(passed(infer(moment, "--json", "-")))
        assert scores_of(made) == expected
        assert made["source"] == str(moment)

    def test_of_several_clips_is_an_object_per_line(
        self, moment: Path, voice: Path, expected: dict
    ) -> None:
        lines = passed(infer(moment, voice, moment, "--json", "-")).splitlines()
        made = [json.loads(line) for line in lines]
        assert [one["source"] for one in made] == [str(moment), str(voice), str(moment)]
        assert scores_of(made[0]) == scores_of(made[2]) == expected
        assert made[1]["overall"]["modalities"] == ["audio"]

    def test_in_a_file(self, moment: Path, expected: dict, tmp_path: Path) -> None:
        printed = passed(infer(moment, "--json", tmp_path / "out.json"))
        assert scores_of(json.loads((tmp_path / "out.json").read_text())) == expected
        assert printed.startswith(f"{moment}  ")  # the summary

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
        """/dev/null must not be replaced by a file."""
        passed(infer(moment, "--json", "/dev/null"))
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    def test_to_a_pipe(self, moment: Path, expected: dict) -> None:
        command = [sys.executable, "-m", "mfer_edge", "infer", moment, "--json", "/dev/stdout"]
        done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True)
        made = json.loads(done.stdout)
        assert made["overall"].keys() == expected["overall"].keys()


class TestOtherFormats:
    def test_csv(self, moment: Path, voice: Path, expected: dict, tmp_path: Path) -> None:
        passed(infer(moment, voice, "--csv", tmp_path / "out.csv"))
        with open(tmp_path / "out.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["source"] for row in rows] == [str(moment), str(voice)]
        assert [row["modalities"] for row in rows] == ["visual+audio", "audio"]
        scores = {label: float(rows[0][label]) for label in LABELS}
        assert scores == expected["windows"][0]["scores"]

    def test_csv_of_a_clip_without_readings_and_another_has_one_header(
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

    def test_html(self, moment: Path, tmp_path: Path) -> None:
        passed(infer(moment, "--html", tmp_path / "out.html"))
        page = Document.of((tmp_path / "out.html").read_text("utf-8"))
        link = str(page.by_id("video").attributes["src"])
        assert (tmp_path / link).resolve() == moment.resolve()
        data = json.loads(page.by_id("data").text)
        assert data["pictures"] and data["people"][0]["name"] == "face 0"

    def test_all_at_once(self, moment: Path, tmp_path: Path) -> None:
        names = {"--json": "a.json", "--csv": "a.csv", "--vtt": "a.vtt", "--plot": "a.jpg"}
        names |= {"--video": "a.MP4", "--html": "a.html"}
        options = [part for o, name in names.items() for part in (o, tmp_path / name)]
        assert passed(infer(moment, *options, "--quiet")) == ""
        assert {path.name for path in tmp_path.iterdir()} == set(names.values())

    def test_summaries_follow_each_other(self, moment: Path, voice: Path) -> None:
        printed = passed(infer(moment, voice))
        assert printed.count("real-time factor") == 2
        assert printed.index(str(moment)) < printed.index(str(voice))
        assert "(face in 8 of 8 frames + voice for " in printed and "(voice for " in printed

    def test_quiet_prints_nothing(self, moment: Path, bad: Path) -> None:
        assert passed(infer(moment, "--quiet")) == ""
        refused(infer(bad, "--quiet"), 1)


class TestOptions:
    def test_window_and_hop(self, moment: Path) -> None:
        made = json.loads(passed(infer(moment, "--window", 1, "--hop", 0.3, "--json", "-")))
        spans = [(window["start_s"], window["end_s"]) for window in made["windows"]]
        assert spans == [(0.0, 1.0), (0.3, 1.3), (0.6, 1.6)]

    @pytest.mark.parametrize(
        ("options", "fact"),
        [
            (["--window", 0], "the window is 0 s"),
            (["--window", -1], "the window is -1 s"),
            (["--window", "nan"], "the window is nan s"),
            (["--window", 20], "at most the 10 s that the bundle compact takes"),
            (["--window", "long"], "'long' is not a valid float"),
            (["--hop", 0], "the hop is 0 s"),
            (["--hop", -1], "the hop is -1 s"),
            (["--hop", 9], "at most the window, 4 s"),
            (["--hop", 1e-6], "at least 0.1 s"),
            (["--threads", 0], "'--threads'"),
            (["--threads", "two"], "'two' is not a valid integer"),
            (["--faces", "both"], "'both' is not one of 'main', 'all'"),
            (["--device", "abacus"], "'abacus' is not one of 'auto', 'cpu', 'cuda', 'tensorrt'"),
            (["--speed", 2], "No such option"),
        ],
    )
    def test_wrong_value(self, moment: Path, options: list, fact: str) -> None:
        assert fact in refused(run("infer", moment, *options), 2)

    def test_faces(self, pair: Path) -> None:
        main = json.loads(passed(infer(pair, "--json", "-")))
        every = json.loads(passed(infer(pair, "--faces", "all", "--json", "-")))
        assert [window["main"] for window in main["windows"]] == [True]
        assert [window["main"] for window in every["windows"]] == [True, False, False]
        assert every["windows"][0]["visual"] == main["windows"][0]["visual"]
        # Both mouths move: whose the voice is, is not decided.
        assert [window["speaker"] for window in every["windows"]] == [None] * 3
        assert every["windows"][2]["audio"] == main["windows"][0]["audio"]
        assert len(main["tracks"]) == len(every["tracks"]) == 2

    def test_threads(self, moment: Path) -> None:
        made = json.loads(passed(run("infer", moment, "--threads", 1, "--json", "-")))
        assert (made["timing"]["threads"], made["warnings"]) == (1, [])

    def test_more_threads_than_cores(self, moment: Path) -> None:
        """They would take minutes to start; what was not done as asked is said."""
        made = json.loads(passed(run("infer", moment, "--threads", 10_000, "--json", "-")))
        assert made["timing"]["threads"] == core_count()
        [warning] = made["warnings"]
        assert warning.startswith("10000 threads were asked for")

    def test_bundle(self, moment: Path, expected: dict, tmp_path: Path) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "mine")
        made = json.loads(passed(infer(moment, "--bundle", folder, "--json", "-")))
        assert scores_of(made) == expected

    def test_device_that_is_not_available(self, moment: Path) -> None:
        if "CUDAExecutionProvider" in import_onnxruntime().get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
        line = refused(run("infer", moment, "--device", "cuda"), 1)
        assert "--device cuda" in line and "mfer-edge's extra gpu" in line

    def test_no_source(self) -> None:
        assert "SOURCES" in refused(run("infer"), 2)

    def test_no_such_command(self) -> None:
        assert "No such command 'infre'" in refused(run("infre"), 2)
