"""Timeline image: scores of a whole clip over time, and their means."""

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
from mfer_edge.outputs.files import IMAGE_SUFFIXES, replacing
from mfer_edge.outputs.people import Person, by_presence, people
from mfer_edge.results import (
    MODALITY_NAMES,
    Analysis,
    Reading,
    Scores,
    mean_scores,
    top_label,
    voices,
)
from mfer_edge.segments import WindowSpan, window_spans

# Pixels.
WIDTH, MARGIN = 1600, 56
NAME_WIDTH = 160  # column of row names
COLUMN_WIDTH, GAP = 150, 36  # each of the three columns at the right, and the space before each
LEFT, RIGHT = MARGIN + NAME_WIDTH, WIDTH - MARGIN - 3 * (COLUMN_WIDTH + GAP)  # of the plot
TITLE_Y, SUBTITLE_Y, HEADING_Y, RIBBON_Y, ROWS_Y = 66, 102, 172, 194, 248
RIBBON_HEIGHT = 30
ROW_HEIGHT, ROW_PITCH = 40, 56  # a score of 1 fills the height of its row
STRIP_HEIGHT, STRIP_PITCH = 20, 36
FACE_HEIGHT, FACE_PITCH, MAX_FACES = 22, 30, 24
TITLE, TEXT, SMALL = 18, 11, 10  # heights of capital letters

TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
MIN_TICK_DISTANCE = 64
SUBPIXEL_BITS = 4  # of coordinates of areas
NO_READING: Colour = (246, 243, 241)
SLATE: Colour = (148, 126, 108)

Value = Callable[[WindowSpan], float | None]
Choice = Callable[[WindowSpan], Reading | None]
STRIPS: dict[str, Value] = {
    "face in view": lambda span: span.seen,
    "speech": lambda span: span.speech,
}


def write_timeline(analysis: Analysis, out: Path | str) -> None:
    """Write the timeline of a clip as PNG or JPEG.

    Raises:
        OutputError: `out` is neither .png nor .jpg, or can't be written.
    """
    out = Path(out)
    with replacing(out, IMAGE_SUFFIXES) as temporary:
        encoded, data = cv2.imencode(out.suffix.lower(), draw_timeline(analysis))
        if not encoded:
            raise OutputError(f"{out}: OpenCV could not encode the image")
        temporary.write_bytes(data.tobytes())


def draw_timeline(analysis: Analysis) -> np.ndarray:
    """Draw the timeline: (height, 1600, 3) uint8 BGR.

    Every label has a row: its score over time, then its mean fused score, its mean score from the
    face alone and from the voice alone. Where there are several faces, so has each of them: its
    likeliest label over time, and its mean.
    """
    colours = label_colours(analysis.labels)
    rows = {label: ROWS_Y + index * ROW_PITCH for index, label in enumerate(colours)}
    strips_y = ROWS_Y + len(rows) * ROW_PITCH + 8
    faces_y = strips_y + len(STRIPS) * STRIP_PITCH + 8
    everyone = people(analysis.windows, analysis.tracks)
    faces = by_presence(everyone, MAX_FACES) if len(everyone) > 1 else []
    axis_y = faces_y - 12 + len(faces) * FACE_PITCH
    notes_y = axis_y + 64
    image = np.full((notes_y + 26 * len(analysis.warnings) + 16, WIDTH, 3), WHITE, np.uint8)
    _header(image, analysis, colours)

    plot = _Plot(image, analysis)
    plot.gaps(RIBBON_Y, strips_y - 16)
    plot.axis(ROWS_Y - 12, axis_y)
    put_text(image, "main face over time, each row from 0 to 100%", (LEFT, HEADING_Y), SMALL, MUTED)
    _name(image, "likeliest", RIBBON_Y + RIBBON_HEIGHT / 2)
    plot.ribbon(RIBBON_Y, RIBBON_HEIGHT, colours, lambda span: span.main)
    for label, y in rows.items():
        _name(image, label, y + ROW_HEIGHT / 2, colours[label])
        plot.area(y, ROW_HEIGHT, colours[label], _score(label))
    for index, (name, value) in enumerate(STRIPS.items()):
        y = strips_y + index * STRIP_PITCH
        _name(image, name, y + STRIP_HEIGHT / 2)
        plot.area(y, STRIP_HEIGHT, SLATE, value)
        if (share := plot.mean(value)) is not None:
            at = RIGHT + GAP, y + STRIP_HEIGHT / 2
            put_text(image, f"{share:.0%} of the time", at, TEXT, MUTED)

    for index, person in enumerate(faces):
        _face(plot, person, faces_y + index * FACE_PITCH, colours)
    if hidden := len(everyone) - len(faces) if faces else 0:
        put_text(image, f"and {hidden} more", (RIGHT + GAP, axis_y + 16), SMALL, MUTED)
    _columns(image, analysis, rows, colours)
    for index, warning in enumerate(analysis.warnings):
        text = shorten(f"! {warning}", WIDTH - 2 * MARGIN, TEXT)
        put_text(image, text, (MARGIN, notes_y + 26 * index), TEXT, RED)
    return image


