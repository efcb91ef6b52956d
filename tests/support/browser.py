"""A real browser: Debian's Chromium without a window, with a clip as its camera and microphone."""

from __future__ import annotations

import os
import select
import shutil
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

from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip, read_audio
from mfer_edge.speech.vad import SAMPLE_RATE

CAMERA_RATE = 30.0  # at which Chromium plays an MJPEG file
PATIENCE_MS = 60_000  # for the browser on a busy machine


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
    flags = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    if camera is not None:
        flags += [
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-video-capture={camera[0]}",
            f"--use-file-for-fake-audio-capture={camera[1]}",
        ]
    started = playwright.chromium.launch(executable_path=chromium(), args=flags)
    try:
        yield started
    finally:
        started.close()


@contextmanager
def opened(
    started: Browser, address: str, *, size: tuple[int, int] = (1200, 900), scheme: str = "light"
) -> Iterator[tuple[Page, list[str]]]:
    """Open a page; yields it with the list of errors on its console, which grows.

    Args:
        size: (width, height) of the viewport.
        scheme: colour scheme, `light` or `dark`.
    """
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
        self._target, self._pulled = port, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.close()
        self.pull()

    def pull(self) -> None:
        """Cut all connections; new ones are cut at once."""
        self._pulled.set()
        for ends in self._pairs:
            for end in ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def plug(self) -> None:
        """Let new connections through."""
        self._pulled.clear()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                if self._pulled.is_set():
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
