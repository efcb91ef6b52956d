"""Overlay video: a clip with face boxes, labels and scores drawn on every frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import av.error
import cv2
import numpy as np

from mfer_edge.errors import MediaError, OutputError
from mfer_edge.outputs.canvas import (
    INK,
    WHITE,
    Colour,
    fill,
    ink_on,
    label_colours,
    mix,
    put_text,
    text_width,
)
from mfer_edge.outputs.files import VIDEO_SUFFIXES, replacing
from mfer_edge.outputs.video import ClipWriter
from mfer_edge.results import Analysis, FaceDetection, Reading
from mfer_edge.segments import WindowSpan, window_spans
from mfer_edge.sources.base import Frame, TrackChoice
from mfer_edge.sources.clip import Clip

EVERY_FRAME = 10_000.0  # frames per second: more than any clip has
MAX_GAP_S = 0.5  # detections of a face further apart are not interpolated
HOLD_S = 0.2  # how long a box stays after the last detection: one frame at 5 frames per second

# Sizes are in pixels of a frame whose shorter side is this long, and scaled for other frames.
DESIGN_SIZE = 720
MIN_SCALE = 2 / 3  # smaller letters are illegible
PAD, LINE, TEXT = 16, 19, 9  # of the panel: padding, line height, height of capital letters
MAX_WIDTH, MAX_HEIGHT = 0.5, 0.6  # of the panel, as fractions of the frame
MAX_COVERED = 0.02  # of the faces, by a panel with bars
TITLES, CAPTIONS = 0.1, 0.2  # of the frame's height: bands that captions and clocks stand in
OPACITY = 0.82  # of the panel's background
GREY: Colour = (200, 196, 192)
LIGHT_RED: Colour = (130, 130, 255)
NO_MODALITY = "no face, no speech"

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def write_overlay(
    clip: Path | str,
    analysis: Analysis,
    out: Path | str,
    progress: Callable[[float], None] | None = None,
    tracks: TrackChoice | None = None,
) -> None:
    """Write an mp4 of a clip with face boxes, labels and scores drawn on it.

    Frame sizes, frame times and the audio are those of the clip.

    Args:
        analysis: of that clip, with its face detections kept.
        progress: called with the fraction of the clip that is done, 0 to 1.
        tracks: as for the analysis.

    Raises:
        MediaError: the clip can't be read, or has no video.
        OutputError: `out` is not an .mp4, is the clip itself, or can't be written.
    """
    clip, out = Path(clip), Path(out)
    overlay = Overlay(analysis)
    with (
        replacing(out, VIDEO_SUFFIXES) as temporary,
        Clip(clip, EVERY_FRAME, choice=tracks) as frames,
    ):
        if out.exists() and out.samefile(clip):
            raise OutputError(f"{out}: this is the clip itself; write to another name")
        if frames.video is None:
            raise MediaError(f"{clip}: no video to draw on")
        try:
            size: tuple[int, ...] | None = None  # of the first frame, and so of the video
            audio = None if frames.audio is None else frames.audio.index
            with ClipWriter(temporary, clip, frames.video.index, audio) as writer:
                for frame in frames:
                    if not isinstance(frame, Frame):
                        continue
                    image, shown = fitted(frame.image, size := size or frame.image.shape[:2])
                    overlay.draw(image, frame.time_s, shown)
                    writer.write(image, frame.time_s)
                    if progress and analysis.duration_s:
                        progress(min(1.0, frame.time_s / analysis.duration_s))
        except av.error.FFmpegError as error:
            raise OutputError(f"{out}: could not be written: {error.strerror}") from error


class Overlay:
    """Drawing of an analysis onto the frames of its clip."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._spans = window_spans(analysis.windows, analysis.duration_s)
        self._several = len(analysis.tracks) > 1
        self._colours = label_colours(analysis.labels)
        self._drawn_on: tuple[int, int, Box] | None = None  # to which the next two belong
        self._detections: dict[int, list[FaceDetection]] = {}  # by track, ordered by time
        self._panel: Panel | None = None

    def draw(self, image: np.ndarray, time_s: float, shown: Box | None = None) -> None:
        """Draw on a frame.

        Args:
            image: (height, width, 3) uint8 BGR.
            time_s: from the start of the clip.
            shown: the part of the image in which the clip's frame is; by default all.
        """
        height, width = image.shape[:2]
        shown = shown or (0.0, 0.0, float(width), float(height))
        if self._drawn_on != (height, width, shown):
            self._resize(height, width, shown)
            self._drawn_on = height, width, shown
        scale = _scale(height, width)
        span = self._span_at(time_s)
        main = span.main if span else None
        readings = {r.track: r for r in span.readings} if span else {}
        for track, detections in self._detections.items():
            if (box := box_at(detections, time_s)) is not None:
                is_main = main is not None and main.track == track
                self._draw_face(image, box, readings.get(track), is_main, scale)
        if self._panel is not None:
            self._panel.draw(image, main)

    def _resize(self, height: int, width: int, shown: Box) -> None:
        detections = [_placed(d, shown) for d in self._analysis.detections]
        self._panel = Panel(replace(self._analysis, detections=tuple(detections)), height, width)
        self._detections = {}
        for detection in sorted(detections, key=lambda d: d.time_s):
            self._detections.setdefault(detection.track, []).append(detection)

    def _span_at(self, time_s: float) -> WindowSpan | None:
        index = bisect_right(self._spans, time_s, key=lambda span: span.start_s) - 1
        if index < 0:
            return None
        # The last window may end up to half a hop before the clip does; its readings stay.
        is_last = index == len(self._spans) - 1
        return self._spans[index] if is_last or time_s <= self._spans[index].end_s else None

    def _draw_face(
        self, image: np.ndarray, box: Box, reading: Reading | None, is_main: bool, scale: float
    ) -> None:
        left, top, right, bottom = (round(value) for value in box)
        label = reading.label if reading else None
        colour = GREY if label is None else self._colours[label]
        line = max(1, round((3 if is_main else 2) * scale))
        cv2.rectangle(image, (left, top), (right, bottom), colour, line)
        words = [f"face {reading.track}"] if reading and self._several else []
        if reading and reading.scores and label:
            words += [label, f"{reading.scores[label]:.0%}"]
        if not words:
            return
        text, size, pad = "  ".join(words), 10 * scale, 8 * scale
        width, height = text_width(text, size, bold=True) + 2 * pad, size + 2 * pad
        x = max(0.0, min(left - line / 2, image.shape[1] - width))
        y = top - line / 2 - height
        if y < 0:  # no space above the face: below its upper edge
            y = max(0.0, top + line / 2)
        fill(image, x, y, x + width, y + height, colour)
        put_text(image, text, (x + pad, y + height / 2), size, ink_on(colour), bold=True)


