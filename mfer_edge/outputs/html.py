"""HTML report: one file that shows an analysis along its clip, for a browser without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from unicodedata import category
from urllib.parse import quote

from mfer_edge.outputs.files import HTML_SUFFIXES, replacing
from mfer_edge.outputs.people import (
    NOBODY,
    Person,
    basis,
    by_presence,
    people,
    thinned,
    uncertainty,
)
from mfer_edge.outputs.thumbnails import Thumbnail, thumbnails
from mfer_edge.outputs.webvtt import vtt_text
from mfer_edge.results import (
    MODALITY_NAMES,
    Analysis,
    Reading,
    Scores,
    mean_scores,
    top_label,
    voices,
)
from mfer_edge.segments import segments, speech_share, window_spans
from mfer_edge.sources.base import TrackChoice
from mfer_edge.sources.url import is_url, shown_source

MAX_READINGS = 4000  # in the file: of more, readings that follow each other are averaged
MAX_ROWS = 1000  # of the table of readings
MAX_PEOPLE = 24  # with charts
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def write_html(
    analysis: Analysis,
    out: Path | str,
    *,
    clip: Path | str | None = None,
    tracks: TrackChoice | None = None,
    linked: bool = True,
) -> None:
    """Write the report of an analysis: one HTML file of at most about 1 MB, pictures included.

    Args:
        clip: its file, for the pictures; it is read again, so a URL gives none.
        tracks: as for the analysis.
        linked: whether the report plays the clip, by its path from the report's folder.

    Raises:
        MediaError: the clip can't be read.
        OutputError: `out` is no .html, or can't be written.
    """
    out = Path(out)
    is_file = clip is not None and not is_url(clip)
    with replacing(out, HTML_SUFFIXES) as temporary:
        pictures = thumbnails(clip, analysis.duration_s, tracks) if clip and is_file else ()
        link = _link(Path(clip), out) if clip and is_file and linked else None
        text = html_text(analysis, pictures, link)
        temporary.write_text(text, encoding="utf-8", newline="\n")


def html_text(
    analysis: Analysis, pictures: Sequence[Thumbnail] = (), link: str | None = None
) -> str:
    """The report as text.

    Args:
        link: URL of the clip, relative to the report; None where it can't be played.
    """
    readings, joined = thinned(analysis.windows, MAX_READINGS)
    shown = replace(analysis, windows=readings)
    everyone = people(readings, analysis.tracks)
    drawn = by_presence(everyone, MAX_PEOPLE)
    style, script = _part("report.css"), _part("report.js")
    overall = analysis.overall
    return Template(_part("report.html")).substitute(
        policy=_policy(style, script),
        style=style,
        script=script,
        title=_text(Path(shown_source(analysis.source)).name or "clip"),
        verdict=_text(f"{overall.label} {overall.scores[overall.label]:.0%}" if overall else ""),
        basis=_text(_overall_basis(analysis)),
        facts=_text(", ".join(_facts(analysis))),
        warnings="".join(f"<li>{_text(note)}</li>" for note in analysis.warnings),
        bounds=_text(_bounds(joined, len(everyone) - len(drawn))),
        player=_player(shown, link),
        no_player="" if link else _text("This report has no link to the clip."),
        means=_means(shown, drawn),
        rows=_rows(shown, everyone),
        data=_json(_data(shown, drawn, pictures)),
    )


def _part(name: str) -> str:
    return (files("mfer_edge.outputs") / "report" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content security policy: only this style and this script, nothing from a network."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "img-src data:; media-src 'self' file: blob: data:; base-uri 'none'; form-action 'none'"
    )


def _link(clip: Path, out: Path) -> str | None:
    """Relative URL of a clip from the folder of a file; None on another drive."""
    try:
        path = os.path.relpath(os.path.realpath(clip), os.path.realpath(out.parent))
    except ValueError:
        return None
    return quote(os.fsencode(path.replace(os.sep, "/")), safe="/")


def _text(text: str) -> str:
    """Escape a text for an element or a quoted attribute; what is no character becomes one."""
    clean = text.encode("utf-8", "replace").decode()
    return escape("".join("\ufffd" if c in BIDI or category(c) == "Cc" else c for c in clean))


def _json(data: object) -> str:
    """JSON for a script element, which no text in it can end."""
    text = json.dumps(data, separators=(",", ":"))  # ASCII only
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _overall_basis(analysis: Analysis) -> str:
    if analysis.overall is None:
        return "No reading: neither a face nor speech in this clip."
    names = " and ".join(MODALITY_NAMES[name] for name in analysis.overall.modalities)
    return f"over the whole clip, from {names}"


def _facts(analysis: Analysis) -> list[str]:
    bundle = analysis.bundle
    windows = len({(r.start_s, r.end_s) for r in analysis.windows})
    faces = len(analysis.tracks)
    return [
        clock(analysis.duration_s),
        f"{windows} window{'s' * (windows != 1)}",
        f"{faces} face{'s' * (faces != 1)}",
        f"{bundle.name} {bundle.precision} on {analysis.device}",
    ]


def _bounds(joined: int, hidden: int) -> str:
    """What the report leaves out to stay small, in words."""
    notes = []
    if joined > 1:
        notes.append(f"Each point is the mean of {joined} windows.")
    if hidden:
        notes.append(
            f"{hidden} more faces, seen for less time, are in the table of readings alone."
        )
    return " ".join([*notes, "JSON and CSV hold everything."] if notes else [])


def _player(analysis: Analysis, link: str | None) -> str:
    captions = base64.b64encode(vtt_text(analysis).encode("utf-8", "replace")).decode()
    source = "" if link is None else f'src="{_text(link)}" '
    return (
        f'<video id="video" {source}controls preload="metadata" playsinline aria-label="The clip">'
        '<track id="captions" kind="captions" label="Emotions" srclang="en" '
        f'src="data:text/vtt;base64,{captions}" default></video>'
    )


def _means(analysis: Analysis, everyone: Sequence[Person]) -> str:
    """Head and rows of the table of mean scores: a column for the clip, each arm, each person."""
    main = [reading for reading in analysis.windows if reading.main]
    named: list[tuple[str, Scores | None]] = [
        ("whole clip", analysis.overall.scores if analysis.overall else None),
        ("face alone", mean_scores([reading.visual for reading in main])),
        ("voice alone", mean_scores([reading.audio for reading in voices(analysis.windows)])),
    ]
    if len(everyone) > 1:
        named += [(one.name, mean_scores([r.scores for r in one.readings])) for one in everyone]
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name, _ in named)
    rows = [f'<thead><tr><th scope="col">label</th>{head}</tr></thead><tbody>']
    for label in analysis.labels:
        cells = "".join(_mean_cell(label, scores) for _, scores in named)
        rows.append(f'<tr><th scope="row">{_text(label)}</th>{cells}</tr>')
    return "".join([*rows, "</tbody>"])


def _mean_cell(label: str, scores: Scores | None) -> str:
    if scores is None:
        return "<td>none</td>"
    best = ' class="best"' if label == top_label(scores) else ""
    return f"<td{best}>{scores[label]:.0%}</td>"


def _rows(analysis: Analysis, everyone: Sequence[Person]) -> str:
    """Rows of the table of readings: a run of one label each."""
    names = {person.track: person.name for person in everyone}
    runs = segments(analysis.windows, analysis.duration_s)
    of_track: dict[int | None, list[tuple[float, Reading]]] = {}
    for span in window_spans(analysis.windows, analysis.duration_s):
        for reading in span.readings:
            of_track.setdefault(reading.track, []).append((span.start_s, reading))
    rows = []
    for run in runs[:MAX_ROWS]:
        own = of_track[run.track]
        inside = []
        while own and own[0][0] < run.end_s - 1e-9:
            inside.append(own.pop(0)[1])
        doubt = [value for reading in inside if (value := uncertainty(reading.scores)) is not None]
        cells = (
            f'<button type="button" data-s="{run.start_s:.2f}">{clock(run.start_s)}</button>',
            clock(run.end_s),
            _text(names.get(run.track, NOBODY)),
            _text(run.label or "no reading"),
            "" if run.score is None else f"{run.score:.0%}",
            f"{sum(doubt) / len(doubt):.0%}" if doubt else "",
            f"{sum(map(speech_share, inside)) / max(1, len(inside)):.0%}",
            " and ".join(sorted({MODALITY_NAMES[m] for r in inside for m in r.modalities})),
        )
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
    if len(runs) > MAX_ROWS:
        rows.append(f'<tr><td colspan="8">and {len(runs) - MAX_ROWS} more: see the CSV</td></tr>\n')
    return "".join(rows)


def _data(
    analysis: Analysis, everyone: Sequence[Person], pictures: Sequence[Thumbnail]
) -> dict[str, object]:
    """What the script draws: times in hundredths of a second, shares in thousandths."""
    labels, spans = analysis.labels, window_spans(analysis.windows, analysis.duration_s)
    points: dict[int | None, list[list[int]]] = {person.track: [] for person in everyone}
    for number, span in enumerate(spans):
        for reading in span.readings:
            scores = reading.scores
            if reading.track not in points:
                continue
            points[reading.track].append([
                number,
                round(1000 * reading.faces / reading.frames) if reading.frames else 0,
                basis(reading),
                *(round(1000 * scores[label]) for label in labels if scores is not None),
            ])  # fmt: skip
    return {
        "duration": round(analysis.duration_s, 3),
        "labels": labels,
        "spans": [
            [round(100 * s.start_s), round(100 * s.end_s), round(1000 * s.speech)] for s in spans
        ],
        "people": [
            {
                "name": person.name,
                "from": round(100 * person.start_s),
                "to": round(100 * person.end_s),
                "points": points[person.track],
            }
            for person in everyone
        ],
        "pictures": [
            [round(100 * one.time_s), base64.b64encode(one.jpeg).decode()] for one in pictures
        ],
    }


def clock(time_s: float) -> str:
    """A time as 1:02:03 or 2:03.4, for people."""
    tenths = round(time_s * 10)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600
    if hours:
        return f"{hours}:{minutes:02}:{rest // 10:02}"
    return f"{minutes}:{rest // 10:02}.{rest % 10}"
