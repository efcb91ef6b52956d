"""Who is answered: Host, Origin, token, paths."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.app import STATIC
from mfer_edge.serve.options import Limits, ServeOptions
from mfer_edge.serve.security import AccessPolicy
from tests.support.serving import BOUNDARY, Answer, Served, multipart, serving

TOKEN = "a token that is long enough"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


def policy(**options: object) -> AccessPolicy:
    return AccessPolicy.of(ServeOptions(**options))  # type: ignore[arg-type]


def status(rules: AccessPolicy, *, path: str = "/", kind: str = "http", **headers: str) -> int:
    """Status with which a request is refused; 0 if it is not."""
    scope = {
        "type": kind,
        "path": path,
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
        "query_string": b"",
    }
    refusal = rules.refusal(scope)
    return 0 if refusal is None else refusal.status


@pytest.fixture(scope="module")
def guarded(once: Pipeline, isolated: IsolatedPool) -> Iterator[Served]:
    """A server that asks for a token."""
    options = ServeOptions(port=0, token=TOKEN, limits=Limits(sessions=1))
    with serving(once, isolated, options) as server:
        yield server


class TestHost:
    """DNS rebinding: a name of someone else that leads here."""

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8040", "LOCALHOST.:1", "127.0.0.1:8040", "[::1]:8040"]
    )
    def test_this_machine_is_known(self, host: str) -> None:
        assert status(policy(), host=host) == 0

    @pytest.mark.parametrize(
        "host",
        [
            "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.5",
            "localhost@evil.example", "evil.example:8040", "[::1", "0.0.0.0",
        ],
    )  # fmt: skip
    def test_others_are_not(self, host: str) -> None:
        assert status(policy(), host=host) == 421
        assert status(policy(), host=host, kind="websocket") == 421

    def test_beyond_this_machine_addresses_and_own_names_are(self) -> None:
        rules = policy(host="0.0.0.0", token=TOKEN, allow_hosts=("Camera.example",))
        own = socket.gethostname()
        for host in ("192.168.1.5:8040", "[fe80::1]:8040", "camera.example", f"{own}:8040"):
            assert status(rules, host=host, authorization=f"Bearer {TOKEN}") == 0
        assert status(rules, host="evil.example", authorization=f"Bearer {TOKEN}") == 421

    def test_a_real_request_is_refused_in_words(self, served: Served) -> None:
        answer = served.ask("/v1/info", headers={"Host": "evil.example"})
        assert answer.status == 421
        assert "not known as 'evil.example'" in answer.json["error"]


class TestOrigin:
    """Pages of other sites, which the visitor's browser lets connect to here."""

    ORIGINS = ("http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "file://")

    @pytest.mark.parametrize("origin", ORIGINS)
    def test_a_cross_site_web_socket_is_refused(self, served: Served, origin: str) -> None:
        with pytest.raises(InvalidStatus) as refused, served.stream(origin=origin):
            pass
        assert refused.value.response.status_code == 403
        assert b"may not use this server" in refused.value.response.body
        assert served.state.sessions.taken == 0

    @pytest.mark.parametrize("origin", ORIGINS)
    def test_a_cross_site_upload_is_refused(self, served: Served, origin: str) -> None:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Origin": origin}
        body = multipart(b"RIFF....WAVE" + bytes(900), "a.wav")
        answer = served.ask("/v1/analyze", "POST", headers=headers, body=body)
        assert answer.status == 403

    def test_the_own_page_may(self, served: Served) -> None:
        with served.stream({}, origin=served.address):  # type: ignore[arg-type]
            pass


class TestToken:
    def test_is_needed_for_all_but_the_health_check(self, guarded: Served) -> None:
        for path in ("/", "/v1/info", "/metrics", "/v1/openapi.json", "/static/app.js"):
            assert guarded.ask(path).status == 401
            assert guarded.ask(path, headers=BEARER).status == 200
        assert guarded.ask("/v1/healthz").json == {"status": "ok"}
        assert guarded.ask("/v1/analyze", "POST").status == 401
        assert guarded.ask("/v1/stream", headers=UPGRADE).status == 401

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer \xe9"},
            {"Cookie": "mfer_edge_0=wrong"},
            {"Cookie": ";;=;\xe9"},
        ],
    )
    def test_a_wrong_one_is_none(self, guarded: Served, headers: dict) -> None:
        assert guarded.ask("/v1/info", headers=headers).status == 401
        assert guarded.ask("/?token=wrong", headers=headers).status == 401

    def test_from_the_address_it_goes_into_a_cookie(self, guarded: Served) -> None:
        address = "/?token=" + TOKEN.replace(" ", "%20")
        answer = guarded.ask(address)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        sent = {"Cookie": cookie.split(";")[0]}
        assert guarded.ask("/v1/info", headers=sent).status == 200
        with guarded.stream({}, additional_headers=sent):
            pass

    def test_programs_send_a_header(self, guarded: Served) -> None:
        with guarded.stream({}, additional_headers=BEARER):
            pass


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/static/../app.py",
            "/static/..%2fapp.py",
            "/static/%2e%2e/app.py",
            "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
            "/static/..%5capp.py",
            "/static//etc/passwd",
            "/static/%00",
            "/static/",
            "/../../etc/passwd",
            "//etc/passwd",
            "/app.py",
            "/static/index.html/../../server.py",
        ],
    )
    def test_lead_nowhere_but_to_the_page(self, served: Served, path: str) -> None:
        answer = served.ask(path)
        assert answer.status in (400, 404), answer.body[:200]
        assert b"root:" not in answer.body and b"import" not in answer.body

    @pytest.mark.parametrize("path", [file.name for file in sorted(STATIC.iterdir())])
    def test_the_page_is_there(self, served: Served, path: str) -> None:
        answer = served.ask(f"/static/{path}")
        assert answer.body == (STATIC / path).read_bytes()
        kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
        kind = kinds.get(Path(path).suffix, "image/svg+xml")
        assert answer.headers["content-type"].startswith(kind)


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/static/app.js", "/v1/info", "/none"])
    def test_are_on_every_answer(self, served: Served, path: str) -> None:
        def check(answer: Answer) -> None:
            rules = answer.headers["content-security-policy"]
            assert "default-src 'none'" in rules and "unsafe" not in rules
            assert "frame-ancestors 'none'" in rules
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "access-control-allow-origin" not in answer.headers
            assert "server" not in answer.headers

        check(served.ask(path))
        check(served.ask(path, headers={"Host": "evil.example"}))