class Panel:
    """Panel in a corner of the frame: scores of the main reading, and its modalities.

    Args:
        height, width: of the frames, in pixels.
    """

    def __init__(self, analysis: Analysis, height: int, width: int) -> None:
        self.size = height, width
        self._several = len(analysis.tracks) > 1
        self._trained = analysis.bundle.trained
        self._colours = label_colours(analysis.labels)
        self._scale = scale = _scale(height, width)
        self._name_width = max((self._text_width(label) for label in self._colours), default=0)
        self._bar_width = 104 * scale
        headings = [text_width(f"{label}  100%", 13 * scale, bold=True) for label in self._colours]
        row_width = self._name_width + self._bar_width + self._text_width("100%") + 20 * scale
        note_width = self._text_width(NO_MODALITY)
        notes_height = (1 if self._trained else 2) * LINE * scale
        rows_height = len(self._colours) * LINE * scale
        self._width = 2 * PAD * scale + max([row_width, note_width, *headings])
        self._height = 2 * PAD * scale + 23 * scale + notes_height + rows_height
        # Where it would be too large, or cover a face, the panel has no bars; on a tiny frame it is
        # not drawn.
        self._left, self._top, covered = self._place(analysis.detections)
        self._has_bars = self._is_small_enough() and covered <= MAX_COVERED
        if not self._has_bars:
            self._width = 2 * PAD * scale + max([note_width, *headings])
            self._height -= rows_height + 10 * scale
            self._left, self._top, _ = self._place(analysis.detections)
        self._fits = self._is_small_enough()

    def draw(self, image: np.ndarray, reading: Reading | None) -> None:
        """Draw the panel on a frame, for the main reading at that time."""
        if not self._fits:
            return
        scale, size = self._scale, TEXT * self._scale
        left, y = self._left + PAD * scale, self._top + PAD * scale + 6 * scale
        right = self._left + self._width - PAD * scale
        _shade(image, self._left, self._top, self._width, self._height)
        label = reading.label if reading else None
        scores = (reading.scores if reading else None) or {}
        put_text(image, label or "no reading", (left, y), 13 * scale, WHITE, bold=True)
        if label:
            put_text(image, f"{scores[label]:.0%}", (right, y), 13 * scale, WHITE, True, align=1)
        y += (4 + LINE) * scale
        put_text(image, self._basis(reading), (left, y), size, GREY)
        if not self._trained:
            y += LINE * scale
            put_text(image, "untrained weights", (left, y), size, LIGHT_RED)
        y += 6 * scale
        for name, colour in self._colours.items() if self._has_bars else ():
            y += LINE * scale
            ink, bold = (WHITE, True) if name == label else (GREY, False)
            put_text(image, name, (left, y), size, ink, bold)
            x, top, bottom = left + self._name_width + 10 * scale, y - 4 * scale, y + 4 * scale
            fill(image, x, top, x + self._bar_width, bottom, mix(WHITE, INK, 0.25))
            if scores:
                fill(image, x, top, x + self._bar_width * scores[name], bottom, colour)
                put_text(image, f"{scores[name]:.0%}", (right, y), size, ink, bold, align=1)

    def _text_width(self, text: str) -> int:
        return text_width(text, TEXT * self._scale, bold=True)

    def _basis(self, reading: Reading | None) -> str:
        """Modalities of a reading, in words."""
        if reading is None:
            return "between windows"
        if not reading.modalities:
            return NO_MODALITY
        face = f"face {reading.track}" if self._several else "face"
        if len(reading.modalities) == 1:
            return f"{face} only" if reading.visual else "voice only"
        return f"{face} + voice"

    def _is_small_enough(self) -> bool:
        height, width = self.size
        return self._width <= MAX_WIDTH * width and self._height <= MAX_HEIGHT * height

    def _place(self, detections: Sequence[FaceDetection]) -> tuple[float, float, float]:
        """Left and top of the panel: at a side, clear of captions, where it covers faces least.

        The third value is the share of the faces that it covers.
        """
        height, width = self.size
        margin = 20 * self._scale
        lefts = margin, width - margin - self._width
        bottom = min((1 - CAPTIONS) * height, height - margin)
        top = max(0.0, min(max(TITLES * height, margin), bottom - self._height))
        tops = max(top, bottom - self._height), top

        area = sum((d.right - d.left) * (d.bottom - d.top) for d in detections)

        def covered(left: float, top: float) -> float:
            right, bottom = left + self._width, top + self._height
            return sum(
                max(0.0, min(d.right, right) - max(d.left, left))
                * max(0.0, min(d.bottom, bottom) - max(d.top, top))
                for d in detections
            ) / (area or 1.0)

        places = [(left, top, covered(left, top)) for top in tops for left in lefts]
        return min(places, key=lambda place: place[2])


