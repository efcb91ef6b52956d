"""The timeline: one picture of what a whole clip showed, over time and in sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from mfer_edge.errors import OutputError
from mfer_edge.outputs.canvas import (
    HAIRLINE,
    INK,
    MUTED,
    RED,
    WHITE,
    Colour,
    fill,
    ink_on,
    label_colours,
    mix,
    put_text,
    shorten,
    text_width,
)
from mfer_edge.outputs.files import PICTURE_SUFFIXES, replacing
from mfer_edge.results import Analysis, Reading, Scores, likeliest, mean_scores
from mfer_edge.segments import WindowSpan, window_spans

# Pixels.
WIDTH, MARGIN = 1600, 56
NAMES = 160  # column of row names
COLUMN, GAP = 150, 36  # each of the three columns at the right, and the space before each
LEFT, RIGHT = MARGIN + NAMES, WIDTH - MARGIN - 3 * (COLUMN + GAP)  # of the plot
TITLE_Y, SUBTITLE_Y, HEADING_Y, RIBBON_Y, ROWS_Y = 66, 102, 172, 194, 248
RIBBON = 30
ROW, ROW_PITCH = 40, 56  # a score of 1 is as high as its row
STRIP, STRIP_PITCH = 20, 36
TITLE, TEXT, SMALL = 18, 11, 10  # heights of capital letters

TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
MIN_TICK = 64  # pixels from one tick to the next
FRACTION = 4  # bits: areas are drawn to a sixteenth of a pixel
NO_READING: Colour = (246, 243, 241)
SLATE: Colour = (148, 126, 108)

Value = Callable[[Reading], float | None]
STRIPS: dict[str, Value] = {
    "face in view": lambda reading: reading.faces / reading.frames if reading.frames else None,
    "speech": lambda reading: reading.speech_s / (reading.end_s - reading.start_s),
}


def write_timeline(analysis: Analysis, out: Path | str) -> None:
    """Write a PNG or JPEG of a clip's emotions over time, and of face and voice in sum.

    Raises:
        OutputError: `out` is neither .png nor .jpg, or can't be written.
    """
    out = Path(out)
    with replacing(out, PICTURE_SUFFIXES) as beside:
        done, data = cv2.imencode(out.suffix.lower(), draw_timeline(analysis))
        if not done:
            raise OutputError(f"{out}: OpenCV could not encode the picture")
        beside.write_bytes(data.tobytes())


def draw_timeline(analysis: Analysis) -> np.ndarray:
    """Draw the timeline: (height, 1600, 3) uint8 BGR.

    Every label has a row: its score over time, then its score in sum, from all there was, from the
    face alone and from the voice alone.
    """
    colours = label_colours(analysis.labels)
    rows = {label: ROWS_Y + index * ROW_PITCH for index, label in enumerate(colours)}
    strips_y = ROWS_Y + len(rows) * ROW_PITCH + 8
    axis_y = strips_y + STRIP_PITCH + STRIP + 12
    notes_y = axis_y + 64
    image = np.full((notes_y + 26 * len(analysis.warnings) + 16, WIDTH, 3), WHITE, np.uint8)
    _header(image, analysis, colours)

    plot = _Plot(image, analysis)
    plot.gaps(RIBBON_Y, strips_y - 16)
    plot.axis(ROWS_Y - 12, axis_y)
    put_text(image, "main face over time, each row from 0 to 100%", (LEFT, HEADING_Y), SMALL, MUTED)
    _name(image, "likeliest", RIBBON_Y + RIBBON / 2)
    plot.ribbon(RIBBON_Y, colours)
    for label, y in rows.items():
        _name(image, label, y + ROW / 2, colours[label])
        plot.area(y, ROW, colours[label], _score(label))
    for index, (name, value) in enumerate(STRIPS.items()):
        y = strips_y + index * STRIP_PITCH
        _name(image, name, y + STRIP / 2)
        plot.area(y, STRIP, SLATE, value)
        if (share := plot.mean(value)) is not None:
            at = RIGHT + GAP, y + STRIP / 2
            put_text(image, f"{share:.0%} of the time", at, TEXT, MUTED)

    main = [reading for reading in analysis.windows if reading.main]
    fused = analysis.overall.scores if analysis.overall else None
    for index, (heading, missing, scores) in enumerate(
        (
            ("fused", "no reading", fused),
            ("face alone", "no face", mean_scores([reading.visual for reading in main])),
            ("voice alone", "no speech", mean_scores([reading.audio for reading in main])),
        )
    ):
        x = RIGHT + GAP + index * (COLUMN + GAP)
        put_text(image, heading, (x, HEADING_Y), SMALL, MUTED)
        _column(image, x, scores, missing, rows, colours)
    for index, warning in enumerate(analysis.warnings):
        text = shorten(f"! {warning}", WIDTH - 2 * MARGIN, TEXT)
        put_text(image, text, (MARGIN, notes_y + 26 * index), TEXT, RED)
    return image


def _header(image: np.ndarray, analysis: Analysis, colours: dict[str, Colour]) -> None:
    right, overall = WIDTH - MARGIN, analysis.overall
    label = overall.label if overall else "no reading"
    verdict = f"{label}  {overall.scores[label]:.0%}" if overall else label
    words = {"visual": "face", "audio": "voice"}
    basis = "neither face nor speech in this clip"
    if overall:
        basis = f"over the whole clip, from {' + '.join(words[m] for m in overall.modalities)}"
    colour = mix(colours[label], INK, 0.8) if overall else MUTED
    put_text(image, verdict, (right, TITLE_Y), TITLE, colour, bold=True, align=1)
    put_text(image, basis, (right, SUBTITLE_Y), TEXT, MUTED, align=1)

    room = right - MARGIN - text_width(verdict, TITLE, bold=True) - 2 * GAP
    title = shorten(Path(analysis.source).name, room, TITLE, bold=True)
    put_text(image, title, (MARGIN, TITLE_Y), TITLE, INK, bold=True)
    bundle, windows = analysis.bundle, {(r.start_s, r.end_s) for r in analysis.windows}
    facts = [
        f"{analysis.duration_s:.1f} s",
        f"{len(windows)} window{'s' * (len(windows) != 1)}",
        f"{len(analysis.tracks)} face{'s' * (len(analysis.tracks) != 1)}",
        f"{bundle.name} {bundle.precision} on {analysis.device}",
    ]
    put_text(image, ",  ".join(facts), (MARGIN, SUBTITLE_Y), TEXT, MUTED)
    fill(image, MARGIN, SUBTITLE_Y + 30, right, SUBTITLE_Y + 31, HAIRLINE)


def _name(image: np.ndarray, name: str, y: float, colour: Colour | None = None) -> None:
    if colour is not None:
        fill(image, MARGIN, y - 6, MARGIN + 12, y + 6, colour)
    text = shorten(name, NAMES - 24 - 12, TEXT)
    put_text(image, text, (MARGIN + 24, y), TEXT, INK if colour else MUTED)


def _column(
    image: np.ndarray,
    x: int,
    scores: Scores | None,
    missing: str,
    rows: dict[str, int],
    colours: dict[str, Colour],
) -> None:
    """Bars of one set of scores, each on its label's row, under the name of the likeliest."""
    head = x, RIBBON_Y + RIBBON / 2
    if scores is None:
        put_text(image, missing, head, TEXT, MUTED)
        return
    best = likeliest(scores)
    put_text(image, shorten(best, COLUMN, TEXT, bold=True), head, TEXT, INK, bold=True)
    bar = COLUMN - text_width("100%", TEXT, bold=True) - 10
    for label, top in rows.items():
        y, is_best = top + ROW / 2, label == best
        fill(image, x, y - 6, x + bar, y + 6, HAIRLINE)
        fill(image, x, y - 6, x + bar * scores[label], y + 6, colours[label])
        ink = INK if is_best else MUTED
        put_text(image, f"{scores[label]:.0%}", (x + COLUMN, y), TEXT, ink, is_best, align=1)