def _header(image: np.ndarray, analysis: Analysis, colours: dict[str, Colour]) -> None:
    right, overall = WIDTH - MARGIN, analysis.overall
    label = overall.label if overall else "no reading"
    heading = f"{label}  {overall.scores[label]:.0%}" if overall else label
    basis = "neither face nor speech in this clip"
    if overall:
        basis = (
            f"over the whole clip, from {' + '.join(MODALITY_NAMES[m] for m in overall.modalities)}"
        )
    colour = mix(colours[label], INK, 0.8) if overall else MUTED
    put_text(image, heading, (right, TITLE_Y), TITLE, colour, bold=True, align=1)
    put_text(image, basis, (right, SUBTITLE_Y), TEXT, MUTED, align=1)

    space = right - MARGIN - text_width(heading, TITLE, bold=True) - 2 * GAP
    title = shorten(Path(analysis.source).name, space, TITLE, bold=True)
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
    text = shorten(name, NAME_WIDTH - 24 - 12, TEXT)
    put_text(image, text, (MARGIN + 24, y), TEXT, INK if colour else MUTED)


def _face(plot: _Plot, person: Person, y: float, colours: dict[str, Colour]) -> None:
    """Draw one person: the likeliest label over time, and on average."""
    middle = y + FACE_HEIGHT / 2
    _name(plot.image, person.name, middle)
    fill(plot.image, LEFT, y + FACE_HEIGHT, RIGHT, y + FACE_HEIGHT + 1, HAIRLINE)
    track = person.track
    plot.ribbon(
        y,
        FACE_HEIGHT,
        colours,
        lambda span: next((r for r in span.readings if r.track == track), None),
    )
    scores = mean_scores([reading.scores for reading in person.readings])
    best = None if scores is None else top_label(scores)
    text = shorten(best or "no reading", COLUMN_WIDTH, TEXT)
    put_text(plot.image, text, (RIGHT + GAP, middle), TEXT, MUTED)
    if scores is not None and best is not None:
        x = RIGHT + GAP + COLUMN_WIDTH + GAP
        put_text(plot.image, f"{scores[best]:.0%} on average", (x, middle), TEXT, MUTED)


def _columns(
    image: np.ndarray, analysis: Analysis, rows: dict[str, int], colours: dict[str, Colour]
) -> None:
    """Draw the mean scores: fused, of the face alone, of the voice alone."""
    main = [reading for reading in analysis.windows if reading.main]
    fused = analysis.overall.scores if analysis.overall else None
    columns = (
        ("fused", "no reading", fused),
        ("face alone", "no face", mean_scores([reading.visual for reading in main])),
        (
            "voice alone",
            "no speech",
            mean_scores([reading.audio for reading in voices(analysis.windows)]),
        ),
    )
    for index, (heading, missing, scores) in enumerate(columns):
        x = RIGHT + GAP + index * (COLUMN_WIDTH + GAP)
        put_text(image, heading, (x, HEADING_Y), SMALL, MUTED)
        _column(image, x, scores, missing, rows, colours)


def _column(
    image: np.ndarray,
    x: int,
    scores: Scores | None,
    missing: str,
    rows: dict[str, int],
    colours: dict[str, Colour],
) -> None:
    """Draw scores as bars, each in its label's row, below the name of the top label."""
    heading_at = x, RIBBON_Y + RIBBON_HEIGHT / 2
    if scores is None:
        put_text(image, missing, heading_at, TEXT, MUTED)
        return
    best = top_label(scores)
    put_text(image, shorten(best, COLUMN_WIDTH, TEXT, bold=True), heading_at, TEXT, INK, bold=True)
    bar = COLUMN_WIDTH - text_width("100%", TEXT, bold=True) - 10
    for label, top in rows.items():
        y, is_best = top + ROW_HEIGHT / 2, label == best
        fill(image, x, y - 6, x + bar, y + 6, HAIRLINE)
        fill(image, x, y - 6, x + bar * scores[label], y + 6, colours[label])
        ink = INK if is_best else MUTED
        put_text(image, f"{scores[label]:.0%}", (x + COLUMN_WIDTH, y), TEXT, ink, is_best, align=1)


