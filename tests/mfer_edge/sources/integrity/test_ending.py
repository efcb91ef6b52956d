"""Short clips that lack a little: told; whole ones of any codec and rate: not."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import av
import pytest

from mfer_edge.errors import MediaError
from mfer_edge.sources.announced import AnnouncedDuration
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.integrity.ending import Ending, TrackEnd
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import sine, write_clip

SHORT_S = 1.2


def told(path: Path, frame_rate: float | None = 5.0) -> list[str]:
    with Clip(path, frame_rate) as clip:
        for _ in clip:
            pass
    return [text for text in clip.warnings() if "track" not in text]


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [
        (".m4a", "aac", 8_000), (".m4a", "aac", 22_050), (".mp4", "aac", 48_000),
        (".mp3", "libmp3lame", 16_000), (".mp3", "libmp3lame", 22_050),
        (".mka", "libopus", 8_000),
        (".mka", "ac3", 48_000), (".mka", "mp2", 32_000), (".mka", "flac", 8_000),
        (".ogg", "libopus", 24_000), (".ogg", "flac", 16_000), (".wma", "wmav2", 22_050),
        (".mov", "alac", 44_100), (".mov", "pcm_s24le", 96_000), (".flac", "flac", 96_000),
        (".wv", "wavpack", 44_100), (".tta", "tta", 44_100), (".aiff", "pcm_s16be", 11_025),
        (".caf", "alac", 16_000), (".w64", "pcm_s16le", 8_000), (".au", "pcm_mulaw", 8_000),
        (".flv", "aac", 44_100), (".wav", "adpcm_ima_wav", 22_050), (".wav", "pcm_alaw", 8_000),
        (".opus", "libopus", 48_000), (".webm", "libopus", 48_000), (".avi", "libmp3lame", 44_100),
    ],
)  # fmt: skip
def test_nothing_is_told_of_a_whole_sound(
    suffix: str, codec: str, rate: int, tmp_path: Path
) -> None:
    path = tmp_path / f"clip{suffix}"
    write_clip(path, video=None, audio=sine(0.71, rate, 440.0), rate=rate, audio_codec=codec)
    assert told(path) == []


@pytest.mark.parametrize("fps", [1, 5, 24, 60])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".avi"])
def test_nothing_is_told_of_a_whole_video(suffix: str, fps: int, tmp_path: Path) -> None:
    for seconds, sound in ((2.0, None), (2.0, 1.4), (1.0, 2.3)):
        path = tmp_path / f"clip{suffix}"
        write_clip(path, seconds, fps, audio=None if sound is None else sine(sound, channels=2))
        assert told(path) == []
        if sound is not None:
            assert told(path, frame_rate=None) == []


@pytest.mark.parametrize(
    "suffix", [".wav", ".flac", ".mp3", ".mkv", ".webm", ".avi", ".ogg", ".flv"]
)
@pytest.mark.parametrize("share", [0.8, 0.93])
def test_a_little_that_is_missing(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    codecs = {"video_codec": "libx264", "audio_codec": "aac"} if suffix == ".flv" else {}
    write_clip(path, SHORT_S, audio=sine(SHORT_S, channels=2), **codecs)  # type: ignore[arg-type]
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    try:
        assert "may have been cut off" in " ".join(told(path))
    except MediaError as error:  # of a single page of Ogg nothing can be read
        assert "cut off" in str(error)


def test_a_video_that_ends_before_its_sound(tmp_path: Path) -> None:
    """The header tells the length of each track."""
    path = write_clip(tmp_path / "clip.mkv", SHORT_S, audio=sine(SHORT_S))
    shorter = tmp_path / "shorter.mkv"
    write_clip(shorter, 0.6, audio=sine(SHORT_S))
    content = shorter.read_bytes().replace(b"00:00:00.600000000", b"00:00:01.200000000")
    shorter.write_bytes(content)
    assert told(path) == []
    assert any("the video ends after 0.6 s of the 1.2 s" in text for text in told(shorter))


def test_a_track_that_is_not_read_may_be_longer() -> None:
    tracks = [TrackEnd("video", 2.0, 2.0, 0.1), TrackEnd("sound", 1.9, 1.9, 0.1)]
    announced = AnnouncedDuration(60.0, True)
    assert Ending.of(announced, tracks, by_file=True).note() == ""
    others = [replace(track, told_s=None) for track in tracks]
    assert Ending.of(announced, others, by_file=False).note() == ""
    missing = Ending.of(announced, others, by_file=True)
    assert "the file ends after 2.0 s of the 60.0 s" in missing.note()
    assert missing.missing_s == 58.0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("last_s", [1, 20])
def test_the_last_slide(suffix: str, last_s: int, tmp_path: Path) -> None:
    """It is shown for longer than the others, or shorter: nothing is missing."""
    made = write_clip(tmp_path / f"made{suffix}", frame_times_s=[0, 5, 10], fps=25)
    path = tmp_path / f"clip{suffix}"
    with av.open(str(made)) as source, av.open(str(path), "w") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                shown_s = 5 if packet.pts * packet.time_base < 10 else last_s
                packet.stream, packet.duration = track, round(shown_s / packet.time_base)
                target.mux(packet)
    assert told(path) == []


def test_frames_that_flac_lacks(tmp_path: Path) -> None:
    """Its parser glues a damaged frame to others, of which the decoder gives some."""
    path = write_clip(tmp_path / "clip.flac", audio=sine(SHORT_S))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux() if packet.size]
    path.write_bytes(content[: places[5]] + content[places[6] :])
    assert re.search(r"ends after 1\.1\d s of the 1\.20 s", " ".join(told(path)))
    path.write_bytes(content[: places[0]] + b"\x12\x34" + content[places[0] :])
    assert told(path) == ["1 damaged packet could not be decoded"]


class TestHours:
    def fragments(self, path: Path, change: int, duration: int) -> Path:
        """A clip in fragments, of which one packet of sound lasts for so many samples."""
        options = {"movflags": "frag_keyframe+empty_moov"}
        write_clip(path, SHORT_S, audio=sine(SHORT_S), options=options, encoding={"g": "250"})
        content = bytearray(path.read_bytes())
        place = content.rindex(b"trun")
        count = struct.unpack_from(">I", content, place + 8)[0]
        flags = int.from_bytes(content[place + 5 : place + 8], "big")
        assert count > change and flags & 0x301 == 0x301  # place of the data, durations, sizes
        first = place + 16 + (4 if flags & 4 else 0)
        entry = 8 + (4 if flags & 0x400 else 0) + (4 if flags & 0x800 else 0)
        struct.pack_into(">I", content, first + change * entry, duration)
        path.write_bytes(content)
        return path

    def read(self, path: Path) -> tuple[float, float, list[str]]:
        with Clip(path) as clip:
            items = list(clip)
        assert sum(isinstance(item, Frame) for item in items) >= 6
        sound_s = sum(len(i.samples) for i in items if isinstance(i, AudioChunk)) / SAMPLE_RATE
        return sound_s, clip.duration_s, [t for t in clip.warnings() if "track" not in t]

    def test_a_packet_that_lasts_for_hours_is_a_jump(self, tmp_path: Path) -> None:
        path = self.fragments(tmp_path / "clip.mp4", 10, 22 * 3600 * 48_000)
        sound_s, duration_s, warnings = self.read(path)
        assert sound_s < 2 and duration_s < 2
        assert any("jump once" in text for text in warnings)

    def test_a_pause_of_seconds_is_told(self, tmp_path: Path) -> None:
        sound_s, _, warnings = self.read(self.fragments(tmp_path / "clip.mp4", 10, 8 * 48_000))
        assert sound_s == pytest.approx(SHORT_S + 8, abs=0.1)
        assert any("the sound pauses for 8.0 s" in text for text in warnings)

    def test_the_last_frame_ends_where_the_header_says(self, tmp_path: Path) -> None:
        """All frames last for minutes; the edit list shows two seconds."""
        path = write_clip(tmp_path / "clip.mp4", audio=sine(2.0))
        content = bytearray(path.read_bytes())
        place = content.index(b"stts")
        count, _ = struct.unpack_from(">II", content, place + 12)
        assert count == 50
        struct.pack_into(">I", content, place + 16, 0x0FFF_FFFF)
        path.write_bytes(content)
        with Clip(path) as clip:
            list(clip)
        assert clip.duration_s == pytest.approx(2.0, abs=0.1)