class _Plot:
    """The part of the picture whose x is time."""

    def __init__(self, image: np.ndarray, analysis: Analysis) -> None:
        self._image = image
        self._duration_s = analysis.duration_s or 1.0
        self._moments = window_spans(analysis.windows, analysis.duration_s)

    def x(self, time_s: float) -> float:
        return LEFT + (RIGHT - LEFT) * time_s / self._duration_s

    def gaps(self, top: float, bottom: float) -> None:
        """Mark the stretches without a reading."""
        runs = _runs(self._moments, lambda reading: None if reading.scores is None else 1.0)
        edges = [0.0, *(run[i][0] for run in runs for i in (0, -1)), self._duration_s]
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            left, right = self.x(start), self.x(end)
            if right - left < 1:
                continue
            fill(self._image, left, top, right, bottom, NO_READING)
            if right - left > text_width("no reading", SMALL) + 12:
                middle = (left + right) / 2, top + RIBBON / 2
                put_text(self._image, "no reading", middle, SMALL, MUTED, align=0.5)

    def axis(self, top: float, y: float) -> None:
        """Draw the time axis, with a line up from every tick."""
        per_s = (RIGHT - LEFT) / self._duration_s
        step = next((s for s in TICKS_S if s * per_s >= MIN_TICK), self._duration_s)
        for index in range(int(self._duration_s / step + 1e-6) + 1):
            x = self.x(index * step)
            fill(self._image, x, top, x + 1, y, HAIRLINE)
            text = _clock(index * step, step, self._duration_s)
            put_text(self._image, text, (x, y + 16), SMALL, MUTED, align=0.5)

    def ribbon(self, y: float, colours: dict[str, Colour]) -> None:
        """Fill every moment with the colour of its label, and name it where there is room."""
        spans: list[tuple[str, float, float]] = []
        for moment in self._moments:
            label = moment.main.label if moment.main else None
            if label is None:
                continue
            if spans and spans[-1][0] == label and moment.start_s - spans[-1][2] < 1e-6:
                spans[-1] = (label, spans[-1][1], moment.end_s)
            else:
                spans.append((label, moment.start_s, moment.end_s))
        for label, start_s, end_s in spans:
            left, right, colour = self.x(start_s), self.x(end_s), colours[label]
            fill(self._image, left, y, right - 1, y + RIBBON, colour)
            if right - left > text_width(label, TEXT, bold=True) + 12:
                middle = (left + right) / 2, y + RIBBON / 2
                put_text(self._image, label, middle, TEXT, ink_on(colour), bold=True, align=0.5)

    def mean(self, value: Value) -> float | None:
        """Average a value over the time that it is known for."""
        known_s = total = 0.0
        for moment in self._moments:
            height = value(moment.main) if moment.main else None
            if height is not None:
                known_s += moment.end_s - moment.start_s
                total += height * (moment.end_s - moment.start_s)
        return total / known_s if known_s else None

    def area(self, top: float, height: float, colour: Colour, value: Value) -> None:
        """Draw a value from 0 to 1 of the main face's readings as an area over time."""
        base = top + height
        fill(self._image, LEFT, base, RIGHT, base + 1, HAIRLINE)
        for run in _runs(self._moments, value):
            line = [(self.x(t), base - height * min(1.0, v)) for t, v in run]
            shape = [(line[0][0], base), *line, (line[-1][0], base)]
            light = mix(colour, WHITE, 0.4)
            cv2.fillPoly(self._image, [_fixed(shape)], light, cv2.LINE_AA, FRACTION)
            cv2.polylines(self._image, [_fixed(line)], False, colour, 1, cv2.LINE_AA, FRACTION)


