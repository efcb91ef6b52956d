"""A model hub on this machine: the published layout over HTTP, as broken as a test wants it."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = 2_000  # bytes up to which a file is in git itself, and named by git's digest
PATHS = re.compile(
    r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)|/lfs/(?P<oid>.+)"
)


@dataclass
class ModelHub:
    """Files of models, and what is wrong with serving them."""

    files: Mapping[tuple[str, str], bytes]  # by repository and name
    url: str = ""
    store: str = ""  # the same server by another name: large files are on another host
    commit: str = COMMIT
    status: int = 0  # of every answer; 0: what is right
    code: str = ""  # the hub's name of that error
    cut_at: int = 0  # bytes of a large file after which the connection breaks; 0: never
    flipped: bool = False  # a byte of every large file is wrong
    page: bool = False  # every answer is a login page, as in a hotel's network
    ranges: list[str] = field(default_factory=list)  # asked for
    served: list[str] = field(default_factory=list)  # requests of content

    def large(self, oid: str) -> bytes:
        return next(data for data in self.files.values() if sha256(data) == oid)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_digest(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: ModelHub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        hub, found = self.hub, PATHS.fullmatch(self.path)
        if hub.page:
            return self.reply(200, {"Content-Type": "text/html"}, b"<html>log in</html>", with_body)
        if hub.status:
            return self.reply(hub.status, {"X-Error-Code": hub.code}, b"", with_body)
        if found is None:
            return self.reply(404, {}, b"", with_body)
        if found["oid"]:
            return self.content(hub.large(found["oid"]), with_body, may_break=True)
        data = hub.files.get((found["repo"], found["name"]))
        if all(repo != found["repo"] for repo, _ in hub.files):
            return self.reply(404, {"X-Error-Code": "RepoNotFound"}, b"", with_body)
        if found["revision"] not in ("main", hub.commit):
            return self.reply(404, {"X-Error-Code": "RevisionNotFound"}, b"", with_body)
        if data is None:
            return self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"", with_body)
        headers = {"X-Repo-Commit": hub.commit}
        if len(data) <= SMALL:
            headers["ETag"] = f'"{git_digest(data)}"'
            return self.content(data, with_body, headers)
        headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
        headers["Location"] = f"{hub.store}/lfs/{sha256(data)}"
        self.reply(302, headers, b"", with_body)

    def content(
        self,
        data: bytes,
        with_body: bool,
        headers: Mapping[str, str] | None = None,
        *,
        may_break: bool = False,
    ) -> None:
        hub, start = self.hub, 0
        if with_body:
            hub.served.append(self.path)
        if asked := self.headers.get("Range"):
            hub.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").split("-")[0])
        if may_break and hub.flipped:
            data = data[:-1] + bytes([data[-1] ^ 1])
        body = data[start:]
        named = dict(headers or {})
        if asked:
            named["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = may_break and hub.cut_at > start
        self.reply(206 if asked else 200, named, body, with_body, hub.cut_at - start if cut else 0)

    def reply(
        self, status: int, headers: Mapping[str, str], body: bytes, with_body: bool, cut: int = 0
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body[:cut] if cut else body)
        if cut:
            self.close_connection = True


@contextmanager
def model_hub(files: Mapping[tuple[str, str], bytes]) -> Iterator[ModelHub]:
    """Serve files; the hub can be broken, and mended, while it runs."""
    hub = ModelHub(files)
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.store = hub.url.replace("127.0.0.1", "localhost")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def published_files(folder: Path, repos: Mapping[str, str]) -> dict[tuple[str, str], bytes]:
    """Files below a folder, for the repositories that its folders stand for."""
    return {
        (repo, path.name): path.read_bytes()
        for name, repo in repos.items()
        for path in (folder / name).iterdir()
    }
