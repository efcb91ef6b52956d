"""URLs: which are opened, how they are named, and servers that do not answer."""

from __future__ import annotations

import http.server
import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.errors import MediaError
from mfer_edge.sources import clip as clip_module
from mfer_edge.sources import probe
from mfer_edge.sources.base import AudioChunk
from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.sources.url import check_url, is_url, open_url, shown_url
from tests.support.clips import sine, write_clip


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that does not log, and gives files from any byte on, as most do."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def send_head(self) -> io.BytesIO | None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return None
        data = path.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        return io.BytesIO(data[start:])


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The address of a web server of a folder."""
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that treats each connection as told, and holds it."""
    held = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                held.append(connection)
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    for connection in held:
        connection.close()


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "song.wav", audio=sine(12.0, 16_000), rate=16_000, video=None)


class TestNames:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("http://a/b", True),
            ("RTSP://a", True),
            ("gopher://a", True),
            ("C:\\clips\\a.mp4", False),
            ("C://a", False),
            ("a:b.mp4", False),
            ("clips/http://a", False),
            (Path("http://a"), False),
        ],
    )
    def test_what_is_a_url(self, source: object, expected: bool) -> None:
        assert is_url(source) is expected

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("http://host/a.mp4", "http://host/a.mp4"),
            ("RTSP://me:secret@cam:554/1", "rtsp://cam:554/1"),
            ("https://host/a.mp4?signature=secret", "https://host/a.mp4?..."),
            ("http://host/a\x1b[31m", "http://host/a?[31m"),
        ],
    )
    def test_secrets_are_not_shown(self, url: str, shown: str) -> None:
        assert shown_url(url) == shown


class TestRules:
    @pytest.mark.parametrize(
        ("url", "fact"),
        [
            ("file:///etc/passwd", "path of a file"),
            ("ftp://host/a.mp4", "the protocol ftp"),
            ("concat://a|b", "the protocol concat"),
            ("http:///a.mp4", "names no host"),
            ("http://user@/a.mp4", "names no host"),
            ("http://[::1/a.mp4", "names no host"),
        ],
    )
    def test_what_is_never_opened(self, url: str, fact: str) -> None:
        with pytest.raises(MediaError, match=fact):
            check_url(url)
        with pytest.raises(MediaError, match=fact):
            Clip(url)

    @pytest.mark.parametrize("allowed", [True, False], ids=["of its server", "of this machine"])
    def test_files_that_a_playlist_names(self, tmp_path: Path, allowed: bool) -> None:
        part = write_clip(tmp_path / "part.ts", audio=sine(2.0), video=None)
        (tmp_path / "list.m3u8").write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2,\n"
            f"{part.name if allowed else f'file://{part}'}\n#EXT-X-ENDLIST\n"
        )
        with web_server(tmp_path) as address:
            if allowed:
                assert len(read_audio(f"{address}/list.m3u8")) == pytest.approx(32_000, abs=1500)
            else:
                with pytest.raises(MediaError):
                    read_audio(f"{address}/list.m3u8")


class TestReading:
    def test_the_same_samples_as_from_the_file(self, song: Path) -> None:
        with web_server(song.parent) as address:
            heard = read_audio(f"{address}/song.wav?token=secret")
        np.testing.assert_array_equal(heard, read_audio(song))

    def test_name(self, song: Path) -> None:
        with web_server(song.parent) as address:
            host = address.removeprefix("http://")
            with Clip(f"http://me:secret@{host}/song.wav") as clip:
                assert clip.name == str(clip.path) == f"{address}/song.wav"

    def test_missing(self, tmp_path: Path) -> None:
        with web_server(tmp_path) as address, pytest.raises(MediaError, match="404"):
            Clip(f"{address}/nothing.mp4")

    def test_no_media(self, tmp_path: Path) -> None:
        (tmp_path / "page").write_text("<html>no clip</html>" * 100)
        with web_server(tmp_path) as address, pytest.raises(MediaError, match="no video or sound"):
            Clip(f"{address}/page")

    def test_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(MediaError, match="refused"):
            Clip(f"http://127.0.0.1:{port}/a.mp4")

    def test_a_server_that_never_answers(self) -> None:
        with raw_server(lambda _: None) as address, pytest.raises(MediaError, match=r"in 0\.3 s"):
            open_url(address, open_timeout_s=0.3)

    def test_a_server_that_falls_silent(self, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What came is kept, and the stall is said."""
        data = song.read_bytes()

        def half(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + data[: len(data) // 2])

        monkeypatch.setattr(probe, "open_url", partial(open_url, read_timeout_s=0.3))
        monkeypatch.setattr(clip_module, "READ_TIMEOUT_S", 0.3)
        with raw_server(half) as address, Clip(f"{address}/song.wav") as clip:
            heard = np.concatenate([item.samples for item in clip if isinstance(item, AudioChunk)])
            whole = read_audio(song)
            assert 0.4 * len(whole) < len(heard) <= 0.5 * len(whole)
            np.testing.assert_array_equal(heard, whole[: len(heard)])
            assert "nothing came for 0.3 s" in clip.warnings()[-1]
