"""`mfer-edge batch` as a process: workers, a kill in the middle, wrong usage."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result

from benchmarks.harness.children import descendants
from tests.support.commands import refused, run

COMMAND = [sys.executable, "-m", "mfer_edge", "batch"]
SETTINGS = ("--device", "cpu", "--threads", "1")
"""With more threads 8-bit products are rounded in another order: the last digits may differ."""
LIMIT_S = 120.0  # for what takes seconds, on a machine that others use


@pytest.fixture(scope="module")
def corpus(
    moment: Path, voice: Path, anger: Path, fear: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name, source in (("1.mp4", anger), ("2.wav", voice), ("3.mp4", moment), ("5.mp4", fear)):
        shutil.copyfile(source, folder / name)
    shutil.copyfile(voice, folder / "copy.wav")
    (folder / "4.mp4").write_text("no clip")
    return folder


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Tables of the corpus, analysed by one worker."""
    out = tmp_path_factory.mktemp("expected")
    assert batch(corpus, out, "--workers", 1).exit_code == 1
    made = tables(out)
    assert [len(made[name]) for name in ("windows", "clips", "failures")] == [5, 5, 1]
    return made


def batch(*arguments: object) -> Result:
    inputs, out, *options = arguments
    return run("batch", *SETTINGS, inputs, "--out", out, *options)


def tables(out: Path) -> dict[str, list]:
    """Rows of all tables, without the time that a clip took."""
    made = {}
    for name in ("windows", "clips", "failures"):
        with open(out / f"{name}.csv", newline="", encoding="utf-8") as file:
            made[name] = [{**row, "wall_s": ""} for row in csv.DictReader(file)]
    return made


def records(out: Path) -> int:
    journal = out / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


class TestRuns:
    def test_two_workers_give_the_same_rows(
        self, corpus: Path, expected: dict, tmp_path: Path
    ) -> None:
        result = batch(corpus, tmp_path / "out", "--workers", 2)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: {corpus}/4.mp4: not a video")
        assert "6 clips in" in result.stdout and "1 copy, 1 failed" in result.stdout
        assert tables(tmp_path / "out") == expected

    def test_killed_and_resumed(self, corpus: Path, expected: dict, tmp_path: Path) -> None:
        out = tmp_path / "out"
        command = [*COMMAND, corpus, "--out", out, "--workers", "1", *SETTINGS, "--quiet"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            end = time.monotonic() + LIMIT_S
            while not records(out) and time.monotonic() < end:
                time.sleep(0.01)
            workers = descendants(process.pid)
            process.kill()
        assert 0 < records(out) < 5 and workers
        end = time.monotonic() + LIMIT_S
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
            time.sleep(0.01)  # no worker is left behind
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        result = batch(corpus, out, "--workers", 1)
        assert "known from earlier" in result.stdout
        assert records(out) == 5  # none twice
        assert tables(out) == expected

    def test_interrupted(self, corpus: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        command = [*COMMAND, corpus, "--out", out, "--workers", "1", *SETTINGS]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            end = time.monotonic() + LIMIT_S
            while not records(out) and time.monotonic() < end:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate()
        assert process.returncode == 130
        assert stderr.splitlines()[-1] == "interrupted"
        made = tables(out)
        assert len(made["clips"]) + len(made["failures"]) == records(out) > 0

    def test_a_list_on_stdin(self, corpus: Path, expected: dict, tmp_path: Path) -> None:
        done = subprocess.run(
            [*COMMAND, "-", "--out", tmp_path, "--format", "both", *SETTINGS],
            input=f"{corpus}/2.wav\n",
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(done.stderr)  # pyarrow is not installed
        assert tables(tmp_path)["clips"] == [
            row for row in expected["clips"] if row["path"] == f"{corpus}/2.wav"
        ]
        assert (tmp_path / "windows.parquet").stat().st_size > 0

    def test_a_clip_that_takes_too_long(self, corpus: Path, tmp_path: Path) -> None:
        result = batch(corpus / "1.mp4", tmp_path, "--timeout", 0.01)
        assert result.exit_code == 1
        assert result.stderr == f"error: {corpus}/1.mp4: stopped as it was not done in 0.01 s\n"
        assert tables(tmp_path)["failures"][0]["error"] == "HangError"


class TestWrongUse:
    @pytest.mark.parametrize(
        ("options", "code", "fact"),
        [
            (["--adapt", "auto"], 2, "--adapt auto: not offered"),
            (["--adapt", "nowhere.npz"], 1, "nowhere.npz"),
            (["--gpu-share", 0.5], 2, "--gpu-share is for --ray"),
            (["--workers", 0], 2, "--workers"),
            (["--format", "xlsx"], 2, "'xlsx' is not one of 'csv', 'parquet', 'both'"),
            (["--window", 20], 2, "the window is 20 s"),
            (["--bundle", "nowhere"], 1, "nowhere"),
            (["--ray", os.devnull], 2, "not the address of a cluster"),
        ],
    )
    def test_is_said_before_the_work(
        self, corpus: Path, tmp_path: Path, options: list, code: int, fact: str
    ) -> None:
        assert fact in refused(batch(corpus, tmp_path / "out", *options), code)
        assert not (tmp_path / "out").exists()

    def test_no_input(self, tmp_path: Path) -> None:
        assert "INPUT..." in refused(run("batch", "--out", tmp_path), 2)

    def test_an_empty_list(self, tmp_path: Path) -> None:
        (tmp_path / "list.csv").write_text("path\n")
        line = refused(batch(tmp_path / "list.csv", tmp_path / "out"), 2)
        assert line == "there are no clips in what was given"

    @pytest.mark.parametrize("name", ["failures.csv", "windows.csv", "clips.csv"])
    def test_a_list_that_would_be_overwritten(self, tmp_path: Path, name: str) -> None:
        """As the failures of the batch itself, given to it once more."""
        given = tmp_path / name
        given.write_text("path,note\na.mp4,mine\n")
        assert f"--out {given}: this is a source" in refused(batch(given, tmp_path), 2)
        assert given.read_text() == "path,note\na.mp4,mine\n"

    def test_a_file_of_somebody_with_the_name_of_a_table(
        self, corpus: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "clips.csv").write_text("clip,price\na.mp4,12\n")
        line = refused(batch(corpus, tmp_path), 1)
        assert "clips.csv: there is another file of that name" in line
        assert (tmp_path / "clips.csv").read_text() == "clip,price\na.mp4,12\n"
        assert not (tmp_path / "windows.csv").exists()

    def test_a_file_instead_of_a_folder(self, corpus: Path) -> None:
        assert "'--out'" in refused(batch(corpus, corpus / "2.wav"), 2)

    def test_every_clip_fails_without_a_worker(self, tmp_path: Path) -> None:
        result = batch(tmp_path / "nowhere.mp4", tmp_path / "out")
        assert result.exit_code == 1
        assert result.stderr == f"error: {tmp_path}/nowhere.mp4: No such file or directory\n"
