"""The overlay: a clip with what was read from it drawn on every frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
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
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip

EVERY_FRAME = 10_000.0  # pictures a second: more than any clip has
MAX_GAP_S = 0.5  # sightings of a face that are further apart are not joined
HOLD_S = 0.2  # a box stays this long after a last sighting: until the next look at 5 a second

# Sizes are in pixels of a picture whose shorter side is this long; other pictures scale them.
DESIGN_SIZE = 720
MIN_UNIT = 2 / 3  # of that scale: smaller letters can't be read
PAD, ROW, TEXT = 16, 19, 9  # of the panel: its border, from row to row, height of capital letters
MAX_WIDTH, MAX_HEIGHT = 0.5, 0.6  # shares of the picture that the panel may take
SHADE = 0.82  # how opaque the panel is
GREY: Colour = (200, 196, 192)
LIGHT_RED: Colour = (130, 130, 255)
NOTHING = "no face, no speech"

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def write_overlay(
    clip: Path | str,
    analysis: Analysis,
    out: Path | str,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write an mp4 of a clip with its faces, their emotions and all scores drawn on it.

    Frames keep their size and times, and the sound is the clip's own.

    Args:
        analysis: of that clip, with its sightings kept.
        progress: called with the share of the clip that is done, 0 to 1.

    Raises:
        MediaError: the clip can't be read, or has no video.
        OutputError: `out` is not an .mp4, is the clip itself, or can't be written.
    """
    clip, out = Path(clip), Path(out)
    overlay = Overlay(analysis)
    with replacing(out, VIDEO_SUFFIXES) as beside, Clip(clip, EVERY_FRAME) as frames:
        if out.exists() and out.samefile(clip):
            raise OutputError(f"{out}: this is the clip itself; write to another name")
        if not frames.has_video:
            raise MediaError(f"{clip}: no video to draw on")
        try:
            with ClipWriter(beside, clip) as writer:
                for frame in frames:
                    if not isinstance(frame, Frame):
                        continue
                    overlay.draw(frame.image, frame.time_s)
                    writer.write(frame.image, frame.time_s)
                    if progress and analysis.duration_s:
                        progress(min(1.0, frame.time_s / analysis.duration_s))
        except av.error.FFmpegError as error:
            raise OutputError(f"{out}: could not be written: {error.strerror}") from error


class Overlay:
    """Draws what an analysis says of a moment onto the picture of that moment."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._moments = window_spans(analysis.windows, analysis.duration_s)
        self._several = len(analysis.tracks) > 1
        self._colours = label_colours(analysis.labels)
        self._sightings: dict[int, list[FaceDetection]] = {}  # by track, in order
        for sighting in sorted(analysis.sightings, key=lambda s: s.time_s):
            self._sightings.setdefault(sighting.track, []).append(sighting)
        self._panel: Panel | None = None  # made for the size of the first picture

    def draw(self, image: np.ndarray, time_s: float) -> None:
        """Draw on a picture: (height, width, 3) uint8 BGR, at seconds from the clip's start."""
        height, width = image.shape[:2]
        unit = _unit(height, width)
        moment = self._moment(time_s)
        main = moment.main if moment else None
        readings = {r.track: r for r in moment.readings} if moment else {}
        for track, sightings in self._sightings.items():
            if (box := sighting_at(sightings, time_s)) is not None:
                is_main = main is not None and main.track == track
                self._draw_face(image, box, readings.get(track), is_main, unit)
        if self._panel is None or self._panel.size != (height, width):
            self._panel = Panel(self._analysis, height, width)
        self._panel.draw(image, main)

    def _moment(self, time_s: float) -> WindowSpan | None:
        index = bisect_right(self._moments, time_s, key=lambda moment: moment.start_s) - 1
        if index < 0:
            return None
        # The last window may end up to half a hop before the clip does; what it said stays.
        is_last = index == len(self._moments) - 1
        return self._moments[index] if is_last or time_s <= self._moments[index].end_s else None

    def _draw_face(
        self, image: np.ndarray, box: Box, reading: Reading | None, is_main: bool, unit: float
    ) -> None:
        left, top, right, bottom = (round(value) for value in box)
        label = reading.label if reading else None
        colour = GREY if label is None else self._colours[label]
        line = max(1, round((3 if is_main else 2) * unit))
        cv2.rectangle(image, (left, top), (right, bottom), colour, line)
        words = [f"face {reading.track}"] if reading and self._several else []
        if reading and reading.scores and label:
            words += [label, f"{reading.scores[label]:.0%}"]
        if not words:
            return
        text, size, pad = "  ".join(words), 10 * unit, 8 * unit
        width, height = text_width(text, size, bold=True) + 2 * pad, size + 2 * pad
        x = max(0.0, min(left - line / 2, image.shape[1] - width))
        y = top - line / 2 - height
        if y < 0:  # no room above the face: under its upper edge
            y = max(0.0, top + line / 2)
        fill(image, x, y, x + width, y + height, colour)
        put_text(image, text, (x + pad, y + height / 2), size, ink_on(colour), bold=True)


