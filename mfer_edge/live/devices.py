"""Cameras and microphones, by FFmpeg's device formats."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import av
import av.error
from av.container import InputContainer

from mfer_edge.errors import MediaError

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0  # without a frame or a sample, after which a device is taken for lost

_LIBRARIES_THAT_PRINT = ("alsa",)  # instead of giving a reason


@dataclass(frozen=True)
class Device:
    """A camera or a microphone."""

    format: str  # of FFmpeg: v4l2, alsa, pulse, avfoundation, dshow
    file: str  # as that format names it
    name: str  # for messages
    options: dict[str, str] = field(default_factory=dict)


def camera(choice: str, platform: str = sys.platform) -> Device:
    """A camera by its number, from 0, or by its name.

    Args:
        choice: on Linux a number or a path (/dev/video0), on macOS and Windows a number or the
            name that the system shows.
        platform: as `sys.platform`.

    Raises:
        MediaError: cameras have no numbers here.
    """
    name = f"camera {choice}"
    if platform == "darwin":
        # Without a rate it asks for 29.97 a second, which Apple's cameras refuse.
        return Device("avfoundation", f"{choice}:none", name, {"framerate": "30"})
    if platform == "win32":
        if choice.isdigit():
            raise MediaError(f"{name}: give the camera's name, as the system shows it")
        return Device("dshow", f"video={choice}", name)
    return Device("v4l2", f"/dev/video{choice}" if choice.isdigit() else choice, name)


def microphone(choice: str, platform: str = sys.platform) -> Device:
    """A microphone by its name; `default` is the system's own choice.

    Raises:
        MediaError: there is no default here.
    """
    name = f"microphone {choice}"
    if platform == "darwin":
        return Device("avfoundation", f"none:{choice}", name)
    if platform == "win32":
        if choice == "default":
            raise MediaError(f"{name}: give the microphone's name, as the system shows it")
        return Device("dshow", f"audio={choice}", name)
    return Device("pulse" if "pulse" in av.formats_available else "alsa", choice, name)


def open_device(device: Device) -> InputContainer:
    """Open a camera or a microphone.

    Raises:
        MediaError: it is not there, is in use, or may not be used.
    """
    heard: list[str] = []
    try:
        with _stderr_into(heard, device.format in _LIBRARIES_THAT_PRINT):
            return av.open(
                device.file,
                format=device.format,
                options=device.options,
                timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
            )
    except av.error.ExitError as error:
        raise MediaError(f"{device.name}: no answer in {OPEN_TIMEOUT_S:g} s") from error
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{device.name}: {_reason(device, error, heard)}") from error


def _reason(device: Device, error: Exception, heard: list[str]) -> str:
    """Why a device could not be opened, in words."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return f"this build of FFmpeg can't read {device.format} devices"
    if isinstance(error, FileNotFoundError):
        return f"there is no {device.file}"
    if isinstance(error, PermissionError):
        return f"no permission to use {device.file}; on Linux, join the group `video` or `audio`"
    if getattr(error, "strerror", "") == "Device or resource busy":
        return f"{device.file} is in use by another program"
    said = [line.rsplit(") ", 1)[-1].strip() for line in heard]
    return said[-1] if said and said[-1] else str(getattr(error, "strerror", None) or error)


@contextmanager
def _stderr_into(lines: list[str], active: bool) -> Iterator[None]:
    """Collect what a C library prints on stderr, which would go between our own lines."""
    if not active:
        yield
        return
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()
