from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.errors import MediaError, OutputError
from mfer_edge.outputs import video
from mfer_edge.outputs.canvas import label_colours, shorten, text_width
from mfer_edge.outputs.overlay import sighting_at, write_overlay
from mfer_edge.outputs.timeline import (
    COLUMN,
    GAP,
    LEFT,
    RIBBON,
    RIBBON_Y,
    RIGHT,
    ROW,
    ROW_PITCH,
    ROWS_Y,
    draw_timeline,
    write_timeline,
)
from mfer_edge.results import BundleInfo, Scores, Track
from mfer_edge.sources.clip import read_audio
from tests.support.analyses import LABELS, analysis, reading, scores, sightings
from tests.support.clips import sine, write_clip

GROUND = (150, 190, 170)  # of the pictures that are drawn on
SIZE = (640, 480)
BOX = (240.0, 160.0, 400.0, 360.0)
COLOURS = label_colours(LABELS)


def plain(size: tuple[int, int]) -> Callable[[int], np.ndarray]:
    return lambda index: np.full((size[1], size[0], 3), GROUND, np.uint8)


def frames(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    return [f.time for f in decoded], [f.to_ndarray(format="bgr24") for f in decoded]


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def differs(image: np.ndarray) -> np.ndarray:
    """Where a picture is no longer the ground: (height, width) bool."""
    return np.asarray((np.abs(image.astype(int) - GROUND) > 25).any(axis=2))


def is_near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixel.astype(int) - colour) < 40).all())


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of one colour at 10 Hz, and a tone."""
    path = tmp_path / "clip.mp4"
    return write_clip(path, 2.0, 10, SIZE, video=plain(SIZE), audio=sine(2.0, channels=2))


class TestOverlay:
    def test_keeps_frames_times_size_and_sound(self, clip: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.mp4"
        write_overlay(clip, analysis([reading(0, 2)], 2.0), out)
        assert frames(out)[0] == pytest.approx(frames(clip)[0], abs=1e-4)
        assert sound_packets(out) == sound_packets(clip)
        with av.open(str(out)) as written, av.open(str(clip)) as source:
            video = written.streams.video[0]
            assert (video.width, video.height) == SIZE
            assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
            assert written.duration == pytest.approx(source.duration, abs=1e6 / 10)
            assert written.streams.audio[0].start_time == source.streams.audio[0].start_time

    def test_draws_the_face_where_and_when_it_was(self, clip: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.mp4"
        seen = sightings(BOX, [0.4, 0.6, 0.8, 1.0], speed=50.0)
        write_overlay(clip, analysis([reading(0, 2)], 2.0, sightings=seen), out)
        times, images = frames(out)
        left, top, right, bottom = (round(edge) for edge in BOX)
        for time_s, image in zip(times, images, strict=True):
            moved = round(50 * min(time_s, 1.0))
            side = image[(top + bottom) // 2, left + moved]
            shown = 0.4 <= time_s <= 1.2
            assert is_near(side, COLOURS["happy"] if shown else GROUND), time_s
            changed = differs(image)
            assert not changed[top + 40 : bottom - 10, left + moved + 10 : right + moved - 10].any()
            assert not changed[: top - 40].any()

    def test_says_what_the_window_of_the_moment_said(self, clip: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.mp4"
        windows = [reading(0, 1, "happy"), reading(1, 2, "angry")]
        seen = sightings(BOX, np.arange(0, 2, 0.2).tolist())
        write_overlay(clip, analysis(windows, 2.0, sightings=seen), out)
        times, images = frames(out)
        for time_s, image in zip(times, images, strict=True):
            label = "happy" if time_s < 1.0 else "angry"
            assert is_near(image[300, round(BOX[0])], COLOURS[label]), time_s

    def test_panel_is_in_the_corner_that_the_face_is_not_in(
        self, clip: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.mp4"
        seen = sightings((10, 200, 260, 470), [0.0, 0.4, 0.8])
        made = analysis([reading(0, 2)], 2.0, sightings=seen)
        write_overlay(clip, made, out)
        changed = differs(frames(out)[1][-1])
        assert changed[330:460, 480:600].mean() > 0.9
        assert not changed[:200].any() and not changed[:, :400].any()

    def test_panel_bars_are_as_long_as_the_scores(self, clip: Path, tmp_path: Path) -> None:
        lengths = []
        for share in (0.4, 0.8):
            out = tmp_path / "out.mp4"
            said = scores("happy", share)
            write_overlay(clip, analysis([reading(0, 2, scores=said)], 2.0), out)
            panel = frames(out)[1][10].astype(int)
            blue, green, red = COLOURS["happy"]
            bar = (np.abs(panel - (blue, green, red)) < 40).all(axis=2)
            lengths.append(bar.sum(axis=1).max())
        assert lengths[1] == pytest.approx(2 * lengths[0], abs=4)

    def test_keeps_times_of_a_rate_that_varies_and_encodes_other_sound(
        self, tmp_path: Path
    ) -> None:
        times = [0.0, 0.04, 0.09, 0.3, 0.31, 0.8, 1.55]
        tone = sine(1.6, channels=2)
        tone[:, : round(0.5 * 48_000)] = 0
        source = tmp_path / "clip.mkv"
        write_clip(source, size=SIZE, video=plain(SIZE), audio=tone, frame_times_s=times)
        out = tmp_path / "out.mp4"
        write_overlay(source, analysis([reading(0, 1.6)], 1.6), out)
        assert frames(out)[0] == pytest.approx(times, abs=1e-3)
        heard, there = read_audio(out), read_audio(source)
        assert len(heard) == pytest.approx(len(there), abs=2 * 1024)
        start = [int(np.argmax(np.abs(wave) > 0.2)) for wave in (heard, there)]
        assert start[0] == pytest.approx(start[1], abs=100)  # 6 ms
        loud = slice(12_000, 24_000)
        assert np.corrcoef(heard[loud], there[loud])[0, 1] > 0.99

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

    def test_clip_without_sound_stays_without(self, tmp_path: Path) -> None:
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

    def test_picture_that_was_stored_on_its_side_is_drawn_upright(self, tmp_path: Path) -> None:
        source = tmp_path / "clip.mp4"
        write_clip(source, 0.2, size=SIZE, video=plain(SIZE), rotation=90)
        out = tmp_path / "out.mp4"
        seen = sightings((200, 400, 300, 600), [0.0])
        write_overlay(source, analysis([reading(0, 0.2)], 0.2, sightings=seen), out)
        with av.open(str(out)) as written:
            frame = next(written.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (480, 640, 0)
        assert is_near(frame.to_ndarray(format="bgr24")[500, 200], COLOURS["happy"])

    def test_colours_are_kept(self, tmp_path: Path) -> None:
        def bands(index: int) -> np.ndarray:
            colours = np.array([(200, 60, 40), (40, 180, 60), (50, 60, 210)], np.uint8)
            return np.ascontiguousarray(np.repeat(colours, 32, axis=0)[None].repeat(64, axis=0))

        source = write_clip(tmp_path / "clip.mp4", 0.2, size=(96, 64), video=bands)
        out = tmp_path / "out.mp4"
        write_overlay(source, analysis([], 0.2), out)
        before, after = (frames(path)[1][0].astype(int) for path in (source, out))
        assert np.abs(before[:, 8::32] - after[:, 8::32]).max() <= 4

    def test_untrained_weights_are_said(self, clip: Path, tmp_path: Path) -> None:
        made = analysis([reading(0, 2, scores=scores("happy", 1.0))], 2.0)  # no other bar is red
        shown = []
        for trained in (True, False):
            out = tmp_path / f"{trained}.mp4"
            bundle = BundleInfo("compact", "int8", trained, "")
            write_overlay(clip, replace(made, bundle=bundle), out)
            image = frames(out)[1][10].astype(int)
            reddish = (image[..., 2] - image[..., 0] > 60) & (image[..., 2] - image[..., 1] > 60)
            shown.append(reddish.sum())
        assert shown[0] == 0 < shown[1]

    def test_progress_reaches_the_end(self, clip: Path, tmp_path: Path) -> None:
        shares: list[float] = []
        write_overlay(clip, analysis([], 2.0), tmp_path / "out.mp4", shares.append)
        assert shares == sorted(shares) and len(shares) == 20
        assert shares[0] == 0 and shares[-1] == pytest.approx(0.95)

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

    def test_sound_alone_has_no_picture_to_draw_on(self, tmp_path: Path) -> None:
        source = write_clip(tmp_path / "clip.wav", audio=sine(0.5))
        with pytest.raises(MediaError, match="no video to draw on"):
            write_overlay(source, analysis([], 0.5), tmp_path / "out.mp4")
        assert sorted(tmp_path.iterdir()) == [source]

    def test_does_not_write_over_the_clip(self, clip: Path) -> None:
        before = clip.read_bytes()
        with pytest.raises(OutputError, match="the clip itself"):
            write_overlay(clip, analysis([], 2.0), clip)
        assert clip.read_bytes() == before

    def test_a_failure_leaves_what_was_there(self, clip: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.mp4"
        out.write_text("older")

        def stop(share: float) -> None:
            if share > 0.5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_overlay(clip, analysis([], 2.0), out, stop)
        assert out.read_text() == "older"
        assert sorted(tmp_path.iterdir()) == [clip, out]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
    def test_a_full_disk_is_an_error(self, clip: Path) -> None:
        noise = np.random.default_rng(0)
        with (
            pytest.raises(av.error.FFmpegError),
            video.ClipWriter(Path("/dev/full"), clip) as writer,
        ):
            for index in range(300):
                writer.write(noise.integers(0, 255, (480, 640, 3), np.uint8), index / 25)


class TestOutput:
    """What both kinds of picture say of a place that they can't be written to."""

    @pytest.mark.parametrize("name", ["out.gif", "out", "out.mp4.txt"])
    def test_unknown_ending(self, clip: Path, tmp_path: Path, name: str) -> None:
        with pytest.raises(OutputError, match=r"should end in \.mp4"):
            write_overlay(clip, analysis([], 2.0), tmp_path / name)
        with pytest.raises(OutputError, match=r"should end in \.png or \.jpg"):
            write_timeline(analysis([], 2.0), tmp_path / name)
        assert sorted(tmp_path.iterdir()) == [clip]

    def test_missing_folder(self, clip: Path, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="there is no folder"):
            write_overlay(clip, analysis([], 2.0), tmp_path / "no" / "out.mp4")
        with pytest.raises(OutputError, match="there is no folder"):
            write_timeline(analysis([], 2.0), tmp_path / "no" / "out.png")

    def test_a_folder_of_that_name(self, tmp_path: Path) -> None:
        (tmp_path / "out.png").mkdir()
        with pytest.raises(OutputError, match="a folder"):
            write_timeline(analysis([], 2.0), tmp_path / "out.png")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_is_read_only(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o555)
        with pytest.raises(OutputError, match="no permission"):
            write_timeline(analysis([], 2.0), tmp_path / "out.png")

    def test_a_name_that_the_disk_does_not_take(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="could not be written"):
            write_timeline(analysis([], 2.0), tmp_path / f"{'x' * 300}.png")
        assert not list(tmp_path.iterdir())


