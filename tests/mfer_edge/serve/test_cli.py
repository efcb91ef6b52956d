"""`mfer-edge serve`."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mfer_edge.bench.result import result_dict
from mfer_edge.errors import MferError
from mfer_edge.serve.cli import _measured_sessions
from tests.support.bench_results import BENCH
from tests.support.commands import refused, run

LIMIT_S = 60.0  # for an answer, on a machine that others use


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as a process of its own, and the address that it prints."""
    command = [sys.executable, "-m", "mfer_edge", "serve", "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--threads", "1", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as started:
        try:
            assert started.stdout is not None
            yield started, started.stdout.readline().split()[0]
        finally:
            started.kill()


class TestProcess:
    def test_answers_until_it_is_interrupted(self) -> None:
        with process("--sessions", "3") as (started, address):
            with urlopen(f"{address}v1/info", timeout=LIMIT_S) as answer:
                assert json.load(answer)["sessions"] == {"active": 0, "limit": 3}
            stream = address.replace("http", "ws") + "v1/stream"
            with pytest.raises(InvalidStatus):  # refused, without a line on the terminal
                connect(stream, origin="http://elsewhere.example")  # type: ignore[arg-type]
            started.send_signal(signal.SIGINT)
            _, errors = started.communicate(timeout=LIMIT_S)
        assert (started.returncode, errors.strip()) == (130, "interrupted")

    def test_a_request_that_is_cut_off_costs_one_line(self) -> None:
        with process() as (started, address):
            with urlopen(f"{address}v1/info", timeout=LIMIT_S):
                pass
            host, port = address.removeprefix("http://").rstrip("/").split(":")
            with socket.create_connection((host, int(port)), LIMIT_S) as slow:
                slow.sendall(
                    f"POST /v1/analyze HTTP/1.1\r\nHost: {host}:{port}\r\nExpect: 100-continue\r\n"
                    "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 90000\r\n\r\n"
                    .encode()
                )  # fmt: skip
                assert slow.recv(100).startswith(b"HTTP/1.1 100")  # its body is being read
                started.send_signal(signal.SIGINT)
                _, errors = started.communicate(timeout=LIMIT_S)
        assert started.returncode == 130
        assert errors.splitlines() == ["requests that were cut off: 1", "interrupted"]

    def test_beyond_this_machine_a_token_is_made_and_printed(self) -> None:
        with process("--host", "0.0.0.0") as (_, address):
            page, token = address.split("?token=")
            assert len(token) >= 32
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urlopen(f"{page}v1/info", timeout=LIMIT_S)
            bearer = {"Authorization": f"Bearer {token}"}
            request = Request(f"{page}v1/info", headers=bearer)
            assert urlopen(request, timeout=LIMIT_S).status == 200

    def test_https(self, tmp_path: Path) -> None:
        certificate = tmp_path / "own.pem"
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", certificate, "-out",
             tmp_path / "cert.pem"],
            capture_output=True,
        )  # fmt: skip
        if made.returncode:
            pytest.skip("openssl is not installed")
        certificate.write_bytes(certificate.read_bytes() + (tmp_path / "cert.pem").read_bytes())
        with process("--tls-cert", str(certificate)) as (_, address):
            assert address.startswith("https://127.0.0.1:")
            context = ssl.create_default_context(cafile=str(certificate))
            with urlopen(f"{address}v1/healthz", timeout=LIMIT_S, context=context) as answer:
                assert json.load(answer) == {"status": "ok"}


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "code", "fact"),
        [
            (("--tls-key", "key.pem"), 2, "--tls-key needs --tls-cert"),
            (("--sessions", 1, "--bench", "b.json"), 2, "give one"),
            (("--token", "short"), 2, "at least 8"),
            (("--token", "long enough but \x07"), 2, "printable"),
            (("--port", 99_999), 2, "--port"),
            (("--tls-cert", "none.pem"), 1, "none.pem: no such file"),
            (("--tls-cert", "README.md"), 1, "README.md: no certificate"),
            (("--bench", "none.json"), 1, "none.json: No such file"),
            (("--host", "198.51.100.7"), 1, "198.51.100.7:8040: "),
            (("--host", "no such host"), 1, "no such host:8040: "),
            (("--adapt", "none.json", "--port", 0), 1, "none.json"),
        ],
    )
    def test_is_one_line(
        self,
        arguments: tuple,
        code: int,
        fact: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("README.md").write_text("no certificate")
        assert fact in refused(run("serve", *arguments), code)

    def test_a_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert f"127.0.0.1:{port}: in use" in refused(run("serve", "--port", port), 1)


class TestSessions:
    def test_are_those_of_a_benchmark(self, tmp_path: Path) -> None:
        path = tmp_path / "bench.json"
        path.write_text(json.dumps(result_dict(BENCH)))
        assert _measured_sessions(path, None) == 2  # four did not hold

    def test_a_benchmark_without_streams_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "bench.json"
        path.write_text(json.dumps(result_dict(replace(BENCH, trials=()))))
        with pytest.raises(MferError, match="no number of streams held"):
            _measured_sessions(path, None)

    def test_by_default_depend_on_the_cores(self) -> None:
        assert (_measured_sessions(None, 1), _measured_sessions(None, 2)) == (7, 14)
