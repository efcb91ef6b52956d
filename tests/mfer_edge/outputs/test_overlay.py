"""Overlay video: boxes, labels and panel, where and when they belong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mfer_edge.errors import MediaError, OutputError
from mfer_edge.outputs.canvas import label_colours
from mfer_edge.outputs.overlay import Panel, box_at, write_overlay
from mfer_edge.results import BundleInfo, FaceDetection
from tests.support.analyses import LABELS, analysis, detections, reading, scores
from tests.support.clips import sine, write_clip

GROUND = (150, 190, 170)  # of the frames that are drawn on
SIZE = (640, 480)
BOX = (240.0, 160.0, 400.0, 360.0)
COLOURS = label_colours(LABELS)


def plain(size: tuple[int, int]) -> Callable[[int], np.ndarray]:
    return lambda index: np.full((size[1], size[0], 3), GROUND, np.uint8)


def frames(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    return [f.time for f in decoded], [f.to_ndarray(format="bgr24") for f in decoded]


def differs(image: np.ndarray) -> np.ndarray:
    """Pixels that are not the ground colour: (height, width) bool."""
    return np.asarray((np.abs(image.astype(int) - GROUND) > 25).any(axis=2))


def is_near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixel.astype(int) - colour) < 40).all())


def write_joined(path: Path, images: list[np.ndarray]) -> None:
    """Frames of several sizes in one track, five a second."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("mjpeg", rate=5)
        track.pix_fmt = "yuvj420p"
        track.height, track.width = images[0].shape[:2]
        for index, image in enumerate(images):
            codec = av.CodecContext.create("mjpeg", "w")
            codec.height, codec.width = image.shape[:2]
            codec.pix_fmt, codec.time_base = "yuvj420p", Fraction(1, 5)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 5)
            for packet in codec.encode(frame) + codec.encode(None):
                packet.stream, packet.time_base = track, Fraction(1, 5)
                packet.pts = packet.dts = index
                container.mux(packet)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of one colour at 10 Hz, and a tone."""
    path = tmp_path / "clip.mp4"
    return write_clip(path, 2.0, 10, SIZE, video=plain(SIZE), audio=sine(2.0, channels=2))


class TestOverlay:
    def test_draws_the_box_where_and_when_the_face_was_detected(
        self, clip: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.mp4"
        seen = detections(BOX, [0.4, 0.6, 0.8, 1.0], speed=50.0)
        write_overlay(clip, analysis([reading(0, 2)], 2.0, detections=seen), out)
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

    def test_shows_the_label_of_the_window_at_that_time(self, clip: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.mp4"
        windows = [reading(0, 1, "happy"), reading(1, 2, "angry")]
        seen = detections(BOX, np.arange(0, 2, 0.2).tolist())
        write_overlay(clip, analysis(windows, 2.0, detections=seen), out)
        times, images = frames(out)
        for time_s, image in zip(times, images, strict=True):
            label = "happy" if time_s < 1.0 else "angry"
            assert is_near(image[300, round(BOX[0])], COLOURS[label]), time_s

    def test_panel_is_in_a_corner_without_a_face(self, clip: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.mp4"
        seen = detections((10, 200, 260, 470), [0.0, 0.4, 0.8])
        made = analysis([reading(0, 2)], 2.0, detections=seen)
        write_overlay(clip, made, out)
        changed = differs(frames(out)[1][-1])
        assert changed[250:370, 480:600].mean() > 0.9
        assert not changed[:150].any() and not changed[:, :400].any()

    @pytest.mark.parametrize("size", [(640, 480), (1280, 720), (360, 640), (640, 360)])
    @pytest.mark.parametrize("face", [(0.05, 0.5, 0.3, 0.95), (0.6, 0.1, 0.9, 0.5), None])
    def test_captions_near_the_edge_are_not_covered(
        self, size: tuple[int, int], face: tuple[float, ...] | None
    ) -> None:
        width, height = size
        box = (0.0, 0.0, 0.0, 0.0)
        if face is not None:
            box = face[0] * width, face[1] * height, face[2] * width, face[3] * height
        seen = detections(box, [0.0] if face else [])
        image = plain(size)(0)
        Panel(analysis([reading(0, 2)], 2.0, detections=seen), height, width).draw(
            image, reading(0, 2)
        )
        rows, columns = np.nonzero(differs(image))
        assert rows.min() >= 0.1 * height - 1 and rows.max() <= 0.8 * height + 1
        inside = (columns > box[0]) & (columns < box[2]) & (rows > box[1]) & (rows < box[3])
        assert inside.mean() < 0.05

    def test_a_panel_that_would_cover_a_face_has_no_bars(self) -> None:
        heights = []
        for box in ((300.0, 200.0, 340.0, 240.0), (60.0, 30.0, 580.0, 450.0)):
            image = plain(SIZE)(0)
            made = analysis([reading(0, 2)], 2.0, detections=detections(box, [0.0]))
            Panel(made, 480, 640).draw(image, reading(0, 2))
            rows, _ = np.nonzero(differs(image))
            heights.append(rows.max() - rows.min())
        assert heights[1] < heights[0] / 2

    @pytest.mark.parametrize(("size", "bars"), [((320, 240), 0), ((320, 120), 120)])
    def test_frames_of_another_size_are_drawn_like_the_first(
        self, tmp_path: Path, size: tuple[int, int], bars: int
    ) -> None:
        """The box is where the face is, in the video's own size; proportions are kept."""
        source, out = tmp_path / "clip.mkv", tmp_path / "out.mp4"
        images = [plain(SIZE)(0), plain(size)(0)]
        write_joined(source, images)
        across, down = size[0] / SIZE[0], size[1] / (SIZE[1] - 2 * bars)
        later = FaceDetection(
            0.2, 0, BOX[0] * across, (BOX[1] - bars) * down, BOX[2] * across,
            (BOX[3] - bars) * down, (size[1], size[0]),
        )  # fmt: skip
        [first] = detections(BOX, [0.0])
        seen = (replace(first, size=(SIZE[1], SIZE[0])), later)
        write_overlay(source, analysis([reading(0, 0.4)], 0.4, detections=seen), out)
        before, after = frames(out)[1]
        assert before.shape == after.shape == (*SIZE[::-1], 3)
        for image in (before, after):
            assert is_near(image[260, round(BOX[0])], COLOURS["happy"])
            assert is_near(image[260, round(BOX[2])], COLOURS["happy"])
        assert is_near(after[5, 320], (0, 0, 0) if bars else GROUND)

    def test_panel_bars_are_as_long_as_the_scores(self, clip: Path, tmp_path: Path) -> None:
        lengths = []
        for share in (0.4, 0.8):
            out = tmp_path / "out.mp4"
            happy = scores("happy", share)
            write_overlay(clip, analysis([reading(0, 2, scores=happy)], 2.0), out)
            panel = frames(out)[1][10].astype(int)
            blue, green, red = COLOURS["happy"]
            bar = (np.abs(panel - (blue, green, red)) < 40).all(axis=2)
            lengths.append(bar.sum(axis=1).max())
        assert lengths[1] == pytest.approx(2 * lengths[0], abs=4)

    def test_rotated_video_is_drawn_upright(self, tmp_path: Path) -> None:
        source = tmp_path / "clip.mp4"
        write_clip(source, 0.2, size=SIZE, video=plain(SIZE), rotation=90)
        out = tmp_path / "out.mp4"
        seen = detections((200, 400, 300, 600), [0.0])
        write_overlay(source, analysis([reading(0, 0.2)], 0.2, detections=seen), out)
        with av.open(str(out)) as written:
            frame = next(written.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (480, 640, 0)
        assert is_near(frame.to_ndarray(format="bgr24")[500, 200], COLOURS["happy"])

    def test_untrained_weights_are_named(self, clip: Path, tmp_path: Path) -> None:
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

    def test_clip_without_video_is_an_error(self, tmp_path: Path) -> None:
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


class TestBoxAt:
    SEEN = detections((0, 10, 20, 40), [0.0, 0.2, 0.4, 1.4], speed=100.0)

    def test_is_exact_at_a_detection(self) -> None:
        assert box_at(self.SEEN, 0.2) == (20.0, 10, 40.0, 40)

    def test_is_on_the_line_between_two(self) -> None:
        assert box_at(self.SEEN, 0.25) == pytest.approx((25.0, 10, 45.0, 40))

    def test_stays_for_the_hold_time_only(self) -> None:
        assert box_at(self.SEEN, 0.59) == box_at(self.SEEN, 0.4)
        assert box_at(self.SEEN, 0.61) is None
        assert box_at(self.SEEN, 1.39) is None

    def test_is_none_before_the_first_detection(self) -> None:
        assert box_at(self.SEEN, -0.01) is None
