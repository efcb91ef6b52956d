"""A real browser: Debian's Chromium without a window, with a clip as its camera and microphone.

Every wait has a limit: Playwright's own where a call has one, and a watchdog for the others
(`evaluate` and `close` have none).
"""

from __future__ import annotations

import itertools
import os
import select
import shutil
import signal
import socket
import threading
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from benchmarks.harness.children import command_line, descendants
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.speech.vad import SAMPLE_RATE

CAMERA_RATE = 30.0  # at which Chromium plays an MJPEG file
PATIENCE_MS = 60_000  # for one wait, on a busy machine
TEST_LIMIT_S = 240.0  # for all that a test does with a browser; less than pytest's for a test
POLLING_MS = 100  # by the clock: frames are not drawn while the machine is busy
FLAGS = ("--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required")

_numbers = itertools.count()
_marks: dict[int, str] = {}  # an argument of each browser's process, by its object's id


def chromium() -> str:
    """Path of Chromium; skips the test where there is none."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return path


def write_camera(clip: Path, folder: Path) -> tuple[Path, Path]:
    """Write a clip as the files that Chromium plays as camera and microphone, again and again."""
    camera, microphone = folder / f"{clip.stem}.mjpeg", folder / f"{clip.stem}.wav"
    with Clip(clip, CAMERA_RATE) as opened, camera.open("wb") as file:
        for item in opened:
            if isinstance(item, Frame):
                _, jpeg = cv2.imencode(".jpg", item.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
                file.write(jpeg.tobytes())
    with wave.open(str(microphone), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        samples = np.clip(read_audio(clip) * 32768, -32768, 32767)
        file.writeframes(samples.astype("<i2").tobytes())
    return camera, microphone


@contextmanager
def browser(playwright: Playwright, camera: tuple[Path, Path] | None = None) -> Iterator[Browser]:
    """Start Chromium.

    Args:
        camera: what `write_camera` made; None: no camera and no microphone.
    """
    mark = f"--of-tests={os.getpid()}-{next(_numbers)}"
    flags = [*FLAGS, mark]
    if camera is not None:
        flags += [
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-video-capture={camera[0]}",
            f"--use-file-for-fake-audio-capture={camera[1]}",
        ]
    started = playwright.chromium.launch(
        executable_path=chromium(), args=flags, timeout=PATIENCE_MS
    )
    _marks[id(started)] = mark
    try:
        yield started
    finally:
        with time_limit(started):
            started.close()


@contextmanager
def time_limit(started: Browser, limit_s: float = TEST_LIMIT_S) -> Iterator[None]:
    """End a browser if a block takes longer, and fail: a call that waits for it then raises."""
    late, mark = threading.Event(), _marks[id(started)]

    def end() -> None:
        late.set()
        for pid in descendants(os.getpid()):
            if mark in command_line(pid).split():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except PlaywrightError as error:
        if late.is_set():
            pytest.fail(
                f"the browser was ended, as it had not answered in {limit_s:.0f} s: {error}"
            )
        raise
    finally:
        timer.cancel()


@contextmanager
def opened(
    started: Browser,
    address: str,
    *,
    size: tuple[int, int] = (1200, 900),
    scheme: str = "light",
    limit_s: float = TEST_LIMIT_S,
) -> Iterator[tuple[Page, list[str]]]:
    """Open a page; yields it with the list of errors on its console, which grows.

    Args:
        size: (width, height) of the viewport.
        scheme: colour scheme, `light` or `dark`.
        limit_s: time after which the browser is ended.
    """
    with time_limit(started, limit_s), _page(started, address, size, scheme) as (page, errors):
        yield page, errors


@contextmanager
def _page(
    started: Browser, address: str, size: tuple[int, int], scheme: str
) -> Iterator[tuple[Page, list[str]]]:
    context: BrowserContext = started.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
        permissions=["camera", "microphone"],
    )
    context.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    try:
        page = context.new_page()

        def note(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                errors.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        yield page, errors
    finally:
        context.close()


def wait_for(page: Page, script: str, *arguments: object) -> None:
    """Wait until a script, a function of a list, returns what is true."""
    page.wait_for_function(script, arg=list(arguments), polling=POLLING_MS)


def wait_for_text(page: Page, selector: str, pattern: str) -> str:
    """Wait until the text of an element matches; returns it."""
    script = """([selector, pattern]) =>
      RegExp(pattern).test(document.querySelector(selector)?.innerText ?? "")"""
    try:
        wait_for(page, script, selector, pattern)
    except PlaywrightTimeout:
        pytest.fail(f"{selector} is not /{pattern}/ but {page.inner_text(selector)!r}")
    return str(page.inner_text(selector))


def wait_for_ink(page: Page, selector: str) -> None:
    """Wait until something is drawn on a canvas. One that has no size yet has no pixels."""
    script = """([selector]) => {
      const one = document.querySelector(selector);
      if (!one.width || !one.height) return false;
      const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
      return data.some((value, index) => index % 4 === 3 && value > 0);
    }"""
    try:
        wait_for(page, script, selector)
    except PlaywrightTimeout:
        pytest.fail(f"nothing is drawn on {selector}")


def violations(page: Page, ignored: Sequence[str] = ()) -> list[str]:
    """What axe-core finds wrong with a page for people with disabilities: a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["id"] not in ignored
        for node in one["nodes"]
    ]


class Cable:
    """A connection to a server that can be pulled out: a proxy on a port of its own."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()  # of the next two
        self._pulled = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pull()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else `accept` goes on waiting
        self._listener.close()
        self._thread.join(PATIENCE_MS / 1000)

    def pull(self) -> None:
        """Cut all connections; new ones are cut at once."""
        with self._lock:
            self._pulled = True
            for ends in self._pairs:
                for end in ends:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def plug(self) -> None:
        """Let new connections through."""
        with self._lock:
            self._pulled = False

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    if self._pulled:
                        client.close()
                        continue
                    server = socket.create_connection(("127.0.0.1", self._target))
                    self._pairs.append((client, server))
                threading.Thread(target=_join, args=(client, server), daemon=True).start()


def _join(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes on in both directions until one side ends."""
    to = {one: other, other: one}
    with one, other, suppress(OSError):
        while True:
            for ready in select.select([one, other], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                to[ready].sendall(data)