class _Plot:
    """The part of the image whose x axis is time."""

    def __init__(self, image: np.ndarray, analysis: Analysis) -> None:
        self.image = image
        self._duration_s = analysis.duration_s or 1.0
        self._spans = window_spans(analysis.windows, analysis.duration_s)

    def x(self, time_s: float) -> float:
        return LEFT + (RIGHT - LEFT) * time_s / self._duration_s

    def gaps(self, top: float, bottom: float) -> None:
        """Mark the times without a reading."""
        runs = _runs(
            self._spans, lambda span: None if span.main is None or span.main.scores is None else 1.0
        )
        edges = [0.0, *(run[i][0] for run in runs for i in (0, -1)), self._duration_s]
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            left, right = self.x(start), self.x(end)
            if right - left < 1:
                continue
            fill(self.image, left, top, right, bottom, NO_READING)
            if right - left > text_width("no reading", SMALL) + 12:
                middle = (left + right) / 2, top + RIBBON_HEIGHT / 2
                put_text(self.image, "no reading", middle, SMALL, MUTED, align=0.5)

    def axis(self, top: float, y: float) -> None:
        """Draw the time axis, with a grid line at every tick."""
        per_s = (RIGHT - LEFT) / self._duration_s
        step = next((s for s in TICKS_S if s * per_s >= MIN_TICK_DISTANCE), self._duration_s)
        for index in range(int(self._duration_s / step + 1e-6) + 1):
            x = self.x(index * step)
            fill(self.image, x, top, x + 1, y, HAIRLINE)
            text = _clock(index * step, step, self._duration_s)
            put_text(self.image, text, (x, y + 16), SMALL, MUTED, align=0.5)

    def ribbon(self, y: float, height: float, colours: dict[str, Colour], of: Choice) -> None:
        """Draw the top label of one face over time, with its name where there is space."""
        runs: list[tuple[str, float, float]] = []
        for span in self._spans:
            reading = of(span)
            label = reading.label if reading else None
            if label is None:
                continue
            if runs and runs[-1][0] == label and span.start_s - runs[-1][2] < 1e-6:
                runs[-1] = (label, runs[-1][1], span.end_s)
            else:
                runs.append((label, span.start_s, span.end_s))
        for label, start_s, end_s in runs:
            left, right, colour = self.x(start_s), self.x(end_s), colours[label]
            fill(self.image, left, y, max(left + 1, right - 1), y + height, colour)
            if right - left > text_width(label, TEXT, bold=True) + 12:
                middle = (left + right) / 2, y + height / 2
                put_text(self.image, label, middle, TEXT, ink_on(colour), bold=True, align=0.5)

    def mean(self, value: Value) -> float | None:
        """Average a value over the time for which it is known."""
        known_s = total = 0.0
        for span in self._spans:
            height = value(span)
            if height is not None:
                known_s += span.end_s - span.start_s
                total += height * (span.end_s - span.start_s)
        return total / known_s if known_s else None

    def area(self, top: float, height: float, colour: Colour, value: Value) -> None:
        """Draw a value of each window, 0 to 1, as an area over time."""
        base = top + height
        fill(self.image, LEFT, base, RIGHT, base + 1, HAIRLINE)
        for run in _runs(self._spans, value):
            line = [(self.x(t), base - height * min(1.0, v)) for t, v in run]
            shape = [(line[0][0], base), *line, (line[-1][0], base)]
            light = mix(colour, WHITE, 0.4)
            cv2.fillPoly(self.image, [_fixed(shape)], light, cv2.LINE_AA, SUBPIXEL_BITS)
            cv2.polylines(self.image, [_fixed(line)], False, colour, 1, cv2.LINE_AA, SUBPIXEL_BITS)


def _runs(spans: Sequence[WindowSpan], value: Value) -> list[list[tuple[float, float]]]:
    """Points (time, value) at the middle of each window, split where there is no value."""
    runs: list[list[tuple[float, float]]] = []
    end_s: float | None = None  # of the latest run
    for span in spans:
        reading = span.main
        height = value(span)
        if reading is None or height is None:
            end_s = None
            continue
        middle_s = (reading.start_s + reading.end_s) / 2
        middle_s = min(max(middle_s, span.start_s), span.end_s)
        if end_s is not None and span.start_s - end_s < 1e-6:
            runs[-1].pop()  # replaced by the line to the middle of this window
        else:
            runs.append([(span.start_s, height)])
        runs[-1] += [(middle_s, height), (span.end_s, height)]
        end_s = span.end_s
    return runs


def _score(label: str) -> Value:
    def value(span: WindowSpan) -> float | None:
        return None if span.main is None or span.main.scores is None else span.main.scores[label]

    return value


def _fixed(points: Sequence[tuple[float, float]]) -> np.ndarray:
    return np.round(np.array(points) * 2**SUBPIXEL_BITS).astype(np.int32)


def _clock(time_s: float, step_s: float, duration_s: float) -> str:
    if duration_s >= 120:
        return f"{int(time_s) // 60}:{int(time_s) % 60:02}"
    return f"{time_s:.1f} s" if step_s < 1 else f"{time_s:.0f} s"
