"""`mfer-edge adapt`, and `infer` with what it makes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import Result

from mfer_edge.adapt import Adaptation, AdaptationStatistics, ArmStatistics
from mfer_edge.cli.adapt import summary
from mfer_edge.pipeline import Pipeline
from tests.support.commands import one_error, passed, refused, run, scores_of


@pytest.fixture(scope="module")
def folder(adaptable: Pipeline) -> Path:
    """The bundle's folder."""
    return adaptable.bundle.folder


@pytest.fixture(scope="module")
def office(folder: Path, voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adaptation to one recording."""
    out = tmp_path_factory.mktemp("office") / "office.npz"
    passed(adapt(voice, "--bundle", folder, "--out", out))
    return out


@pytest.fixture(scope="module")
def silent(moment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip without its sound track."""
    path = tmp_path_factory.mktemp("silent") / "silent.mp4"
    with av.open(str(moment)) as source, av.open(str(path), "w") as made:
        video = made.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                made.mux(packet)
    return path


def adapt(*arguments: object) -> Result:
    return run("adapt", "--device", "cpu", "--threads", 1, *arguments)


def infer(folder: Path, *arguments: object) -> Result:
    return run("infer", "--device", "cpu", "--threads", 1, "--bundle", folder, *arguments)


class TestAdapt:
    def test_says_what_was_heard_and_what_weight_that_gives(
        self, adaptable: Pipeline, folder: Path, moment: Path, voice: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "office.npz"
        first, second = passed(adapt(moment, voice, "--bundle", folder, "--out", out)).splitlines()
        heard, seen = "2 windows with speech (weight 0.17)", "1 window with a face (weight 0.17)"
        assert first == f"{out}: {heard} and {seen} in 2 sources"
        assert "warning" in second and "few windows" in second
        made = Adaptation.load(out)
        assert made.model == adaptable.bundle.manifest.model
        assert made.voice is not None and made.face is not None
        assert (made.voice.windows, made.face.windows) == (2, 1)

    def test_many_windows_are_no_warning(
        self, folder: Path, anger: Path, fear: Path, tmp_path: Path
    ) -> None:
        names = [tmp_path / f"{index}{anger.suffix}" for index in range(5)]
        for name, clip in zip(names, [anger, fear] * 3, strict=False):
            shutil.copyfile(clip, name)
        printed = passed(adapt(tmp_path, "--bundle", folder, "--out", tmp_path / "office.npz"))
        assert "office.npz: 5 windows with speech (weight 0.33) and " in printed
        assert "5 windows with a face (weight 0.50) in 5 sources\n" in printed
        assert "few windows" not in printed

    @pytest.mark.parametrize(("share", "warned"), [(14, True), (13, False)])
    def test_one_mood_alone_is_a_warning(self, share: int, warned: bool) -> None:
        labels = {"neutral": share, "happy": 20 - share}
        heard = ArmStatistics(20, 20, np.zeros(3), np.ones(3))
        total = AdaptationStatistics("ab", voice=heard, labels=labels)
        lines = summary(total, Path("office.npz"), 4).splitlines()
        assert lines[0] == "office.npz: 20 windows with speech (weight 0.67) in 4 sources"
        assert [f"{share} of them were taken for neutral" in line for line in lines[1:]] == (
            [True] if warned else []
        )

    def test_a_silent_clip_gives_a_face_alone(
        self, folder: Path, moment: Path, silent: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "face.npz"
        printed = passed(adapt(silent, "--bundle", folder, "--out", out))
        assert printed.startswith(f"{out}: 1 window with a face (weight 0.17) in 1 source\n")
        assert Adaptation.load(out).voice is None
        shown = passed(infer(folder, moment, "--adapt", out))
        assert "  adapted to face.npz: 1 window with a face, weight 0.17\n" in shown

    def test_a_folder_stands_for_the_clips_in_it(
        self, folder: Path, moment: Path, voice: Path, tmp_path: Path
    ) -> None:
        inside = tmp_path / "recordings" / "monday"
        inside.mkdir(parents=True)
        shutil.copyfile(moment, inside / "a.MP4")
        shutil.copyfile(voice, inside.parent / "b.wav")
        (inside / "notes.txt").write_text("not a clip")
        out = tmp_path / "office.npz"
        given = (inside.parent, inside / "a.MP4")  # one of them twice
        printed = passed(adapt(*given, "--bundle", folder, "--out", out))
        assert "2 windows with speech" in printed and "in 2 sources" in printed

    def test_a_source_that_fails_costs_a_line(
        self, folder: Path, voice: Path, bad: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "office.npz"
        result = adapt(bad, voice, "--bundle", folder, "--out", out)
        assert result.exit_code == 1
        assert str(bad) in one_error(result)
        assert "1 window with speech (weight 0.09) in 1 source" in result.stdout
        made = Adaptation.load(out)
        assert made.voice is not None and made.voice.windows == 1

    def test_nothing_but_failures_writes_nothing(
        self, folder: Path, bad: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "office.npz"
        result = adapt(bad, tmp_path / "missing.mp4", "--bundle", folder, "--out", out)
        assert (result.exit_code, result.stdout) == (1, "")
        assert [line.startswith("error: ") for line in result.stderr.splitlines()] == [True] * 3
        assert "no speech" in result.stderr and not out.exists()

    def test_a_folder_without_clips(self, folder: Path, voice: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        result = adapt(
            tmp_path / "empty", voice, "--bundle", folder, "--out", tmp_path / "office.npz"
        )
        assert result.exit_code == 1
        assert "no clips" in one_error(result)

    def test_quiet(self, folder: Path, voice: Path, tmp_path: Path) -> None:
        out = tmp_path / "office.npz"
        assert passed(adapt(voice, "--bundle", folder, "--out", out, "--quiet")) == ""
        assert out.exists()

    def test_a_source_is_never_overwritten(self, folder: Path, voice: Path) -> None:
        before = voice.read_bytes()
        assert "is a source" in refused(adapt(voice, "--bundle", folder, "--out", voice), 2)
        assert voice.read_bytes() == before

    def test_the_output_is_checked_first(self, folder: Path, bad: Path, tmp_path: Path) -> None:
        out = tmp_path / "nope" / "office.npz"
        assert "no folder" in refused(adapt(bad, "--bundle", folder, "--out", out), 1)

    def test_a_model_that_can_not_be_adapted(
        self, voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rigid: Pipeline
    ) -> None:
        monkeypatch.setattr(Pipeline, "open", lambda *arguments, **named: rigid)
        out = tmp_path / "office.npz"
        assert "can't be adapted" in refused(adapt(voice, "--out", out), 1)


class TestInfer:
    def test_uses_it_and_says_so(
        self, adaptable: Pipeline, folder: Path, moment: Path, office: Path
    ) -> None:
        printed = passed(infer(folder, moment, "--adapt", office))
        assert "  adapted to office.npz: 1 window with speech, weight 0.09\n" in printed
        made = json.loads(passed(infer(folder, moment, "--adapt", office, "--json", "-")))
        assert made["adaptation"] == {
            "name": "office.npz",
            "windows": 1,
            "weight": 0.091,
            "face_windows": 0,
            "face_weight": 0.0,
        }
        expected = adaptable.adapted(Adaptation.load(office)).analyze(moment).to_dict()
        assert scores_of(made) == scores_of(expected)

    def test_off_is_the_default(self, folder: Path, moment: Path) -> None:
        one, other = (
            json.loads(passed(infer(folder, moment, "--json", "-", *arguments)))
            for arguments in ((), ("--adapt", "off"))
        )
        assert scores_of(one) == scores_of(other)
        assert one["adaptation"] is None
        assert "adapted" not in passed(infer(folder, moment))

    def test_auto_is_refused_with_the_reason(self, folder: Path, moment: Path) -> None:
        message = refused(infer(folder, moment, "--adapt", "auto"), 2)
        assert "not offered" in message and "mfer-edge adapt" in message

    def test_a_file_that_is_none(self, folder: Path, moment: Path, bad: Path) -> None:
        assert str(bad) in refused(infer(folder, moment, "--adapt", bad), 1)

    def test_a_file_that_is_not_there(self, folder: Path, moment: Path, tmp_path: Path) -> None:
        path = tmp_path / "missing.npz"
        assert str(path) in refused(infer(folder, moment, "--adapt", path), 1)

    def test_another_models_file(
        self, moment: Path, office: Path, folder: Path, tmp_path: Path
    ) -> None:
        made = Adaptation.load(office)
        replace(made, model="ab" * 32).save(tmp_path / "other.npz")
        message = refused(infer(folder, moment, "--adapt", tmp_path / "other.npz"), 1)
        assert "another model" in message and "other.npz" in message
