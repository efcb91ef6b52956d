"""Clips that can't be read, or only in part."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import CODECS, frame_number, sine, write_clip
from tests.support.paths import ROOT


class TestBadInput:
    def error(self, path: Path) -> str:
        with pytest.raises(MediaError) as error, Clip(path) as clip:
            list(clip)
        text = str(error.value)
        assert text.startswith(f"{path}: ")
        assert "\n" not in text
        return text.removeprefix(f"{path}: ")

    def test_missing(self, tmp_path: Path) -> None:
        assert self.error(tmp_path / "clip.mp4") == "No such file or directory"

    def test_folder(self, tmp_path: Path) -> None:
        assert self.error(tmp_path) == "a folder, not a clip; `mfer-edge batch` reads folders"

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.mp4"
        path.touch()
        assert self.error(path) == "the file is empty"

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_clip(tmp_path / "clip.wav", audio=sine(0.1))
        path.chmod(0)
        if os.access(path, os.R_OK):  # root reads everything
            monkeypatch.setattr(os, "access", lambda *_: False)
        assert self.error(path) == "no permission to read it"

    @pytest.mark.parametrize("name", ["notes.txt", "clip.mp4", "list.csv", "readme.nfo", "a.srt"])
    def test_text(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_text("What was said, and when.\n" * 50)
        assert self.error(path).startswith("not a video or sound file")

    def test_subtitles_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.srt"
        path.write_text("1\n00:00:01,000 --> 00:00:02,000\nKids are talking by the door\n\n")
        assert self.error(path) == "no video and no audio that can be decoded"

    def test_random_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.mp4"
        path.write_bytes(random.Random(0).randbytes(100_000))
        self.error(path)

    def test_mp4_without_its_index(self, tmp_path: Path) -> None:
        whole = write_clip(tmp_path / "whole.mp4", audio=sine(2.0)).read_bytes()
        path = tmp_path / "clip.mp4"
        path.write_bytes(whole[: len(whole) // 2])  # the index is at the end
        assert "cut off" in self.error(path)

    def test_unknown_codec(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4")
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
        assert self.error(path) == "no video and no audio that can be decoded"

    def test_unknown_codec_beside_good_audio(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", audio=sine(2.0))
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
        with Clip(path) as clip:
            assert not clip.has_video
            assert (
                sum(len(i.samples) for i in clip if isinstance(i, AudioChunk)) > 1.9 * SAMPLE_RATE
            )

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_cut_off_download_gives_what_is_there(self, tmp_path: Path, share: float) -> None:
        options = {"movflags": "faststart"}
        path = write_clip(tmp_path / "clip.mp4", 4.0, audio=sine(4.0), options=options)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with Clip(path) as clip:
            assert clip.duration_s == pytest.approx(4.0, abs=0.05)
            found = [frame_number(item.image) for item in clip if isinstance(item, Frame)]
        assert clip.damaged > 0
        # In the last moments, a frame may lack while one after it is there.
        assert found[:-2] == list(range(0, 100, 5))[: len(found[:-2])]
        assert clip.duration_s == pytest.approx(4.0 * share, abs=0.8)
        assert clip.duration_s + clip.missing_s == pytest.approx(4.0, abs=0.05)
        assert len(found) >= clip.duration_s * 5 - 1.5  # nothing is left in the decoder

    @pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp3"])
    def test_cut_off_without_a_damaged_packet_shows_as_missing(
        self, tmp_path: Path, suffix: str
    ) -> None:
        path = write_clip(tmp_path / f"clip{suffix}", 4.0, audio=sine(4.0))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with Clip(path) as clip:
            list(clip)
        assert 1.0 < clip.missing_s < 3.0

    def test_whole_clip_misses_nothing(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", audio=sine(2.0))
        with Clip(path) as clip:
            list(clip)
        assert clip.missing_s < 0.01

    def test_damage_in_the_middle_is_counted_and_passed_over(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 4.0, audio=sine(4.0))
        content = bytearray(path.read_bytes())
        middle = content.index(b"mdat") + (content.index(b"moov") - content.index(b"mdat")) // 2
        content[middle : middle + 600] = random.Random(0).randbytes(600)
        path.write_bytes(content)
        with Clip(path) as clip:
            items = list(clip)
        assert clip.damaged > 0
        assert clip.duration_s == pytest.approx(4.0, abs=0.1)
        frames = [item for item in items if isinstance(item, Frame)]
        assert [frame_number(p.image) for p in frames[:3]] == [0, 5, 10]
        assert sum(isinstance(item, AudioChunk) for item in items) > 100

    def test_disk_that_fails_midway(self, tmp_path: Path) -> None:
        """Everything before the failure is given, also the frames that the decoder still holds."""
        path = write_clip(tmp_path / "clip.mp4", 4.0, 25, audio=sine(4.0))
        with Clip(path, frame_rate=25) as clip:
            clip._container = FailingContainer(clip._container, packets=150)
            items = list(clip)
        shown = [frame_number(i.image) for i in items if isinstance(i, Frame)]
        packets = clip._container.video_packets
        assert 10 < packets < 90
        assert shown == sorted(shown)
        assert len(shown) == packets
        assert clip.damaged == 1

    def test_impossible_frame_length(self, tmp_path: Path) -> None:
        """A damaged length of the last frame does not make hours of a clip."""
        whole = write_clip(tmp_path / "whole.mkv", 2.0, 25)
        path = tmp_path / "clip.mkv"
        with av.open(str(whole)) as source, av.open(str(path), "w") as damaged:
            track = damaged.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    if packet.pts * packet.time_base == Fraction(49, 25):
                        packet.duration = round(50_000 / packet.time_base)
                    packet.stream = track
                    damaged.mux(packet)
        with Clip(path) as clip:
            assert clip.duration_s > 40_000
            list(clip)
        assert clip.duration_s < 3.0

    @given(
        suffix=st.sampled_from(sorted(CODECS)),
        seed=st.integers(0, 2**32 - 1),
        kind=st.sampled_from(["cut", "bytes", "block", "left out", "header"]),
    )
    @settings(max_examples=150)
    def test_no_damage_ends_in_anything_but_a_media_error(
        self,
        whole_files: Callable[[str], bytes],
        tmp_path_factory: pytest.TempPathFactory,
        suffix: str,
        seed: int,
        kind: str,
    ) -> None:
        chance = random.Random(seed)
        content = bytearray(whole_files(suffix))
        at, size = chance.randrange(len(content)), chance.randrange(1, 2000)
        if kind == "cut":
            del content[at:]
        elif kind == "bytes":
            for _ in range(chance.choice([1, 10, 100])):
                content[chance.randrange(len(content))] = chance.randrange(256)
        elif kind == "block":
            content[at : at + size] = chance.randbytes(len(content[at : at + size]))
        elif kind == "left out":
            del content[at : at + size]
        else:
            for _ in range(chance.choice([1, 3, 10])):
                content[chance.randrange(200)] = chance.randrange(256)
        path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
        path.write_bytes(content)
        shown_s = -1.0
        try:
            with Clip(path) as clip:
                for item in clip:
                    if isinstance(item, Frame):
                        assert item.time_s > shown_s
                        shown_s = item.time_s
                    else:
                        assert np.isfinite(item.samples).all()
        except MediaError as error:
            assert str(path) in str(error)

    def test_ffmpeg_says_nothing_of_its_own(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "clip.mp4", 4.0, audio=sine(4.0))
        content = bytearray(path.read_bytes())
        content[3000:5000] = random.Random(0).randbytes(2000)
        path.write_bytes(content)
        program = (
            "import sys; from mfer_edge.sources.clip import Clip\n"
            "with Clip(sys.argv[1]) as clip: list(clip)\n"
            "print(clip.damaged > 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.fixture(scope="session")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("whole")
    audio = sine(1.0, channels=2)
    content = {
        suffix: write_clip(folder / f"whole{suffix}", 1.0, 25, audio=audio).read_bytes()
        for suffix in CODECS
    }
    return content.__getitem__


class FailingContainer:
    """A container on a disk that can't be read from some packet on."""

    def __init__(self, container: av.container.InputContainer, packets: int) -> None:
        self._container = container
        self._packets = packets
        self.video_packets = 0

    def demux(self, *tracks: av.stream.Stream) -> Iterator[av.Packet]:
        for packet in itertools.islice(self._container.demux(*tracks), self._packets):
            self.video_packets += packet.stream.type == "video"
            yield packet
        raise av.error.OSError(5, "Input/output error")

    def close(self) -> None:
        self._container.close()
