"""Overlay video as a file: frames, times, audio, encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from mfer_edge.errors import OutputError
from mfer_edge.outputs import video
from mfer_edge.outputs.overlay import write_overlay
from mfer_edge.sources.clip import read_audio
from tests.support.analyses import analysis, reading
from tests.support.clips import sine, write_clip

GROUND = (150, 190, 170)  # of the frames that are drawn on
SIZE = (640, 480)
BOX = (240.0, 160.0, 400.0, 360.0)


def plain(size: tuple[int, int]) -> Callable[[int], np.ndarray]:
    return lambda index: np.full((size[1], size[0], 3), GROUND, np.uint8)


def frames(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    return [f.time for f in decoded], [f.to_ndarray(format="bgr24") for f in decoded]


def audio_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def differs(image: np.ndarray) -> np.ndarray:
    """Pixels that are not the ground colour: (height, width) bool."""
    return np.asarray((np.abs(image.astype(int) - GROUND) > 25).any(axis=2))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of one colour at 10 Hz, and a tone."""
    path = tmp_path / "clip.mp4"
    return write_clip(path, 2.0, 10, SIZE, video=plain(SIZE), audio=sine(2.0, channels=2))


class TestVideo:
    def test_keeps_frame_times_size_and_audio(self, clip: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.mp4"
        write_overlay(clip, analysis([reading(0, 2)], 2.0), out)
        assert frames(out)[0] == pytest.approx(frames(clip)[0], abs=1e-4)
        assert audio_packets(out) == audio_packets(clip)
        with av.open(str(out)) as written, av.open(str(clip)) as source:
            video = written.streams.video[0]
            assert (video.width, video.height) == SIZE
            assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
            assert written.duration == pytest.approx(source.duration, abs=1e6 / 10)
            assert written.streams.audio[0].start_time == source.streams.audio[0].start_time

    def test_keeps_variable_frame_times_and_encodes_pcm_audio(self, tmp_path: Path) -> None:
        times = [0.0, 0.04, 0.09, 0.3, 0.31, 0.8, 1.55]
        tone = sine(1.6, channels=2)
        tone[:, : round(0.5 * 48_000)] = 0
        source = tmp_path / "clip.mkv"
        write_clip(source, size=SIZE, video=plain(SIZE), audio=tone, frame_times_s=times)
        out = tmp_path / "out.mp4"
        write_overlay(source, analysis([reading(0, 1.6)], 1.6), out)
        assert frames(out)[0] == pytest.approx(times, abs=1e-3)
        written, original = read_audio(out), read_audio(source)
        assert len(written) == pytest.approx(len(original), abs=2 * 1024)
        start = [int(np.argmax(np.abs(wave) > 0.2)) for wave in (written, original)]
        assert start[0] == pytest.approx(start[1], abs=100)  # 6 ms
        loud = slice(12_000, 24_000)
        assert np.corrcoef(written[loud], original[loud])[0, 1] > 0.99

    @pytest.mark.parametrize("start_s", [0, 5])
    @pytest.mark.parametrize("ending", [".avi", ".webm", ".ts"])
    def test_takes_other_containers_and_starts_at_0(
        self, tmp_path: Path, ending: str, start_s: int
    ) -> None:
        source = tmp_path / f"clip{ending}"
        options = {"output_ts_offset": str(start_s)}
        write_clip(source, 1.0, 25, (64, 48), audio=sine(1.0), options=options)
        out = tmp_path / "out.mp4"
        write_overlay(source, analysis([reading(0, 1)], 1.0), out)
        with av.open(str(source)) as container:
            shift = (container.start_time or 0) / av.time_base
        expected = [time_s - shift for time_s in frames(source)[0]]
        assert frames(out)[0] == pytest.approx(expected, abs=2e-3)
        assert len(read_audio(out)) == pytest.approx(16_000, abs=1000)

    def test_clip_without_audio_stays_without(self, tmp_path: Path) -> None:
        source = write_clip(tmp_path / "clip.mp4", 0.4)
        out = tmp_path / "out.mp4"
        write_overlay(source, analysis([reading(0, 0.4)], 0.4), out)
        with av.open(str(out)) as written:
            assert not written.streams.audio and len(written.streams.video) == 1

    def test_odd_sizes_are_made_even(self, tmp_path: Path) -> None:
        size = (321, 241)
        source = tmp_path / "clip.mkv"
        write_clip(source, 0.2, size=size, video=plain(size), video_codec="ffv1")
        out = tmp_path / "out.mp4"
        write_overlay(source, analysis([], 0.2), out)
        images = frames(out)[1]
        assert images[0].shape == (242, 322, 3)
        assert not differs(images[0])[:, 200:].any()

    def test_colours_are_kept(self, tmp_path: Path) -> None:
        def bands(index: int) -> np.ndarray:
            colours = np.array([(200, 60, 40), (40, 180, 60), (50, 60, 210)], np.uint8)
            return np.ascontiguousarray(np.repeat(colours, 32, axis=0)[None].repeat(64, axis=0))

        source = write_clip(tmp_path / "clip.mp4", 0.2, size=(96, 64), video=bands)
        out = tmp_path / "out.mp4"
        write_overlay(source, analysis([], 0.2), out)
        before, after = (frames(path)[1][0].astype(int) for path in (source, out))
        assert np.abs(before[:, 8::32] - after[:, 8::32]).max() <= 4

    def test_mpeg4_where_there_is_no_h264(
        self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(video, "ENCODERS", {"no-such": {}, "mpeg4": video.ENCODERS["mpeg4"]})
        out = tmp_path / "out.mp4"
        write_overlay(clip, analysis([reading(0, 2)], 2.0), out)
        assert frames(out)[0] == pytest.approx(frames(clip)[0], abs=1e-4)
        with av.open(str(out)) as written:
            assert written.streams.video[0].codec_context.name == "mpeg4"

    def test_no_encoder_is_an_error(
        self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(video, "ENCODERS", {"no-such": {}})
        with pytest.raises(OutputError, match="no encoder for video"):
            write_overlay(clip, analysis([], 2.0), tmp_path / "out.mp4")
        assert sorted(tmp_path.iterdir()) == [clip]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
    def test_a_full_disk_is_an_error(self, clip: Path) -> None:
        noise = np.random.default_rng(0)
        with (
            pytest.raises(av.error.FFmpegError),
            video.ClipWriter(Path("/dev/full"), clip, 0, 1) as writer,
        ):
            for index in range(300):
                writer.write(noise.integers(0, 255, (480, 640, 3), np.uint8), index / 25)
