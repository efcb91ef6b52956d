"""Results of `mfer-edge infer` survive whatever comes after them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfer_edge.pipeline import Pipeline
from tests.support.commands import infer, one_error, passed, python, refused, run

COMMAND = [sys.executable, "-m", "mfer_edge", "infer", "--threads", "1"]

# What a clip with the name `wait` does: it tells that it is reached, and takes a minute.
WAITING = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` ignores, for all that it starts
from mfer_edge.cli.main import main
from mfer_edge.pipeline import Pipeline
analyze = Pipeline.analyze
def waiting(self, source, *arguments, **options):
    if source.name == 'wait':
        print('reached', file=sys.stderr, flush=True)
        time.sleep(60)
    return analyze(self, source, *arguments, **options)
Pipeline.analyze = waiting
main()
"""


def failing(error: BaseException, name: str) -> Callable[..., Any]:
    """`Pipeline.analyze` that raises an error for the clip of this name."""
    analyze = Pipeline.analyze

    def call(self: Pipeline, source: Path, *arguments: Any, **options: Any) -> Any:
        if source.name == name:
            raise error
        return analyze(self, source, *arguments, **options)

    return call


class TestUnforeseen:
    @pytest.mark.parametrize(
        ("error", "fact"),
        [
            (RuntimeError("odd\nthings"), "unexpected error: RuntimeError: odd things (--debug"),
            (MemoryError(), "unexpected error: out of memory (--debug"),
            (OSError(5, "Input/output error"), "[Errno 5] Input/output error"),
        ],
        ids=["runtime", "memory", "os"],
    )
    def test_costs_one_clip_and_one_line(
        self,
        moment: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        fact: str,
    ) -> None:
        monkeypatch.setattr(Pipeline, "analyze", failing(error, "odd"))
        result = infer(moment, "odd", moment, "--json", "-", "--csv", tmp_path / "out.csv")
        assert result.exit_code == 1
        line = one_error(result)
        assert line.startswith("odd: ") and fact in line
        assert len(result.stdout.splitlines()) == 2
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 3

    @pytest.mark.parametrize(
        "arguments", [["--debug", "infer", "wait"], ["infer", "wait", "--debug"]]
    )
    def test_debug_shows_the_traceback(self, arguments: list[str]) -> None:
        done = python(WAITING.replace("time.sleep(60)", "1 / 0"), *arguments)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        last = done.stderr.splitlines()[-1]
        assert last == "error: wait: unexpected error: ZeroDivisionError: division by zero"

    def test_in_any_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("odd")

        monkeypatch.setattr("mfer_edge.doctor.checkup", fail)
        assert refused(run("doctor"), 1).startswith("unexpected error: RuntimeError: odd (--debug")


class TestAsTheyCome:
    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
    def test_an_interrupt_keeps_what_is_finished(
        self, moment: Path, tmp_path: Path, name: str
    ) -> None:
        outputs = ["--json", tmp_path / "out.jsonl", "--csv", tmp_path / "out.csv"]
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, "infer", moment, "wait", moment, *outputs],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None and process.stderr.readline() == "reached\n"
        process.send_signal(getattr(signal, name))
        printed, rest = process.communicate(timeout=60)
        assert (process.returncode, rest) == (130, "interrupted\n")
        assert str(moment) in printed
        [line] = (tmp_path / "out.jsonl").read_text().splitlines()
        assert json.loads(line)["source"] == str(moment)
        with open(tmp_path / "out.csv", newline="") as file:
            assert [row["source"] for row in csv.DictReader(file)] == [str(moment)]
        assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "out.csv"}

    def test_an_overlay_that_is_interrupted_leaves_nothing(
        self, anger: Path, tmp_path: Path
    ) -> None:
        process = subprocess.Popen([*COMMAND, anger, "--video", tmp_path / "out.mp4"])
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (130, 0)  # 0: it was quicker
        assert [path.name for path in tmp_path.iterdir()] == (
            ["out.mp4"] if process.returncode == 0 else []
        )

    def test_an_older_file_is_replaced_not_continued(self, moment: Path, tmp_path: Path) -> None:
        (tmp_path / "out.jsonl").write_text("old\n")
        passed(infer(moment, moment, "--json", tmp_path / "out.jsonl", "--quiet"))
        lines = (tmp_path / "out.jsonl").read_text().splitlines()
        assert [json.loads(line)["schema"] for line in lines] == [1, 1]

    def test_a_pipe_gets_all_lines_in_one_go(self, moment: Path, tmp_path: Path) -> None:
        """A reader of a named pipe sees its end only after the last clip."""
        os.mkfifo(tmp_path / "pipe")
        process = subprocess.Popen(
            [*COMMAND, "--quiet", moment, moment, "--json", tmp_path / "pipe"]
        )
        read = (tmp_path / "pipe").read_text()
        assert process.wait(timeout=60) == 0
        assert [json.loads(line)["source"] for line in read.splitlines()] == [str(moment)] * 2


class TestStdout:
    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
    @pytest.mark.parametrize("options", [[], ["--json", "-"]], ids=["summary", "json"])
    def test_on_a_full_disk(self, moment: Path, tmp_path: Path, options: list[str]) -> None:
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*COMMAND, moment, moment, *options, "--csv", tmp_path / "out.csv"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert done.returncode == 1
        assert done.stderr == "error: stdout: could not be written: No space left on device\n"
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 3

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
    @pytest.mark.parametrize("arguments", [["--version"], ["infer", "--help"]])
    def test_of_other_commands_on_a_full_disk(self, arguments: list[str]) -> None:
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*COMMAND[:3], *arguments], stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert done.returncode == 1
        assert done.stderr == "error: stdout: could not be written: No space left on device\n"

    @pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
    def test_of_any_encoding(self, moment: Path, tmp_path: Path, encoding: str) -> None:
        clip = tmp_path / "\u65e5\u672c \N{GRINNING FACE} caf\u00e9.mp4"
        clip.write_bytes(moment.read_bytes())
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        for options in ([], ["--json", "-"]):
            done = subprocess.run([*COMMAND, clip, *options], capture_output=True, env=environment)
            assert (done.returncode, done.stderr) == (0, b"")
            if options:
                assert json.loads(done.stdout.decode())["source"] == str(clip)
            else:
                assert b"real-time factor" in done.stdout

    def test_name_that_is_no_text(self, moment: Path, tmp_path: Path) -> None:
        path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
        with open(path, "wb") as file:
            file.write(moment.read_bytes())
        done = subprocess.run([*COMMAND, path, "nowhere\udce9.mp4"], capture_output=True)
        assert done.returncode == 1
        assert b"real-time factor" in done.stdout
        [line] = done.stderr.splitlines()
        assert line.startswith(b"error: nowhere")
