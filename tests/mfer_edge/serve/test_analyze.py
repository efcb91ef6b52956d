"""`POST /v1/analyze`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.options import Limits, ServeOptions
from mfer_edge.serve.upload import delete_leftovers
from tests.support.bombs import write_bomb
from tests.support.commands import scores_of
from tests.support.serving import BOUNDARY, Answer, Served, multipart, serving

PATIENCE_S = 30.0
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def events(answer: Answer) -> list[tuple[str, dict]]:
    """Server-sent events of an answer."""
    found = []
    for event in answer.body.decode().strip().split("\n\n"):
        name, data = event.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder for the server's temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def strict(once: Pipeline, isolated: IsolatedPool) -> Iterator[Served]:
    """A server with tight limits on uploads."""
    limits = Limits(
        sessions=1, uploads=2, upload_bytes=300_000, clip_s=3.6, body_s=2.0, pause_s=0.3
    )
    with serving(once, isolated, ServeOptions(port=0, limits=limits)) as server:
        yield server


class TestResult:
    def test_is_that_of_infer(self, served: Served, once: Pipeline, anger: Path) -> None:
        answer = served.analyze(anger.read_bytes(), "my clip.mp4")
        assert answer.status == 200
        assert answer.json["source"] == "my clip.mp4"
        assert scores_of(answer.json) == scores_of(once.analyze(anger).to_dict())

    def test_options_are_those_of_infer(self, served: Served, once: Pipeline, moment: Path) -> None:
        fields = {"window_s": "1", "hop_s": "0.5", "faces": "all"}
        answer = served.analyze(moment.read_bytes(), fields=fields)
        expected = once.analyze(moment, once.options(1.0, 0.5, "all"))
        assert len(answer.json["windows"]) == 2
        assert scores_of(answer.json) == scores_of(expected.to_dict())

    def test_progress_and_files_come_as_events(self, served: Served, moment: Path) -> None:
        accept = {"Accept": "text/event-stream"}
        answer = served.analyze(moment.read_bytes(), path="/v1/analyze?files=1", headers=accept)
        assert answer.headers["content-type"] == "text/event-stream"
        *progress, (name, result), (last, files) = events(answer)
        assert {name for name, _ in progress} == {"progress"}
        fractions = [data["fraction"] for _, data in progress]
        assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] <= 1
        assert (name, last) == ("result", "files")
        assert result == served.analyze(moment.read_bytes()).json | {"timing": result["timing"]}
        assert files["csv"].startswith("source,") and files["vtt"].startswith("WEBVTT")

    def test_nothing_is_kept(self, served: Served, moment: Path, temporary: Path) -> None:
        assert served.analyze(moment.read_bytes()).status == 200
        assert served.analyze(b"RIFF....WAVE" + bytes(900)).status == 422
        eventually(lambda: list(temporary.iterdir()) == [])

    def test_what_a_killed_server_left_is_deleted(self, temporary: Path) -> None:
        ended = subprocess.Popen(["true"])
        ended.wait()
        left = temporary / f"mfer-edge-upload-{ended.pid}-abc"
        others = [
            temporary / f"mfer-edge-upload-{os.getpid()}-abc",
            temporary / "mfer-edge-upload-x",
        ]
        for folder in (left, *others):
            folder.mkdir()
            (folder / "clip").write_text("a clip")
        delete_leftovers()
        assert sorted(temporary.iterdir()) == sorted(others)


class TestBadClips:
    @pytest.mark.parametrize(
        ("content", "status", "fact"),
        [
            (b"", 400, "no file in the field 'clip'"),
            (b"no clip at all\n" * 50, 415, "not a video or sound file"),
            (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, "not a video or sound file"),
            (b"ffconcat version 1.0\nfile /etc/passwd\n", 415, "not a video or sound file"),
            (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 1 RTP/AVP 0\n", 415, "not a video"),
            (b"\0\0\0\x18ftypmp42" + bytes(2000), 422, "my.mp4: not a video or sound file"),
            (b"RIFF....WAVE" + bytes(2000), 422, "my.mp4: "),
        ],
    )
    def test_are_refused_in_words(
        self, served: Served, content: bytes, status: int, fact: str
    ) -> None:
        answer = served.analyze(content, "my.mp4")
        assert (answer.status, fact in answer.json["error"]) == (status, True), answer.json
        assert "/tmp" not in answer.json["error"]

    def test_an_error_can_be_an_event(self, served: Served) -> None:
        accept = {"Accept": "text/event-stream"}
        answer = served.analyze(b"RIFF....WAVE" + bytes(2000), headers=accept)
        name, data = events(answer)[-1]
        assert name == "error" and "clip.mp4: " in data["error"]

    def test_too_long(self, strict: Served, anger: Path) -> None:
        answer = strict.analyze(anger.read_bytes())  # 4.1 s
        assert answer.status == 422
        assert answer.json["error"] == "clip.mp4: longer than 3.6 s, the most that is taken"

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "..\\..\\boot.ini", "/etc/passwd", "a\x07b", "x" * 500]
    )
    def test_names_are_no_paths(self, served: Served, moment: Path, name: str) -> None:
        shown = served.analyze(moment.read_bytes(), name).json["source"]
        assert shown in ("passwd", "boot.ini", "ab", "x" * 200)


class TestBombs:
    """Clips of less than a megabyte that decode to a hundred gigabytes."""

    def test_huge_frames_are_not_decoded(
        self, served: Served, isolated: IsolatedPool, tmp_path: Path
    ) -> None:
        bomb, before = tmp_path / "bomb.mov", isolated.pids
        assert write_bomb(bomb, (8192, 8192), frames=500, rate=100) > 100e9
        assert bomb.stat().st_size < 1_000_000
        answer = served.analyze(bomb.read_bytes())
        assert answer.status == 422
        assert "frames of 8192 x 8192 pixels" in answer.json["error"]
        assert isolated.pids == before  # it was not needed to end the process

    def test_many_frames_end_with_the_time(
        self, once: Pipeline, isolated: IsolatedPool, moment: Path, tmp_path: Path
    ) -> None:
        bomb = tmp_path / "bomb.mov"
        assert write_bomb(bomb, (4096, 2304), frames=3600, rate=60) > 100e9
        assert bomb.stat().st_size < 1_000_000
        limits = Limits(sessions=1, analysis_s=1.0)
        with serving(once, isolated, ServeOptions(port=0, limits=limits)) as server:
            answer = server.analyze(bomb.read_bytes())
            assert answer.status == 422
            assert answer.json["error"] == "clip.mp4: stopped as it was not done in 1 s"
        with serving(once, isolated, ServeOptions(port=0)) as server:
            assert server.analyze(moment.read_bytes()).status == 200  # by a new process


class TestBodies:
    def test_too_large_by_its_header(self, strict: Served) -> None:
        headers = {**FORM, "Content-Length": str(10**12)}
        connection = strict.connection()
        connection.putrequest("POST", "/v1/analyze")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        assert (response.status, b"at most 0.3 MB" in response.read()) == (413, True)
        connection.close()

    def test_too_large_without_a_header(self, strict: Served) -> None:
        def chunks() -> Iterator[bytes]:
            start, end = multipart(b"RIFF....WAVE" + bytes(10_000), "a.wav").rsplit(b"\r\n--", 1)
            yield start
            for _ in range(100):
                yield bytes(10_000)
            yield b"\r\n--" + end

        connection = strict.connection()
        connection.request("POST", "/v1/analyze", chunks(), FORM, encode_chunked=True)  # type: ignore[arg-type]
        response = connection.getresponse()
        assert (response.status, b"at most 0.3 MB" in response.read()) == (413, True)
        connection.close()

    def test_one_that_stops(self, strict: Served, temporary: Path) -> None:
        with slow(strict, b"RIFF....WAVE", announced=10_000) as raw:
            assert b"408" in raw.recv(100)
        assert list(temporary.iterdir()) == []

    def test_one_that_drips(self, strict: Served, temporary: Path) -> None:
        with slow(strict, b"RIFF....WAVE", announced=10_000) as raw:
            raw.settimeout(0.1)
            started_s = time.monotonic()
            while time.monotonic() - started_s < PATIENCE_S:
                raw.send(b"x")
                try:
                    assert b"408" in raw.recv(100)
                    break
                except TimeoutError:
                    continue
            else:
                pytest.fail("it is still read")
        assert list(temporary.iterdir()) == []

    def test_one_that_is_broken_off(self, strict: Served, temporary: Path) -> None:
        with slow(strict, b"RIFF....WAVE", announced=10_000):
            eventually(lambda: list(temporary.iterdir()) != [])
        eventually(lambda: list(temporary.iterdir()) == [] and strict.state.uploads.taken == 0)

    @pytest.mark.parametrize(
        ("body", "headers", "status", "fact"),
        [
            (b"{}", {"Content-Type": "application/json"}, 415, "multipart/form-data"),
            (b"{}", {"Content-Type": "multipart/form-data"}, 415, "multipart/form-data"),
            (b"no multipart", FORM, 400, "damaged multipart body"),
            (multipart(b"RIFF....WAVE", "a.wav")[:-20], FORM, 400, "cut off"),
            (multipart(b"", "a.wav", {"colour": "red"}), FORM, 400, "unknown field 'colour'"),
            (multipart(b"", "a.wav", {"faces": "x" * 200}), FORM, 400, "faces is too long"),
            (b"--a-boundary\r\nX: " + b"y" * 9000 + b"\r\n\r\n", FORM, 400, "header"),
            (
                multipart(b"RIFF....WAVE" + bytes(900), "a", {"hop_s": "x"}),
                FORM,
                400,
                "hop_s is 'x'",
            ),
            (multipart(b"RIFF....WAVE" + bytes(900), "a", {"hop_s": "nan"}), FORM, 400, "the hop"),
            (multipart(b"RIFF....WAVE" + bytes(900), "a", {"faces": "x"}), FORM, 400, "faces is"),
            (b"--a-boundary\r\n\r\n" * 20, FORM, 400, "unknown field ''"),
        ],
    )
    def test_wrong_ones_are_refused_in_words(
        self, strict: Served, body: bytes, headers: dict, status: int, fact: str
    ) -> None:
        answer = strict.ask("/v1/analyze", "POST", headers=headers, body=body)
        assert (answer.status, fact in answer.json["error"]) == (status, True), answer.json

    def test_only_post(self, served: Served) -> None:
        assert served.ask("/v1/analyze").status == 405


class TestManyAtOnce:
    def test_all_are_answered_or_refused_and_none_is_mixed_up(
        self, strict: Served, moment: Path, temporary: Path
    ) -> None:
        content = moment.read_bytes()
        names = [f"{index}.mp4" for index in range(24)]
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda name: strict.analyze(content, name), names))
        by_status: dict[int, list[str]] = {200: [], 503: []}
        for name, answer in zip(names, answers, strict=True):
            by_status[answer.status].append(name)
            if answer.status == 200:
                assert answer.json["source"] == name
            else:
                assert "try again" in answer.json["error"]
                assert answer.headers["retry-after"] == "5"
        assert by_status[200] and by_status[503]
        eventually(lambda: strict.state.uploads.taken == 0)
        assert list(temporary.iterdir()) == []
        text = strict.ask("/metrics").body.decode()
        assert f'mfer_edge_uploads_total{{outcome="busy"}} {len(by_status[503])}.0' in text
        assert f'mfer_edge_uploads_total{{outcome="done"}} {len(by_status[200])}.0' in text


def slow(server: Served, content: bytes, announced: int) -> socket.socket:
    """Begin an upload and leave it there."""
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    body = multipart(content, "a.wav").rsplit(b"\r\n--", 1)[0]
    head = (
        f"POST /v1/analyze HTTP/1.1\r\nHost: localhost\r\nContent-Length: {announced}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\n\r\n"
    )
    raw.sendall(head.encode() + body)
    return raw


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for what happens in the server's thread."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)
