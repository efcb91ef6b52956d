"""Cameras and microphones: how each system names them, FFmpeg's test devices, errors in words."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mfer_edge.errors import MediaError
from mfer_edge.live.devices import Device, camera, microphone, open_device
from mfer_edge.live.streams import LiveClip
from mfer_edge.live.together import Together
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.speech.vad import SAMPLE_RATE

EYE = Device("lavfi", "testsrc2=size=64x48:rate=30,realtime", "test camera")
EAR = Device("lavfi", "sine=frequency=300:sample_rate=48000,arealtime", "test microphone")
BRIEF = Device("lavfi", "testsrc2=size=64x48:rate=30:duration=1,realtime", "brief camera")

needs_lavfi = pytest.mark.skipif(
    "lavfi" not in av.formats_available, reason="this FFmpeg has no test devices (lavfi)"
)


def opened(device: Device, rate: float | None = 5.0) -> LiveClip:
    return LiveClip(device.name, open_device(device), rate)


@pytest.mark.parametrize(
    ("choice", "platform", "format_", "file"),
    [
        ("0", "linux", "v4l2", "/dev/video0"),
        ("/dev/video4", "linux", "v4l2", "/dev/video4"),
        ("0", "darwin", "avfoundation", "0:none"),
        ("FaceTime HD Camera", "darwin", "avfoundation", "FaceTime HD Camera:none"),
        ("Integrated Camera", "win32", "dshow", "video=Integrated Camera"),
    ],
)
def test_cameras(choice: str, platform: str, format_: str, file: str) -> None:
    found = camera(choice, platform)
    assert (found.format, found.file, found.name) == (format_, file, f"camera {choice}")


def test_microphones() -> None:
    assert microphone("default", "linux").format in ("alsa", "pulse")
    assert microphone("0", "darwin").file == "none:0"
    assert microphone("Headset", "win32").file == "audio=Headset"


@pytest.mark.parametrize("kind", [camera, microphone])
def test_on_windows_devices_have_names(kind: object) -> None:
    with pytest.raises(MediaError, match="name, as the system shows it"):
        kind("0" if kind is camera else "default", "win32")  # type: ignore[operator]


class TestErrors:
    def test_a_camera_that_is_not_there(self, tmp_path: Path) -> None:
        missing = tmp_path / "video9"
        with pytest.raises(MediaError, match=r"camera \S+video9: there is no \S+video9"):
            open_device(camera(str(missing), "linux"))

    def test_a_file_that_is_no_camera(self, tmp_path: Path) -> None:
        (tmp_path / "video0").write_text("no camera")
        with pytest.raises(MediaError, match=r"camera \S+video0: "):
            open_device(camera(str(tmp_path / "video0"), "linux"))

    def test_a_system_that_this_build_does_not_know(self) -> None:
        with pytest.raises(MediaError, match="can't read abacus devices"):
            open_device(Device("abacus", "0", "camera 0"))

    def test_what_a_library_prints_is_the_reason(self, capfd: pytest.CaptureFixture[str]) -> None:
        if "alsa" not in av.formats_available:
            pytest.skip("this FFmpeg has no ALSA")
        with pytest.raises(MediaError, match="microphone nobody-has-this: "):
            open_device(Device("alsa", "nobody-has-this", "microphone nobody-has-this"))
        assert capfd.readouterr() == ("", "")


@needs_lavfi
class TestTestDevices:
    def test_a_camera(self) -> None:
        with opened(EYE) as source:
            frames = [item for item, _ in zip(source, range(3), strict=False)]
        assert [round(5 * item.time_s) for item in frames] == [0, 1, 2]
        assert not source.is_file and (source.has_video, source.has_audio) == (True, False)

    def test_one_that_stops_has_broken_off(self) -> None:
        items = []
        with (
            pytest.raises(MediaError, match="brief camera: the stream broke off"),
            opened(BRIEF) as source,
        ):
            for item in source:
                items.append(item)
        assert len(items) == 5

    def test_a_camera_beside_a_microphone(self) -> None:
        frames, audio_s = [], 0.0
        with Together(opened(EYE), opened(EAR, None)) as source:
            assert source.name == "test camera, test microphone"
            for item in source:
                if isinstance(item, Frame):
                    frames.append(item.time_s)
                    assert item.image.shape == (48, 64, 3)
                else:
                    assert isinstance(item, AudioChunk)
                    audio_s += len(item.samples) / SAMPLE_RATE
                    assert np.abs(item.samples).max() <= 1
                if audio_s > 2.0:
                    break
        assert frames == sorted(frames) and abs(frames[-1] - audio_s) < 0.5
        assert 5 <= len(frames) <= 12
        assert source.warnings() == ()

    def test_when_one_breaks_off_so_do_both(self) -> None:
        with (
            pytest.raises(MediaError, match="brief camera: the stream broke off"),
            Together(opened(BRIEF), opened(EAR, None)) as source,
        ):
            for _ in source:
                pass
