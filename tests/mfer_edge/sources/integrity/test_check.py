"""Structures of files: whole ones have nothing wrong with them, damaged and cut-off ones do."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from mfer_edge.samples import ANGER, FEAR
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.integrity.check import CHECKS, structure_note
from mfer_edge.sources.integrity.ogg import checksum
from tests.support.clips import CODECS, sine, write_clip

MORE: dict[str, tuple[str | None, str | None]] = {
    ".flv": ("libx264", "aac"),
    ".mka": (None, "flac"),
    ".mpg": ("mpeg1video", "mp2"),
    ".opus": (None, "libopus"),
    ".wma": (None, "wmav2"),
    ".wmv": ("wmv2", "wmav2"),
}
CHECKED = (
    *(".avi", ".flv", ".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpg", ".ogg", ".opus", ".ts"),
    *(".wav", ".webm", ".wma", ".wmv"),
)
WITH_CHECKSUM = (".mka", ".mkv", ".ogg", ".opus")
MAY_BE_JOINED = (".ts", ".mpg", ".ogg", ".opus", ".mp3", ".mka", ".mkv", ".avi", ".wav")
SECONDS = 1.0

Whole = Callable[[str], bytes]
Note = Callable[[str, bytes], str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder, made = tmp_path_factory.mktemp("structures"), dict[str, bytes]()

    def content(ending: str) -> bytes:
        if ending not in made:
            video, audio = {**CODECS, **MORE}[ending]
            tone = sine(SECONDS, channels=2) + 0.1 * sine(SECONDS, hertz=77.7, channels=2)
            path = write_clip(
                folder / f"whole{ending}",
                SECONDS,
                audio=tone if audio else None,
                video_codec=video,
                audio_codec=audio,
            )
            made[ending] = path.read_bytes()
        return made[ending]

    return content


@pytest.fixture
def note(whole: Whole, tmp_path: Path) -> Note:
    def of(ending: str, content: bytes) -> str:
        path = tmp_path / f"whole{ending}"
        path.write_bytes(whole(ending))
        with av.open(str(path)) as container:
            name = container.format.name.partition(",")[0]
        path.write_bytes(content)
        return structure_note(path, name)

    return of


class TestWhole:
    @pytest.mark.parametrize("ending", CHECKED)
    def test_nothing_is_wrong(self, ending: str, whole: Whole, note: Note) -> None:
        assert note(ending, whole(ending)) == ""

    @pytest.mark.parametrize("ending", MAY_BE_JOINED)
    def test_joined(self, ending: str, whole: Whole, note: Note) -> None:
        assert note(ending, whole(ending) * 3) == ""

    @pytest.mark.parametrize("clip", [ANGER, FEAR])
    def test_of_a_camera(self, clip: Path) -> None:
        assert structure_note(clip, "mov") == ""

    @pytest.mark.parametrize("ending", [".mkv", ".webm", ".flv", ".wav", ".avi", ".ogg", ".mp4"])
    def test_written_to_a_pipe(self, ending: str, tmp_path: Path) -> None:
        """No length can be written afterwards."""
        video, audio = {**CODECS, **MORE}[ending]
        path = tmp_path / f"clip{ending}"
        options = {".mkv": {"live": "1"}, ".webm": {"live": "1"}}.get(ending, {})
        if ending == ".mp4":
            options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        write_clip(
            tmp_path / f"made{ending}",
            audio=sine(2.0, channels=2),
            video_codec=video,
            audio_codec=audio,
            options=options,
        )
        content = bytearray((tmp_path / f"made{ending}").read_bytes())
        if ending in (".wav", ".avi"):
            content[4:8] = b"\xff\xff\xff\xff"
            data = content.index(b"data" if ending == ".wav" else b"movi")
            place = data + 4 if ending == ".wav" else data - 4
            content[place : place + 4] = b"\xff\xff\xff\xff"
        path.write_bytes(content)
        with Clip(path) as clip:
            for _ in clip:
                pass
        assert [text for text in clip.warnings() if "track" not in text] == []

    def test_what_cameras_append(self, whole: Whole, note: Note) -> None:
        trailer = random.Random(1).randbytes(999) + b"8db42d694ccc418790edff439fe026bf"
        assert note(".mp4", whole(".mp4") + trailer) == ""
        assert note(".mp4", whole(".mp4") + trailer[:-1]) != ""

    def test_a_radio_that_was_joined_late(self, whole: Whole, note: Note) -> None:
        """The headers, then what the station sends at that time: numbers of its pages go on."""
        content = bytearray(whole(".ogg"))
        pages = [i for i in range(len(content)) if content[i : i + 4] == b"OggS"]
        for later, expected in ((500, ""), (5, "page 7 follows page 1")):
            moved = bytearray(content)
            for start, end in zip(pages[2:], [*pages[3:], len(content)], strict=True):
                number = int.from_bytes(moved[start + 18 : start + 22], "little") + later
                moved[start + 18 : start + 22] = number.to_bytes(4, "little")
                moved[start + 22 : start + 26] = checksum(moved[start:end]).to_bytes(4, "little")
            assert expected in note(".ogg", bytes(moved))
            assert bool(expected) == bool(note(".ogg", bytes(moved)))

    def test_frames_that_were_dropped(self, whole: Whole, note: Note) -> None:
        """In an AVI, entries of the index without a length lead to where they like."""
        content = bytearray(whole(".avi"))
        entry = content.index(b"00dc", content.index(b"idx1") + 100)
        content[entry + 8 : entry + 16] = bytes(8)
        assert note(".avi", bytes(content)) == ""

    def test_formats_without_a_check(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.nut"
        path.write_bytes(bytes(100))
        assert structure_note(path, "nut") == ""
        assert structure_note(tmp_path / "absent.wav", "wav") == ""


class TestDamaged:
    @pytest.mark.parametrize("ending", CHECKED)
    @pytest.mark.parametrize("share", [0.42, 0.7, 0.99])
    def test_cut_off(self, ending: str, share: float, whole: Whole, note: Note) -> None:
        content = whole(ending)
        assert "cut off" in note(ending, content[: int(share * len(content)) | 1])

    @pytest.mark.parametrize("ending", sorted({*CHECKED} - {".mp3"}))
    @pytest.mark.parametrize("change", [3, -3])
    def test_bytes_added_or_lost(self, ending: str, change: int, whole: Whole, note: Note) -> None:
        content = bytearray(whole(ending))
        middle = len(content) // 2
        if change > 0:
            content[middle:middle] = b"\x55" * change
        else:
            del content[middle : middle - change]
        if ending in (".mov", ".mp4") and content.index(b"moov") < middle:
            pytest.skip("the index is before the middle")
        assert note(ending, bytes(content)) != ""

    @pytest.mark.parametrize("ending", WITH_CHECKSUM)
    def test_a_bit(self, ending: str, whole: Whole, note: Note) -> None:
        content = bytearray(whole(ending))
        content[len(content) // 2] ^= 4
        assert "wrong checksum" in note(ending, bytes(content))

    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("rate", [22_050, 48_000])
    def test_the_first_frame_of_an_mp3(
        self, channels: int, rate: int, note: Note, tmp_path: Path
    ) -> None:
        """It tells how much to leave out at the start."""
        path = tmp_path / "clip.mp3"
        write_clip(path, audio=sine(1.0, rate, channels=channels), rate=rate)
        content = bytearray(path.read_bytes())
        assert note(".mp3", bytes(content)) == ""
        content[content.index(b"Info") + 141] ^= 8
        behind = content.index(b"Info") + 156
        behind = content.index(b"\xff", behind)
        moved = content[:behind] + b"\1" + content[behind:]
        assert "no frame where one should be" in note(".mp3", bytes(moved))
        expected = "wrong checksum of the first frame" if (channels, rate) == (2, 48_000) else ""
        assert expected in note(".mp3", bytes(content))

    def test_a_page_that_is_missing(self, whole: Whole, note: Note) -> None:
        content = whole(".ogg") * 1
        pages = [i for i in range(len(content)) if content[i : i + 4] == b"OggS"]
        without = content[: pages[2]] + content[pages[3] :] if len(pages) > 3 else b""
        assert len(pages) > 3
        assert "page 3 follows page 1" in note(".ogg", without)

    def test_a_rate_that_contradicts_the_header(self, whole: Whole, note: Note) -> None:
        content = bytearray(whole(".wav"))
        content[24:28] = struct.pack("<I", 44_100)
        assert "44100 Hz, but 4 bytes a sample and 192000 a second" in note(".wav", bytes(content))

    def test_a_recorder_that_fills_up(self, whole: Whole, note: Note) -> None:
        content = whole(".wav")
        assert note(".wav", content + bytes(-len(content) % 512)) == ""
        assert "where one should be" in note(".wav", content + bytes(-len(content) % 512 + 9))
        assert "behind the last chunk" in note(".wav", content + b"\x03\x02\x01")

    def test_an_index_that_leads_elsewhere(self, whole: Whole, note: Note) -> None:
        content = bytearray(whole(".avi"))
        content[content.index(b"01wb", content.index(b"idx1") + 200) + 8] ^= 1
        assert "not what the index tells" in note(".avi", bytes(content))

    def test_a_frame_that_is_missing(self, whole: Whole, note: Note) -> None:
        """A packet of ASF that is overwritten by the one before."""
        content = bytearray(whole(".wmv"))
        properties = content.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
        size = struct.unpack_from("<I", content, properties + 92)[0]
        start = content.index(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")) + 50
        content[start + size : start + 2 * size] = content[start : start + size]
        assert "missing" in note(".wmv", bytes(content))

    def test_boxes_without_end(self, note: Note) -> None:
        content = b"".join(struct.pack(">I4s", 8 * n, b"moov") for n in range(5000, 0, -1))
        assert "boxes in boxes" in note(".mp4", content)

    @pytest.mark.parametrize("ending", CHECKED)
    def test_anything_ends_in_a_sentence(self, ending: str, whole: Whole, note: Note) -> None:
        rng = random.Random(7)
        for _ in range(60):
            content = bytearray(whole(ending))
            for _ in range(rng.choice((1, 5, 50))):
                place = rng.randrange(rng.choice((300, len(content))))
                content[place : place + 1] = rng.choice((rng.randbytes(1), b"\xff" * 8, b""))
            told = note(ending, bytes(content[: rng.choice((len(content), 200, 5))]))
            assert told == "" or (told.startswith("the file ") and "\n" not in told)


def test_every_check_is_tested(whole: Whole, tmp_path: Path) -> None:
    names = set()
    for ending in CHECKED:
        path = tmp_path / f"clip{ending}"
        path.write_bytes(whole(ending))
        with av.open(str(path)) as container:
            names.add(container.format.name.partition(",")[0])
    assert names == set(CHECKS)
