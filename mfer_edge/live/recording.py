"""Recordings of live readings: JSON lines that are whole at any moment, and analyses made of them.

A line is an object with a `type`: `start` (what runs), `reading`, `gap`, `notice`, and `end` (how
it ended). A file may hold several runs; a run that was killed has no `end`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from mfer_edge.errors import MediaError, OutputError
from mfer_edge.live.events import Event, Gap, LiveReading, LiveStats, Notice
from mfer_edge.options import SessionOptions
from mfer_edge.outputs.files import check_output, is_stream
from mfer_edge.outputs.json import reading_dict, round_s
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import (
    AdaptationInfo,
    Analysis,
    BundleInfo,
    Reading,
    Timing,
    Track,
    overall,
)
from mfer_edge.segments import thin_basis

SCHEMA = 1
STDOUT = Path("-")
HEAD = b'{"type": "start", '  # of every recording


class RecordingWriter:
    """Writes a run as JSON lines, each as soon as it is known; a file is continued.

    Args:
        path: of the file; `-` is stdout.

    Raises:
        OutputError: the file can't be written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None  # opened with the first line
        if path != STDOUT and not is_stream(path):
            check_output(path)
            _check_continued(path)

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None and self._file is not sys.stdout:
            try:
                self._file.close()
            except OSError as error:
                raise self._failed(error) from error

    def start(self, source: str, pipeline: Pipeline, options: SessionOptions) -> None:
        """Write what runs, if that is not written yet."""
        if self._file is not None:
            return
        try:
            self._file = sys.stdout if self._path == STDOUT else _opened(self._path)
        except OSError as error:
            raise self._failed(error) from error
        manifest = pipeline.bundle.manifest
        adaptation = pipeline.model.adaptation_info
        self._write(
            {
                "type": "start",
                "schema": SCHEMA,
                "source": source,
                "started": datetime.now().astimezone().isoformat(timespec="milliseconds"),
                "bundle": {
                    "name": manifest.name,
                    "precision": manifest.precision,
                    "trained": manifest.trained,
                    "sha256": pipeline.bundle.sha256,
                    "labels": list(manifest.labels),
                },
                "adaptation": None if adaptation is None else asdict(adaptation),
                "device": pipeline.device,
                "providers": list(pipeline.providers),
                "threads": pipeline.threads,
                "load_s": round_s(pipeline.model.load_s),
                "options": asdict(options),
            }
        )

    def event(self, event: Event) -> None:
        """Write an event; a gap once it has ended."""
        if isinstance(event, LiveReading):
            latency = {"compute_s": round_s(event.compute_s), "lag_s": round_s(event.lag_s)}
            self._write({"type": "reading", **reading_dict(event.reading), **latency})
        elif isinstance(event, Gap):
            kind = "lost" if event.end_s is None else "gap"
            times = {"start_s": round_s(event.start_s)}
            if event.end_s is not None:
                times["end_s"] = round_s(event.end_s)
            self._write({"type": kind, **times, "reason": event.reason})
        elif isinstance(event, Notice):
            self._write({"type": "notice", "time_s": round_s(event.time_s), "text": event.text})

    def end(self, stats: LiveStats, tracks: Iterable[Track], warnings: Iterable[str]) -> None:
        """Write how the run ended, if it began."""
        if self._file is None:
            return
        self._write(
            {
                "type": "end",
                "duration_s": round_s(stats.duration_s),
                "stats": asdict(stats),
                "tracks": [
                    {**asdict(t), "start_s": round_s(t.start_s), "end_s": round_s(t.end_s)}
                    for t in tracks
                ],
                "warnings": list(warnings),
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: could not be written: {error.strerror or error}")


@dataclass
class _Run:
    """Lines of one run."""

    start: dict[str, Any]
    readings: list[Reading] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    end: dict[str, Any] | None = None


def read_recording(path: Path) -> list[Analysis]:
    """Make an analysis of each run in a recording.

    Raises:
        MediaError: the file is missing, or no recording.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise MediaError(f"{path}: not a recording of `mfer-edge live`") from error
    try:
        runs = _runs(text)
        if not runs:
            raise MediaError(f"{path}: not a recording of `mfer-edge live`: it holds no run")
        return [_analysis(run) for run in runs]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise MediaError(f"{path}: not a recording of `mfer-edge live` ({error})") from error


def _runs(text: str) -> list[_Run]:
    runs: list[_Run] = []
    for line in _whole_objects(text):
        kind = line.pop("type")
        if kind == "start":
            if line["schema"] != SCHEMA:
                raise ValueError(f"schema {line['schema']}; this version reads {SCHEMA}")
            runs.append(_Run(line))
        elif kind == "reading":
            runs[-1].readings.append(_reading(line))
        elif kind == "gap":
            gap = f"from {line['start_s']:.1f} to {line['end_s']:.1f} s"
            runs[-1].warnings.append(f"nothing {gap}: {line['reason']}")
        elif kind == "end":
            runs[-1].end = line
    return runs


def _whole_objects(text: str) -> Iterator[dict[str, Any]]:
    """Objects, a line each; a line that was cut off by a kill ends its run without a word."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            after = lines[number + 1] if number + 1 < len(lines) else ""
            if after and '"start"' not in after[:20]:
                raise ValueError(f"line {number + 1} is no JSON") from error


def _reading(line: dict[str, Any]) -> Reading:
    names = ("start_s", "end_s", "track", "main", "scores", "visual", "audio", "frames", "faces")
    more = {name: line[name] for name in ("speech_s", "reused", "speaker")}
    return Reading(**{name: line[name] for name in names}, **more)


def _analysis(run: _Run) -> Analysis:
    start, end = run.start, run.end
    bundle, adaptation = start["bundle"], start["adaptation"]
    tracks: list[dict[str, Any]] = [] if end is None else end["tracks"]
    warnings = list(run.warnings)
    if end is None:
        warnings.append("the run was not ended: its last seconds and the list of faces are missing")
    else:
        warnings += end["warnings"]
    latest_s = max((reading.end_s for reading in run.readings), default=0.0)
    duration_s = latest_s if end is None else end["duration_s"]
    readings = tuple(run.readings)
    warnings += thin_basis(readings, duration_s)
    return Analysis(
        source=start["source"],
        duration_s=duration_s,
        bundle=BundleInfo(
            bundle["name"],
            bundle["precision"],
            bundle["trained"],
            bundle["sha256"],
            tuple(bundle["labels"]),
        ),
        device=start["device"],
        providers=tuple(start["providers"]),
        overall=overall(readings),
        windows=readings,
        tracks=tuple(Track(**track) for track in tracks),
        timing=Timing(duration_s, start["load_s"], start["threads"]),
        warnings=tuple(warnings),
        adaptation=None if adaptation is None else AdaptationInfo(**adaptation),
    )


def _check_continued(path: Path) -> None:
    """Refuse to add lines to a file that is there and is no recording.

    Raises:
        OutputError: it is none, or can't be read.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(2 * len(HEAD))
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    first, _, second = start.partition(b"\n")  # a kill may have cut off the first line
    cut_off = HEAD.startswith(first) and HEAD.startswith(second[: len(HEAD)])
    if not (first.startswith(HEAD) or cut_off):
        raise OutputError(
            f"{path}: there is another file, no recording of `mfer-edge live`: choose another name"
        )


def _opened(path: Path) -> TextIO:
    """A file to continue; after a run that was killed within a line, on a new line."""
    if is_stream(path):
        return open(path, "w", encoding="utf-8")
    cut_off = False
    if path.exists() and path.stat().st_size:
        with open(path, "rb") as before:
            before.seek(-1, os.SEEK_END)
            cut_off = before.read() != b"\n"
    if cut_off:
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n")
    return open(path, "a", encoding="utf-8")
