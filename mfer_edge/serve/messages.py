"""Messages of viewers in live sessions, checked before they are used.

The first one is JSON and says what will come. Images and audio are binary: 16 bytes of header and a
payload. Header: the kind (1 byte), 7 bytes of zero, and the position as a little-endian float64.
Kinds: see `KINDS`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from mfer_edge.options import SessionOptions
from mfer_edge.pipeline import Pipeline

IMAGE, PCM_S16, PCM_F32 = 1, 2, 3
KINDS = {
    IMAGE: "a JPEG or PNG image; its position is its time, seconds from the start of the session",
    PCM_S16: "16 kHz mono samples, little-endian int16; position: index of the first one",
    PCM_F32: "16 kHz mono samples, little-endian float32 in [-1, 1]; position: as above",
}
HEADER = struct.Struct("<B7xd")

MAX_MESSAGE = 4_000_000  # bytes: a 720p PNG is 2 MB at most, of noise
MAX_SIDE = 4096  # pixels of an image
MAX_PIXELS = 1920 * 1920
MAX_SECONDS = 1e6  # in a start message
MAX_SAMPLES = 16_000 * 10  # of one message

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SEQUENTIAL = (0xC0, 0xC1)  # markers of the frame's header
JPEG_OTHER = {*range(0xC2, 0xD0)} - {0xC4, 0xC8, 0xCC}


class MessageError(ValueError):
    """A message that is not as documented; ends the session."""


@dataclass(frozen=True)
class ImageMessage:
    """An encoded image."""

    time_s: float
    data: bytes

    def decode(self) -> np.ndarray:
        """Decode to (height, width, 3) uint8 BGR.

        Raises:
            MessageError: it is damaged.
        """
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(self.data, np.uint8), flags)
        if image is None:
            raise MessageError("an image could not be decoded")
        return image


@dataclass(frozen=True)
class AudioMessage:
    """Samples."""

    start: int  # index of the first one since the start of the session
    samples: np.ndarray  # (n,) float32, 16 kHz


def parse_message(message: bytes) -> ImageMessage | AudioMessage:
    """Read a binary message. An image is not decoded yet, but its type and size are checked.

    Raises:
        MessageError: the message is not as documented.
    """
    if len(message) <= HEADER.size:
        raise MessageError(f"a message of {len(message)} bytes: it has a header of 16, and content")
    kind, position = HEADER.unpack_from(message)
    if any(message[1:8]):
        raise MessageError("bytes 1 to 7 of a message are zero")
    if not 0 <= position < 2**40:  # NaN is not either
        raise MessageError(f"a message's position is {position}")
    payload = message[HEADER.size :]
    if kind == IMAGE:
        _check_image(payload)
        return ImageMessage(position, payload)
    if kind not in KINDS:
        raise MessageError(f"messages of kind {kind} are unknown")
    if position != int(position):
        raise MessageError(f"the position of audio is a whole number of samples, not {position}")
    return AudioMessage(int(position), _samples(kind, payload))


def _samples(kind: int, payload: bytes) -> np.ndarray:
    width = 2 if kind == PCM_S16 else 4
    if len(payload) % width:
        raise MessageError(f"{len(payload)} bytes of audio with {width} bytes a sample")
    if len(payload) > width * MAX_SAMPLES:
        raise MessageError("a message holds at most 10 s of audio")
    if kind == PCM_S16:
        return np.frombuffer(payload, "<i2").astype(np.float32) / 32768
    samples = np.frombuffer(payload, "<f4").astype(np.float32)
    if not np.isfinite(samples).all():
        raise MessageError("the audio holds NaN or infinite samples")
    return samples


def _check_image(data: bytes) -> None:
    """Refuse what is no JPEG or PNG, or larger than allowed once decoded, without decoding it."""
    if data.startswith(PNG_SIGNATURE):
        size = _png_size(data)
    elif data.startswith(JPEG_SIGNATURE):
        size = _jpeg_size(data)
    else:
        raise MessageError("an image is a JPEG or a PNG")
    if size is None:
        raise MessageError("an image could not be decoded")
    width, height = size
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise MessageError(
            f"an image of {width} x {height} pixels: at most {MAX_SIDE} on a side, "
            f"{MAX_PIXELS:,} in all"
        )


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in JPEG_OTHER:  # a few bytes can make a decoder go over the whole image again
            raise MessageError("a progressive, lossless or arithmetic JPEG: send a baseline one")
        if marker in JPEG_SEQUENTIAL:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


@dataclass(frozen=True)
class StartMessage:
    """`{"type": "start", ...}`; all fields may be left out."""

    video: bool = True  # whether images will come
    audio: bool = True
    faces: str = "main"  # or `all`
    window_s: float | None = None  # by default as the bundle was trained
    hop_s: float | None = None
    drop: bool = True  # frames when the machine is late; false: the sender waits, as with a file

    def options(self, pipeline: Pipeline) -> SessionOptions:
        """Options of the session.

        Raises:
            MessageError: the bundle can't take them.
        """
        try:
            return pipeline.options(self.window_s, self.hop_s, self.faces)
        except ValueError as error:
            raise MessageError(str(error)) from error


def parse_start(text: str) -> StartMessage:
    """Read the first message.

    Raises:
        MessageError: it is not as documented.
    """
    message = parse_object(text)
    if message.pop("type", None) != "start":
        raise MessageError('the first message is {"type": "start", ...}')
    known = {field.name for field in fields(StartMessage)}
    if unknown := sorted(message.keys() - known):
        raise MessageError(f"a start message has no {unknown[0][:50]!r}")
    for name in ("video", "audio", "drop"):
        if not isinstance(message.get(name, True), bool):
            raise MessageError(f"{name} is true or false")
    for name in ("window_s", "hop_s"):
        value = message.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise MessageError(f"{name} is a number")
        if value is not None and not abs(value) < MAX_SECONDS:
            raise MessageError(f"{name} is out of all bounds")
    if not isinstance(message.get("faces", ""), str):
        raise MessageError("faces is a text")
    start = StartMessage(**message)
    if not start.video and not start.audio:
        raise MessageError("video and audio are both false: nothing would come")
    return start


def parse_object(text: str) -> dict[str, Any]:
    """Read a text message, a JSON object.

    Raises:
        MessageError: it is none.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError("a text message is a JSON object") from error
    if not isinstance(message, dict):
        raise MessageError("a text message is a JSON object")
    return message