def _runs(spoken: Sequence[WindowSpan], value: Value) -> list[list[tuple[float, float]]]:
    """Points (time, value) at the middle of each window, in stretches without a gap."""
    runs: list[list[tuple[float, float]]] = []
    end_s: float | None = None  # of the stretch so far
    for moment in spoken:
        reading = moment.main
        height = value(reading) if reading else None
        if reading is None or height is None:
            end_s = None
            continue
        middle_s = (reading.start_s + reading.end_s) / 2
        middle_s = min(max(middle_s, moment.start_s), moment.end_s)
        if end_s is not None and moment.start_s - end_s < 1e-6:
            runs[-1].pop()  # the line goes on to this window's middle
        else:
            runs.append([(moment.start_s, height)])
        runs[-1] += [(middle_s, height), (moment.end_s, height)]
        end_s = moment.end_s
    return runs


def _score(label: str) -> Value:
    return lambda reading: None if reading.scores is None else reading.scores[label]


def _fixed(points: Sequence[tuple[float, float]]) -> np.ndarray:
    return np.round(np.array(points) * 2**FRACTION).astype(np.int32)


def _clock(time_s: float, step_s: float, duration_s: float) -> str:
    if duration_s >= 120:
        return f"{int(time_s) // 60}:{int(time_s) % 60:02}"
    return f"{time_s:.1f} s" if step_s < 1 else f"{time_s:.0f} s"
