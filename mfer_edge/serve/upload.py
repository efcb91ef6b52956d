"""Uploads: a multipart body written to a temporary file, within limits of size and time."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory, gettempdir
from typing import BinaryIO

import anyio
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from mfer_edge.serve.media_types import is_media
from mfer_edge.serve.options import MEGABYTE, Limits

FOLDER = "mfer-edge-upload-"  # beginning of a name; the id of the process follows
FILE_FIELD = "clip"
TEXT_FIELDS = ("window_s", "hop_s", "faces")
MAX_TEXT = 100  # bytes of a text field
MAX_HEADER = 8_000  # bytes of the headers of a part
MAX_PARTS = 8
MAX_NAME = 200  # characters of a file's name
SNIFFED = 512  # bytes at a file's start that tell its type


class UploadError(Exception):
    """An upload that is not taken; with the answer's status, and how it is counted."""

    def __init__(self, status: int, outcome: str, error: str) -> None:
        super().__init__(error)
        self.status, self.outcome = status, outcome


@dataclass(frozen=True)
class Upload:
    """A clip on disk, with what was sent beside it. The name is for people, and no path."""

    path: Path
    name: str
    fields: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def received(request: Request, limits: Limits) -> AsyncIterator[Upload]:
    """Receive an upload; it is deleted at the end of the `with` block, whatever happens.

    Raises:
        UploadError: it is no multipart body with a clip, too large, or too slow.
    """
    boundary = _boundary(request)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limits.upload_bytes + 10_000:  # of other parts
        raise _too_large(limits)
    with TemporaryDirectory(prefix=f"{FOLDER}{os.getpid()}-") as folder:
        path = Path(folder) / "clip"
        try:
            with path.open("wb") as file:
                form = _Form(file, limits, boundary)
                await _read(request, form, limits)
        except OSError as error:  # the disk is full
            raise UploadError(507, "lost", f"the clip could not be stored: {error}") from error
        yield form.upload(path)


def delete_leftovers() -> None:
    """Delete uploads of servers that were killed."""
    for folder in Path(gettempdir()).glob(f"{FOLDER}*"):
        process = folder.name.removeprefix(FOLDER).partition("-")[0]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)  # another user's


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


async def _read(request: Request, form: _Form, limits: Limits) -> None:
    deadline = time.monotonic() + limits.body_s
    chunks = request.stream().__aiter__()
    while True:
        left_s = deadline - time.monotonic()
        try:
            with anyio.fail_after(min(limits.pause_s, left_s)):
                chunk = await chunks.__anext__()
        except StopAsyncIteration:
            break
        except TimeoutError as error:
            raise UploadError(408, "too_slow", "the upload took too long, or stopped") from error
        except ClientDisconnect as error:
            raise UploadError(400, "gone", "the upload was broken off") from error
        form.write(chunk)
    form.end()


def _boundary(request: Request) -> bytes:
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    boundary = parameters.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UploadError(
            415, "bad_request", f"send multipart/form-data with a file in the field {FILE_FIELD!r}"
        )
    return boundary


def _too_large(limits: Limits) -> UploadError:
    most = limits.upload_bytes / MEGABYTE
    return UploadError(413, "too_large", f"a clip may have at most {most:g} MB")


def display_name(name: str) -> str:
    """A file's name as sent by a client, made safe to show: no folders, no control characters."""
    name = PurePosixPath(PureWindowsPath(name).name).name
    printable = "".join(letter for letter in name if letter.isprintable())
    return printable[:MAX_NAME] or "clip"


class _Form:
    """A multipart form while it comes in: its file goes to disk, its few texts are kept."""

    def __init__(self, file: BinaryIO, limits: Limits, boundary: bytes) -> None:
        self._file, self._limits = file, limits
        self._size = self._parts = 0
        self._name: str | None = None  # of the file
        self._start = b""  # of the file
        self._texts: dict[str, bytearray] = {}
        self._ended = False
        self._header_name = self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._current: str | None = None  # field of the part
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_text,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_end": self._on_end,
            },
        )

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise UploadError(400, "bad_request", f"damaged multipart body: {error}") from error

    def end(self) -> None:
        """Check that the body was whole."""
        if not self._ended:
            raise UploadError(400, "bad_request", "the multipart body was cut off")
        if self._name is None or not self._size:
            raise UploadError(400, "bad_request", f"no file in the field {FILE_FIELD!r}")

    def upload(self, path: Path) -> Upload:
        """What came."""
        fields = {key: value.decode(errors="replace") for key, value in self._texts.items()}
        return Upload(path, display_name(self._name or ""), fields)

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise UploadError(400, "bad_request", "too many parts")
        self._headers, self._header_name, self._header_value = {}, b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._check_header()

    def _header_text(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        kept = sum(len(key) + len(value) for key, value in self._headers.items())
        if kept + len(self._header_name) + len(self._header_value) > MAX_HEADER:
            raise UploadError(400, "bad_request", "the headers of a part are too long")

    def _header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._current = parameters.get(b"name", b"").decode(errors="replace")
        if self._current == FILE_FIELD:
            if self._name is not None:
                raise UploadError(400, "bad_request", "one clip at a time")
            self._name = parameters.get(b"filename", b"").decode(errors="replace")
        elif self._current in TEXT_FIELDS:
            self._texts[self._current] = bytearray()
        else:
            raise UploadError(400, "bad_request", f"unknown field {self._current[:50]!r}")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current != FILE_FIELD:
            text = self._texts[self._current or ""]
            text += data[start:end]
            if len(text) > MAX_TEXT:
                raise UploadError(400, "bad_request", f"{self._current} is too long")
            return
        self._size += end - start
        if self._size > self._limits.upload_bytes:
            raise _too_large(self._limits)
        checked = len(self._start) >= SNIFFED
        self._file.write(data[start:end])
        if not checked:
            self._start += data[start : min(end, start + SNIFFED)]
            if len(self._start) >= SNIFFED:
                self._check_type()

    def _on_end(self) -> None:
        self._ended = True
        if 0 < len(self._start) < SNIFFED:
            self._check_type()

    def _check_type(self) -> None:
        if not is_media(self._start):
            raise UploadError(415, "bad_request", "not a video or sound file of a known type")
