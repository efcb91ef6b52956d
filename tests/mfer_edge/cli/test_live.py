"""`mfer-edge live` and `mfer-edge convert`: replays, streams over the network, errors, signals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import pytest

from tests.support.commands import infer, one_error, passed, refused, run

COMMAND = [sys.executable, "-m", "mfer_edge", "live", "--device", "cpu", "--threads", "1"]


def live(*arguments: object):  # type: ignore[no-untyped-def]
    return run("live", "--device", "cpu", "--threads", 1, *arguments)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def streamable(moment: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """`moment` as an MPEG transport stream, which has no length."""
    path = tmp_path_factory.mktemp("stream") / "moment.ts"
    with av.open(str(moment)) as clip, av.open(str(path), "w") as target:
        video = target.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        video.bit_rate = 4_000_000
        audio = target.add_stream("mp2", rate=16_000)
        streams = {"video": video, "audio": audio}
        for frame in clip.decode():
            kind = "video" if isinstance(frame, av.VideoFrame) else "audio"
            target.mux(streams[kind].encode(frame))
        for stream in streams.values():
            target.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture
def server(streamable: bytes) -> Iterator[str]:
    """A server that sends the stream, and closes the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "missing" in self.path:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(streamable)

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


class TestReplay:
    def test_equals_infer_scores_included(self, moment: Path, tmp_path: Path) -> None:
        """The recording of a replay, converted, is the JSON of the file but for its timing."""
        path, options = tmp_path / "run.jsonl", ("--window", 1, "--hop", 0.3, "--faces", "all")
        printed = passed(live("--replay", moment, *options, "--jsonl", path))
        assert re.search(r"angry +\d+%  face 0 +face \+ voice  lag \d", printed)
        assert "0 dropped" in printed and "compute latency" in printed
        converted = json.loads(passed(run("convert", path, "--json", "-")))
        whole = json.loads(passed(infer(moment, *options, "--json", "-")))
        assert len(whole["windows"]) == 3
        assert {**converted, "timing": 0} == {**whole, "timing": 0}

    def test_lines_of_json_on_stdout(self, moment: Path) -> None:
        result = live("--replay", moment, "--jsonl", "-", "--quiet")
        kinds = [json.loads(line)["type"] for line in passed(result).splitlines()]
        assert kinds == ["start", "reading", "end"]

    def test_every_format_of_infer(self, moment: Path, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        passed(live("--replay", moment, "--jsonl", path, "--quiet"))
        names = {"--json": "a.json", "--csv": "a.csv", "--vtt": "a.vtt", "--plot": "a.png"}
        names |= {"--html": "a.html"}
        options = [part for o, name in names.items() for part in (o, tmp_path / name)]
        assert passed(run("convert", path, *options)).startswith(f"{moment}  1.6")
        assert all((tmp_path / name).stat().st_size for name in names.values())
        passed(infer(moment, "--csv", tmp_path / "b.csv", "--vtt", tmp_path / "b.vtt"))
        for name in ("csv", "vtt"):
            made, expected = ((tmp_path / f"{x}.{name}").read_text() for x in "ab")
            assert made == expected

    def test_several_runs_in_a_file(self, moment: Path, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        for _ in range(2):
            passed(live("--replay", moment, "--jsonl", path, "--quiet"))
        assert len(passed(run("convert", path, "--json", "-")).splitlines()) == 2
        assert "choose with --run" in refused(run("convert", path, "--vtt", "-"), 2)
        assert "choose with --run" in refused(run("convert", path, "--html", "a.html"), 2)
        assert "the recording holds 2" in refused(run("convert", path, "--run", 3), 2)
        assert passed(run("convert", path, "--run", 2, "--vtt", "-")).startswith("WEBVTT")

    def test_a_part_of_it(self, anger: Path, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        passed(live("--replay", anger, "--duration", 1, "--jsonl", path, "--quiet"))
        assert lines_of(path)[-1]["duration_s"] <= 1.2


class TestUrl:
    def test_a_stream_that_breaks_off_comes_back(self, server: str, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        options = ("--url", f"{server}/live.ts", "--jsonl", path, "--duration", 3)
        printed = passed(live(*options))
        assert f"lost: {server}/live.ts: " in printed and "it is tried again" in printed
        # A notice comes where the machine is late.
        kinds = [line["type"] for line in lines_of(path) if line["type"] != "notice"]
        assert kinds.count("reading") >= 2 and kinds.count("gap") >= 1
        assert kinds[:4] == ["start", "reading", "lost", "gap"]
        assert "gap" in printed.splitlines()[-2] or "gaps" in printed

    def test_given_up(self, streamable: bytes, tmp_path: Path) -> None:
        """A sender that is there once."""
        listener = socket.create_server(("127.0.0.1", 0))

        def send() -> None:
            connection, _ = listener.accept()
            listener.close()
            with connection:
                connection.sendall(streamable)

        thread = Thread(target=send)
        thread.start()
        url, path = f"tcp://127.0.0.1:{listener.getsockname()[1]}", tmp_path / "run.jsonl"
        result = live("--url", url, "--give-up", 0.1, "--jsonl", path)
        thread.join()
        assert result.exit_code == 1 and "not tried any more" in one_error(result)
        assert [line["type"] for line in lines_of(path)][-1] == "end"  # whole all the same
        assert "1 reading" in result.stdout

    @pytest.mark.parametrize(
        ("url", "fact"),
        [
            ("file:///etc/passwd", "give the path of a file"),
            ("concat:a|b", "not a URL"),
            ("clip.mp4", "a clip is given with --replay"),
            ("gopher://host/x", "the protocol gopher is not opened"),
            ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x: "),
        ],
    )
    def test_that_can_not_be_opened(self, url: str, fact: str) -> None:
        assert fact in refused(live("--url", url), 1)

    def test_that_is_not_there(self, server: str, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        assert "missing" in refused(live("--url", f"{server}/missing", "--jsonl", path), 1)
        assert not path.exists()


class TestErrors:
    def test_devices_that_are_not_there(self, tmp_path: Path) -> None:
        missing = tmp_path / "video7"
        if sys.platform != "linux":
            pytest.skip("cameras have no path on this system")
        assert f"there is no {missing}" in refused(live("--camera", missing, "--mic", "off"), 1)
        line = refused(live("--camera", missing), 1)
        assert line == f"camera {missing}: there is no {missing}"

    @pytest.mark.parametrize(
        ("options", "fact"),
        [
            (["--replay", "a.mp4", "--url", "http://a/b"], "exclude each other"),
            (["--replay", "a.mp4", "--mic", "off"], "exclude each other"),
            (["--camera", "off", "--mic", "off"], "nothing is left"),
            (["--replay", "a.mp4", "--hop", 9], "at most the window"),
            (["--duration", 0], "--duration"),
            (["--adapt", "auto"], "--adapt auto: not offered"),
            (["clip.mp4"], "unexpected extra argument"),
        ],
    )
    def test_wrong_usage(self, options: list, fact: str) -> None:
        assert fact in refused(live(*options), 2)

    def test_a_replay_that_is_no_clip(self, bad: Path, tmp_path: Path) -> None:
        assert "not a video or sound file" in refused(live("--replay", bad), 1)
        assert "No such file" in refused(live("--replay", tmp_path / "no.mp4"), 1)

    def test_the_recording_is_the_source(self, moment: Path) -> None:
        assert "this is the source" in refused(live("--replay", moment, "--jsonl", moment), 2)

    def test_an_adaptation_that_is_none(self, moment: Path, bad: Path) -> None:
        assert "adaptation" in refused(live("--replay", moment, "--adapt", bad), 1)

    def test_convert_of_something_else(self, bad: Path, tmp_path: Path) -> None:
        assert "not a recording" in refused(run("convert", bad), 1)
        assert "No such file" in refused(run("convert", tmp_path / "no.jsonl"), 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_a_summary_and_whole_files(
    anger: Path, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "run.jsonl"
    arguments = ["--replay", str(anger), "--window", "1", "--hop", "0.5", "--jsonl", str(path)]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()  # the first reading
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert "compute latency" in rest
    made = lines_of(path)
    assert made[-1]["type"] == "end"
    passed(run("convert", path, "--vtt", "-"))


def test_on_a_terminal_lines_stay_in_place(moment: Path) -> None:
    main, other = pty.openpty()
    options = ["--replay", str(moment), "--window", "1", "--hop", "0.3", "--faces", "all"]
    with subprocess.Popen([*COMMAND, *options], stdout=other, stderr=other) as process:
        os.close(other)
        text, end_s = b"", time.monotonic() + 60
        while time.monotonic() < end_s:
            if select.select([main], [], [], 1)[0]:
                try:
                    text += os.read(main, 65_536)
                except OSError:  # how Linux says that the other side was closed
                    break
            elif process.poll() is not None:
                break
    os.close(main)
    assert process.returncode == 0
    shown = text.decode()
    assert shown.count("\x1b[2A") == 2  # the lines of the second and third window
    assert "Ctrl-C ends" in shown and "####" in shown
