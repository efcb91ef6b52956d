"""What a header tells of a clip's length: who is cut off is told, and nobody else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mfer_edge.sources.clip import Clip
from tests.support.clips import CODECS, sine, write_clip
from tests.support.paths import shared_cases

MORE: dict[str, tuple[str | None, str | None]] = {
    ".aac": (None, "aac"),
    ".ac3": (None, "ac3"),
    ".aiff": (None, "pcm_s16be"),
    ".au": (None, "pcm_s16be"),
    ".caf": (None, "pcm_s16le"),
    ".flv": ("libx264", "aac"),
    ".mka": (None, "flac"),
    ".nut": ("libx264", "pcm_s16le"),
    ".opus": (None, "libopus"),
    ".w64": (None, "pcm_s16le"),
}
TELLING = (".aiff", ".au", ".avi", ".caf", ".flac", ".flv", ".mka", ".mkv", ".mp3", ".w64", ".wav")
NOT_TELLING = (".aac", ".ac3", ".h264", ".ogg", ".opus", ".ts")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder, made = tmp_path_factory.mktemp("announced"), dict[str, bytes]()

    def content(ending: str) -> bytes:
        if ending not in made:
            video, audio = {**CODECS, **MORE}[ending]
            path = write_clip(
                folder / f"whole{ending}",
                4.0,
                25,
                audio=sine(4.0, channels=2) if audio else None,
                video_codec=video,
                audio_codec=audio,
            )
            made[ending] = path.read_bytes()
        return made[ending]

    return content


def told(path: Path) -> tuple[str, ...]:
    """What is told of the clip but for the tracks that it lacks."""
    with Clip(path) as clip:
        for _ in clip:
            pass
    return tuple(text for text in clip.warnings() if "track" not in text)


class TestWhole:
    @pytest.mark.parametrize("ending", [*TELLING, *NOT_TELLING, ".mp4", ".webm"])
    def test_nothing_is_told(
        self, ending: str, whole: Callable[[str], bytes], tmp_path: Path
    ) -> None:
        path = tmp_path / f"clip{ending}"
        path.write_bytes(whole(ending))
        assert told(path) == ()

    @pytest.mark.parametrize("ending", [".mkv", ".mka", ".nut", ".ts"])
    def test_time_stamps_that_start_late(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"clip{ending}"
        video, audio = {**CODECS, **MORE}[ending]
        options = {"output_ts_offset": "5"}
        tone = sine(2.0, channels=2)
        write_clip(path, 2.0, audio=tone, options=options, video_codec=video, audio_codec=audio)
        assert told(path) == ()

    def test_a_guess_is_no_announcement(self) -> None:
        """A raw AAC of changing bit rate: FFmpeg guesses 117 s for its 10."""
        assert told(shared_cases("sv_adts.aac")) == ()

    def test_mp3_without_a_header(self, tmp_path: Path) -> None:
        quiet_then_loud = sine(4.0)
        quiet_then_loud[:, : 2 * 48_000] *= 0
        path = tmp_path / "clip.mp3"
        write_clip(path, audio=quiet_then_loud, options={"write_xing": "0", "id3v2_version": "0"})
        assert told(path) == ()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "ends after" not in " ".join(told(path))

    @pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"])
    def test_wav_that_was_written_to_a_pipe(
        self, size: bytes, whole: Callable[[str], bytes], tmp_path: Path
    ) -> None:
        content = bytearray(whole(".wav"))
        content[4:8] = size
        path = tmp_path / "clip.wav"
        path.write_bytes(content)
        assert told(path) == ()


class TestCutOff:
    @pytest.mark.parametrize("ending", TELLING)
    def test_is_told(self, ending: str, whole: Callable[[str], bytes], tmp_path: Path) -> None:
        path = tmp_path / f"clip{ending}"
        path.write_bytes(whole(ending)[: len(whole(ending)) // 2])
        *_, warning = told(path)
        assert re.search(
            r"of the 4\.[01] s that its header tells of: it may have been cut", warning
        )

    @pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
    def test_of_a_wav_of_64_bits(
        self, kind: bytes, whole: Callable[[str], bytes], tmp_path: Path
    ) -> None:
        riff = whole(".wav")
        data = riff.index(b"data")
        size = len(riff) - data - 8
        sizes = b"".join(n.to_bytes(8, "little") for n in (len(riff) + 28, size, 0)) + bytes(4)
        open_size = b"\xff\xff\xff\xff"
        header = kind + open_size + b"WAVEds64" + len(sizes).to_bytes(4, "little") + sizes
        content = header + riff[12 : data + 4] + open_size + riff[data + 8 :]
        path = tmp_path / "clip.wav"
        path.write_bytes(content)
        assert told(path) == ()
        path.write_bytes(content[: len(content) // 2])
        [warning] = told(path)
        assert "it may have been cut off" in warning


@pytest.mark.parametrize("ending", [".ogg", ".opus"])
def test_what_lies_behind_a_damaged_page_is_missed(
    ending: str, whole: Callable[[str], bytes], tmp_path: Path
) -> None:
    """Ogg's last page tells its length; from a page whose checksum is wrong on, FFmpeg may stop."""
    content = bytearray(whole(ending))
    pages = [i for i in range(len(content)) if content[i : i + 4] == b"OggS"]
    for page in pages[3:-1]:
        content[page + 60] ^= 255
    path = tmp_path / f"clip{ending}"
    path.write_bytes(content)
    damaged, missing = told(path)
    assert "wrong checksum of a page" in damaged
    assert "of the 4.0 s" in missing


class TestJoined:
    @pytest.mark.parametrize(
        "ending", [".ts", ".ogg", ".opus", ".mp3", ".mka", ".mkv", ".flac", ".aac", ".ac3", ".avi"]
    )
    def test_is_not_damaged(
        self, ending: str, whole: Callable[[str], bytes], tmp_path: Path
    ) -> None:
        path = tmp_path / f"clip{ending}"
        path.write_bytes(whole(ending) * 2)
        with Clip(path) as clip:
            for _ in clip:
                pass
        assert clip.duration_s == pytest.approx(8.0, abs=0.2)
        assert clip.damaged == 0 and clip.missing_s < 0.5
        for text in clip.warnings():
            assert "track" in text or "joined" in text

    @pytest.mark.parametrize("ending", [".wav", ".w64", ".caf"])
    def test_what_follows_the_end_is_not_missed(
        self, ending: str, whole: Callable[[str], bytes], tmp_path: Path
    ) -> None:
        path = tmp_path / f"clip{ending}"
        path.write_bytes(whole(ending) * 2)
        assert told(path) == ()