class Panel:
    """The corner panel: every score of the main face's reading, and what the reading rests on.

    Args:
        height, width: of the pictures, in pixels.
    """

    def __init__(self, analysis: Analysis, height: int, width: int) -> None:
        self.size = height, width
        self._several = len(analysis.tracks) > 1
        self._trained = analysis.bundle.trained
        self._colours = label_colours(analysis.labels)
        self._unit = unit = _unit(height, width)
        self._names = max((self._measure(label) for label in self._colours), default=0)
        self._bar = 104 * unit
        head = [text_width(f"{label}  100%", 13 * unit, bold=True) for label in self._colours]
        row = self._names + self._bar + self._measure("100%") + 20 * unit
        note_w, notes_h = self._measure(NOTHING), (1 if self._trained else 2) * ROW * unit
        rows_h = len(self._colours) * ROW * unit
        self._width = 2 * PAD * unit + max([row, note_w, *head])
        self._height = 2 * PAD * unit + 23 * unit + notes_h + rows_h
        # A small picture keeps the headline alone, and a tiny one its faces' labels.
        self._bars = self._width <= MAX_WIDTH * width and self._height <= MAX_HEIGHT * height
        if not self._bars:
            self._width = 2 * PAD * unit + max([note_w, *head])
            self._height -= rows_h + 10 * unit
        self._fits = self._width <= MAX_WIDTH * width and self._height <= MAX_HEIGHT * height
        self._left, self._top = self._corner(analysis.sightings)

    def draw(self, image: np.ndarray, reading: Reading | None) -> None:
        """Draw on a picture what the main face's reading of its moment says."""
        if not self._fits:
            return
        unit, size = self._unit, TEXT * self._unit
        left, y = self._left + PAD * unit, self._top + PAD * unit + 6 * unit
        right = self._left + self._width - PAD * unit
        _shade(image, self._left, self._top, self._width, self._height)
        label = reading.label if reading else None
        scores = (reading.scores if reading else None) or {}
        put_text(image, label or "no reading", (left, y), 13 * unit, WHITE, bold=True)
        if label:
            put_text(image, f"{scores[label]:.0%}", (right, y), 13 * unit, WHITE, True, align=1)
        y += (4 + ROW) * unit
        put_text(image, self._basis(reading), (left, y), size, GREY)
        if not self._trained:
            y += ROW * unit
            put_text(image, "untrained weights", (left, y), size, LIGHT_RED)
        y += 6 * unit
        for name, colour in self._colours.items() if self._bars else ():
            y += ROW * unit
            ink, bold = (WHITE, True) if name == label else (GREY, False)
            put_text(image, name, (left, y), size, ink, bold)
            x, top, bottom = left + self._names + 10 * unit, y - 4 * unit, y + 4 * unit
            fill(image, x, top, x + self._bar, bottom, mix(WHITE, INK, 0.25))
            if scores:
                fill(image, x, top, x + self._bar * scores[name], bottom, colour)
                put_text(image, f"{scores[name]:.0%}", (right, y), size, ink, bold, align=1)

    def _measure(self, text: str) -> int:
        return text_width(text, TEXT * self._unit, bold=True)

    def _basis(self, reading: Reading | None) -> str:
        """What a reading rests on, in words."""
        if reading is None:
            return "between windows"
        if not reading.modalities:
            return NOTHING
        face = f"face {reading.track}" if self._several else "face"
        if len(reading.modalities) == 1:
            return f"{face} only" if reading.visual else "voice only"
        return f"{face} + voice"

    def _corner(self, sightings: Sequence[FaceDetection]) -> tuple[float, float]:
        """Choose the corner that the clip's faces are in the least."""
        height, width = self.size
        margin = 20 * self._unit
        lefts = margin, width - margin - self._width
        tops = height - margin - self._height, margin

        def covered(corner: tuple[float, float]) -> float:
            left, top = corner
            right, bottom = left + self._width, top + self._height
            return sum(
                max(0.0, min(s.right, right) - max(s.left, left))
                * max(0.0, min(s.bottom, bottom) - max(s.top, top))
                for s in sightings
            )

        return min(((left, top) for top in tops for left in lefts), key=covered)


def sighting_at(sightings: Sequence[FaceDetection], time_s: float) -> Box | None:
    """Where one face is at a moment: on the line between the sightings around it.

    Args:
        sightings: of one track, in order of time.

    Returns:
        left, top, right, bottom in pixels; None where the face was not seen about then.
    """
    after = bisect_right(sightings, time_s, key=lambda s: s.time_s)
    before = sightings[after - 1] if after else None
    later = sightings[after] if after < len(sightings) else None
    if before and later and later.time_s - before.time_s <= MAX_GAP_S:
        share = (time_s - before.time_s) / (later.time_s - before.time_s)
        pairs = zip(_box(before), _box(later), strict=True)
        left, top, right, bottom = (a + (b - a) * share for a, b in pairs)
        return left, top, right, bottom
    return _box(before) if before and time_s - before.time_s <= HOLD_S else None


def _box(sighting: FaceDetection) -> Box:
    return sighting.left, sighting.top, sighting.right, sighting.bottom


def _unit(height: int, width: int) -> float:
    return max(min(height, width) / DESIGN_SIZE, MIN_UNIT)


def _shade(image: np.ndarray, left: float, top: float, width: float, height: float) -> None:
    part = image[round(top) : round(top + height), round(left) : round(left + width)]
    part[:] = cv2.addWeighted(part, 1 - SHADE, np.full_like(part, INK), SHADE, 0)
