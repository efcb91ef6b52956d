"""HDR video: PQ and HLG are mapped to what the networks were trained on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.hdr import SDR_WHITE, TO_BT709, to_sdr
from tests.support.footage import filmed, images_of

BOTH = {"PQ": ColorTrc.SMPTE2084, "HLG": ColorTrc.ARIB_STD_B67}


def pq(light: np.ndarray) -> np.ndarray:
    """Signal of cd/m2 by SMPTE ST 2084, with its constants in decimals."""
    power = (light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light: np.ndarray) -> np.ndarray:
    """Signal of cd/m2 on a display of 1000 by ITU-R BT.2100."""
    scene = (light / 1000) ** (1 / 1.2)
    low = np.sqrt(3 * scene)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, low, high)


SIGNALS = {"PQ": pq, "HLG": hlg}


def write_hdr(path: Path, images: list[np.ndarray], kind: str, peak: float) -> Path:
    """Write SDR images as HDR whose white has so many cd/m2: five frames a second, 10 bits."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx265", rate=5)
        height, width = images[0].shape[:2]
        video.width, video.height, video.pix_fmt = width, height, "yuv420p10le"
        video.options = {"x265-params": "log-level=none:crf=12", "preset": "ultrafast"}
        context = video.codec_context
        context.colorspace, context.color_range = Colorspace.BT2020, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT2020, BOTH[kind]
        for index, image in enumerate(images):
            light = (image[..., ::-1] / 255) ** 2.4 @ np.linalg.inv(TO_BT709).T
            signal = SIGNALS[kind](peak * light.clip(0, 1))
            rgb = av.VideoFrame.from_ndarray(
                np.round(signal * 65535).astype(np.uint16), format="rgb48le"
            )
            frame = rgb.reformat(
                format="yuv420p10le",
                dst_colorspace=Colorspace.BT2020,
                dst_color_range=ColorRange.MPEG,
            )
            frame.color_trc, frame.color_primaries = BOTH[kind], ColorPrimaries.BT2020
            frame.pts, frame.time_base = index, Fraction(1, 5)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


class TestCurve:
    @pytest.mark.parametrize("kind", BOTH)
    def test_darks_stay_and_lights_are_compressed(self, kind: str) -> None:
        light = np.array([0, 1, 5, 20, 50, 80, 203, 500, 1000])
        levels = np.round(SIGNALS[kind](light) * 255).astype(np.uint8)
        shown = to_sdr(np.repeat(levels[:, None, None], 3, axis=2), BOTH[kind])
        assert (shown == shown[..., :1]).all()  # greys stay grey
        kept = 255 * (light[:6] / SDR_WHITE) ** (1 / 2.4)
        assert shown[:6, 0, 0] == pytest.approx(kept, abs=8)  # 8 bits of signal
        assert (np.diff(shown[:, 0, 0].astype(int)) > 0).all()
        assert 215 < shown[6, 0, 0] < 240 and shown[8, 0, 0] >= 252

    @pytest.mark.parametrize("transfer", [ColorTrc.BT709, ColorTrc.UNSPECIFIED, ColorTrc.BT2020_10])
    def test_sdr_is_left_as_it_is(self, transfer: ColorTrc) -> None:
        image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
        assert to_sdr(image, transfer) is image


class TestClips:
    @pytest.mark.parametrize("kind", BOTH)
    def test_a_clip_is_seen_like_its_sdr_twin(
        self, kind: str, moment: Path, tmp_path: Path
    ) -> None:
        images = images_of(moment)[:3]
        path = write_hdr(tmp_path / "clip.mp4", images, kind, peak=80.0)  # nothing compressed
        with Clip(path) as clip:
            seen = [item.image for item in clip if isinstance(item, Frame)]
        dark = [255 * ((image / 255) ** 2.4 * 80 / SDR_WHITE) ** (1 / 2.4) for image in images]
        for image, expected in zip(seen, dark, strict=True):
            grey, other = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), expected.astype(np.uint8)
            error = grey.astype(int) - cv2.cvtColor(other, cv2.COLOR_BGR2GRAY)
            assert np.abs(error).mean() < 4

    @pytest.mark.parametrize("kind", BOTH)
    def test_a_clip_is_read_like_its_sdr_twin(
        self, kind: str, pipeline: Pipeline, moment: Path, tmp_path: Path
    ) -> None:
        images = images_of(moment)
        plain = pipeline.analyze(filmed(tmp_path / "sdr.mp4", images, None))
        hdr = pipeline.analyze(write_hdr(tmp_path / "hdr.mp4", images, kind, peak=SDR_WHITE))
        assert plain.overall is not None and hdr.overall is not None
        assert hdr.overall.label == plain.overall.label
        assert hdr.windows[0].faces == plain.windows[0].faces
