"""Binary messages of a live session."""

from __future__ import annotations

import math
import struct

import cv2
import numpy as np
import pytest

from mfer_edge.serve.messages import (
    HEADER,
    MAX_PIXELS,
    AudioMessage,
    ImageMessage,
    MessageError,
    parse_message,
)
from tests.support.serving import IMAGE, PCM_F32, PCM_S16, png


def message(kind: int, position: float, payload: bytes) -> bytes:
    return struct.pack("<B7xd", kind, position) + payload


def jpeg(height: int, width: int, *flags: int) -> bytes:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", image, list(flags))[1].tobytes()


class TestImages:
    def test_png_is_read_without_loss(self) -> None:
        image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        parsed = parse_message(message(IMAGE, 1.25, png(image)))
        assert isinstance(parsed, ImageMessage) and parsed.time_s == 1.25
        assert np.array_equal(parsed.decode(), image)

    def test_jpeg_is_read(self) -> None:
        parsed = parse_message(message(IMAGE, 0.0, jpeg(48, 64)))
        assert isinstance(parsed, ImageMessage)
        assert parsed.decode().shape == (48, 64, 3)

    def test_a_grey_image_has_three_channels(self) -> None:
        parsed = parse_message(message(IMAGE, 0.0, png(np.zeros((8, 8), np.uint8))))
        assert isinstance(parsed, ImageMessage)
        assert parsed.decode().shape == (8, 8, 3)

    def test_size_is_checked_before_decoding(self) -> None:
        huge = bytearray(png(np.zeros((8, 8, 3), np.uint8)))
        huge[16:24] = struct.pack(">II", 60_000, 60_000)
        with pytest.raises(MessageError, match="60000 x 60000"):
            parse_message(message(IMAGE, 0.0, bytes(huge)))
        huge = bytearray(jpeg(48, 64))
        at = huge.index(b"\xff\xc0") + 5
        huge[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
        with pytest.raises(MessageError, match="65000 x 65000"):
            parse_message(message(IMAGE, 0.0, bytes(huge)))

    def test_the_largest_image_is_taken(self) -> None:
        side = round(math.sqrt(MAX_PIXELS))
        plain = png(np.zeros((side, side, 3), np.uint8))
        assert isinstance(parse_message(message(IMAGE, 0.0, plain)), ImageMessage)

    def test_many_scans_would_take_minutes(self) -> None:
        progressive = jpeg(48, 64, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
        with pytest.raises(MessageError, match="progressive"):
            parse_message(message(IMAGE, 0.0, progressive))

    @pytest.mark.parametrize(
        "data", [b"GIF89a" + bytes(50), b"<svg/>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(9)]
    )
    def test_anything_else_is_refused(self, data: bytes) -> None:
        with pytest.raises(MessageError):
            parse_message(message(IMAGE, 0.0, data))

    def test_damage_is_told(self) -> None:
        parsed = parse_message(message(IMAGE, 0.0, png(np.zeros((8, 8, 3), np.uint8))[:40]))
        assert isinstance(parsed, ImageMessage)
        with pytest.raises(MessageError, match="could not be decoded"):
            parsed.decode()


class TestAudio:
    def test_both_formats_hold_the_same(self) -> None:
        levels = np.array([0, 16384, -32768, 32767], "<i2")
        short = parse_message(message(PCM_S16, 7, levels.tobytes()))
        wide = parse_message(message(PCM_F32, 7, (levels / 32768).astype("<f4").tobytes()))
        assert isinstance(short, AudioMessage) and isinstance(wide, AudioMessage)
        assert short.start == wide.start == 7
        assert short.samples.dtype == wide.samples.dtype == np.float32
        assert np.array_equal(short.samples, wide.samples)
        assert short.samples.tolist() == [0.0, 0.5, -1.0, 32767 / 32768]

    @pytest.mark.parametrize(
        ("kind", "position", "payload", "fact"),
        [
            (PCM_S16, 0, bytes(3), "3 bytes of audio"),
            (PCM_F32, 0, bytes(6), "6 bytes of audio"),
            (PCM_F32, 0.5, bytes(4), "whole number"),
            (PCM_F32, -1, bytes(4), "position is -1"),
            (PCM_F32, math.nan, bytes(4), "position is nan"),
            (PCM_F32, math.inf, bytes(4), "position is inf"),
            (PCM_F32, 0, struct.pack("<f", math.nan), "NaN"),
            (PCM_S16, 0, bytes(2 * 160_002), "at most 10 s"),
            (9, 0, bytes(4), "kind 9"),
        ],
    )
    def test_wrong_messages_are_refused(
        self, kind: int, position: float, payload: bytes, fact: str
    ) -> None:
        with pytest.raises(MessageError, match=fact):
            parse_message(message(kind, position, payload))

    def test_header_is_checked(self) -> None:
        with pytest.raises(MessageError, match="header of 16"):
            parse_message(bytes(HEADER.size))
        with pytest.raises(MessageError, match="bytes 1 to 7"):
            parse_message(b"\x03" + bytes(6) + b"\x01" + bytes(12))