class TestSightingAt:
    SEEN = sightings((0, 10, 20, 40), [0.0, 0.2, 0.4, 1.4], speed=100.0)

    def test_is_exact_at_a_sighting(self) -> None:
        assert sighting_at(self.SEEN, 0.2) == (20.0, 10, 40.0, 40)

    def test_is_on_the_line_between_two(self) -> None:
        assert sighting_at(self.SEEN, 0.25) == pytest.approx((25.0, 10, 45.0, 40))

    def test_stays_until_the_next_look_and_no_longer(self) -> None:
        assert sighting_at(self.SEEN, 0.59) == sighting_at(self.SEEN, 0.4)
        assert sighting_at(self.SEEN, 0.61) is None
        assert sighting_at(self.SEEN, 1.39) is None

    def test_is_nowhere_before_the_first(self) -> None:
        assert sighting_at(self.SEEN, -0.01) is None


def bar_ends(image: np.ndarray, column: int) -> dict[str, int]:
    """Length in pixels of each label's bar in one of the three columns of the timeline."""
    x = RIGHT + GAP + column * (COLUMN + GAP)
    lengths = {}
    for index, label in enumerate(LABELS):
        line = image[ROWS_Y + index * ROW_PITCH + ROW // 2, x : x + COLUMN]
        lengths[label] = int((line == COLOURS[label]).all(axis=1).sum())
    return lengths


def x_at(time_s: float, duration_s: float) -> int:
    return round(LEFT + (RIGHT - LEFT) * time_s / duration_s)


class TestTimeline:
    @pytest.mark.parametrize(("name", "tolerance"), [("out.png", 0), ("OUT.JPG", 40)])
    def test_file_holds_the_picture(self, tmp_path: Path, name: str, tolerance: int) -> None:
        made = analysis([reading(0, 4)], 4.0)
        write_timeline(made, tmp_path / name)
        read, drawn = cv2.imread(str(tmp_path / name)), draw_timeline(made)
        assert read is not None and read.shape == drawn.shape
        assert np.abs(read.astype(int) - drawn).mean() <= tolerance / 20
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_bars_are_as_long_as_the_scores_of_each_arm(self) -> None:
        face, voice = scores("sad", 0.72), scores("calm", 0.44)
        image = draw_timeline(analysis([reading(0, 4, "happy", visual=face, audio=voice)], 4.0))
        for column, said in enumerate((scores("happy"), face, voice)):
            lengths = bar_ends(image, column)
            whole = lengths[max(lengths, key=lambda label: lengths[label])] / max(said.values())
            assert lengths == {
                label: pytest.approx(score * whole, abs=1) for label, score in said.items()
            }

    def test_ribbon_has_each_moments_colour_and_a_gap_where_nothing_was_read(self) -> None:
        windows = [reading(0, 2), reading(2, 4, None), reading(4, 6, "angry")]
        image = draw_timeline(analysis(windows, 6.0))
        line = image[RIBBON_Y + 2]
        for time_s, colour in ((0.1, "happy"), (1.9, "happy"), (4.1, "angry"), (5.9, "angry")):
            assert tuple(line[x_at(time_s, 6.0)]) == COLOURS[colour]
        gap = image[RIBBON_Y : RIBBON_Y + RIBBON, x_at(2.1, 6.0) : x_at(3.9, 6.0)]
        assert gap.min(axis=2).mean() > 200  # grey, and the words "no reading"

    def test_area_is_as_high_as_the_score(self) -> None:
        image = draw_timeline(analysis([reading(0, 4, scores=scores("happy", 0.5))], 4.0))
        top = ROWS_Y + LABELS.index("happy") * ROW_PITCH
        column = image[top - 10 : top + ROW, x_at(1.3, 4.0)].astype(int)
        filled = (np.abs(column - (255, 255, 255)) > 30).any(axis=1).sum()
        assert filled == pytest.approx(ROW / 2, abs=2)

    def test_missing_arm_has_no_bars(self) -> None:
        image = draw_timeline(analysis([reading(0, 4, visual=None, track=None, faces=0)], 4.0))
        assert sum(bar_ends(image, 1).values()) == 0
        assert sum(bar_ends(image, 0).values()) > 0 < sum(bar_ends(image, 2).values())

    def test_warnings_are_written_below(self) -> None:
        quiet = analysis([reading(0, 4)], 4.0)
        loud = replace(quiet, warnings=("3 damaged packets could not be decoded", "x" * 400))
        image = draw_timeline(loud)
        added = image[draw_timeline(quiet).shape[0] - 40 :].astype(int)
        assert ((added[..., 2] - added[..., 0]) > 100).any()
        assert (image[:, -30:] == 255).all()

    @pytest.mark.parametrize(
        "windows",
        [[], [reading(0, 4, None)], [reading(0, 4, None), reading(1, 5, None)]],
        ids=["no window", "one", "two"],
    )
    def test_nothing_to_read_still_gives_a_picture(self, windows: list) -> None:
        image = draw_timeline(analysis(windows, 5.0, tracks=()))
        assert image.shape[1] == 1600 and (image < 200).any()

    @pytest.mark.parametrize("duration_s", [0.0, 0.3, 59.0, 7200.0])
    def test_any_duration(self, duration_s: float) -> None:
        windows = [reading(0, duration_s)] if duration_s else []
        assert (draw_timeline(analysis(windows, duration_s))[:, -30:] == 255).all()

    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(st.text("abWM_é", min_size=1, max_size=12), min_size=2, max_size=12, unique=True),
        st.text(min_size=0, max_size=200),
    )
    def test_words_stay_in_their_places(self, labels: list[str], source: str) -> None:
        said: Scores = scores(labels[0], 0.9, labels)
        one = reading(0, 3, scores=said, visual=said, audio=said)
        other = replace(one, start_s=3.0, end_s=6.0, track=1)
        made = analysis([one, other], 6.0, tracks=(Track(0, 0, 3, 9), Track(1, 3, 6, 9)))
        rows_end = ROWS_Y + len(labels) * ROW_PITCH
        image = draw_timeline(replace(made, source=f"/clips/{source}.mp4"))
        assert (image[RIBBON_Y:rows_end, LEFT - 8 : LEFT - 2] == 255).all()
        for column in range(3):
            x = RIGHT + GAP + column * (COLUMN + GAP)
            assert (image[RIBBON_Y:, x - 6 : x - 1] == 255).all()
        assert (image[:, -30:] == 255).all()
        assert (image[:, :30] == 255).all()


class TestCanvas:
    def test_emotions_have_their_colour_in_any_set(self) -> None:
        few = label_colours(["anger", "fear", "contempt", "surprise"])
        assert few["anger"] == COLOURS["angry"]
        assert few["fear"] == COLOURS["fearful"]
        assert few["surprise"] == COLOURS["surprised"]
        assert few["contempt"] not in COLOURS.values()

    def test_colours_of_the_eight_differ(self) -> None:
        assert len(set(COLOURS.values())) == len(LABELS)

    @given(st.text(max_size=80), st.integers(20, 400))
    def test_shortened_text_fits(self, text: str, width: int) -> None:
        short = shorten(text, width, 10)
        assert text_width(short, 10) <= width
        assert short == text or "..." in short

    def test_shortened_text_keeps_both_ends(self) -> None:
        short = shorten("a long name of a recording, take 12.mp4", 150, 10)
        assert short.startswith("a lo") and short.endswith(".mp4")