def box_at(detections: Sequence[FaceDetection], time_s: float) -> Box | None:
    """Interpolate the box of one face linearly between its detections.

    Args:
        detections: of one track, ordered by time.

    Returns:
        left, top, right, bottom in pixels; None if no detection is near that time.
    """
    after = bisect_right(detections, time_s, key=lambda d: d.time_s)
    before = detections[after - 1] if after else None
    later = detections[after] if after < len(detections) else None
    if before and later and later.time_s - before.time_s <= MAX_GAP_S:
        share = (time_s - before.time_s) / (later.time_s - before.time_s)
        pairs = zip(_box(before), _box(later), strict=True)
        left, top, right, bottom = (a + (b - a) * share for a, b in pairs)
        return left, top, right, bottom
    return _box(before) if before and time_s - before.time_s <= HOLD_S else None


def fitted(image: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, Box | None]:
    """Resize a frame to a height and a width, with bars where its proportions differ.

    Returns:
        the image, and the part of it that is the frame; None if it had that size.
    """
    height, width = size
    own_height, own_width = image.shape[:2]
    if (own_height, own_width) == (height, width):
        return image, None
    scale = min(height / own_height, width / own_width)
    inner = max(1, round(own_width * scale)), max(1, round(own_height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    right, bottom = left + inner[0], top + inner[1]
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top:bottom, left:right] = cv2.resize(image, inner, interpolation=method)
    return canvas, (left, top, right, bottom)


def _placed(detection: FaceDetection, shown: Box) -> FaceDetection:
    """A detection where its frame is shown, in pixels of another image."""
    if detection.size is None:
        return detection
    left, top, right, bottom = shown
    across, down = (right - left) / detection.size[1], (bottom - top) / detection.size[0]
    return replace(
        detection,
        left=left + detection.left * across,
        top=top + detection.top * down,
        right=left + detection.right * across,
        bottom=top + detection.bottom * down,
    )


def _box(detection: FaceDetection) -> Box:
    return detection.left, detection.top, detection.right, detection.bottom


def _scale(height: int, width: int) -> float:
    return max(min(height, width) / DESIGN_SIZE, MIN_SCALE)


def _shade(image: np.ndarray, left: float, top: float, width: float, height: float) -> None:
    part = image[round(top) : round(top + height), round(left) : round(left + width)]
    part[:] = cv2.addWeighted(part, 1 - OPACITY, np.full_like(part, INK), OPACITY, 0)
