"""Tables of a batch: windows, clips and failures; their columns and rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mfer_edge import __version__
from mfer_edge.batch.inputs import BatchInput, column_names
from mfer_edge.batch.lists import Value
from mfer_edge.batch.records import ClipRecord, Failure
from mfer_edge.outputs.json import round_s, round_scores
from mfer_edge.results import Analysis, Scores

Row = tuple[Value, ...]

ARMS = ("visual", "audio")
WARNINGS = " | "  # between two warnings
LISTED = "list_"  # before the name of a list's column that a table has itself


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: type  # of its values that are not None: str, int, float or bool


@dataclass(frozen=True)
class Table:
    """A table's columns. The first ones are its own, the last ones those of the lists."""

    name: str  # of the file, without suffix
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Finished:
    """A clip with what became of it."""

    clip: BatchInput
    record: ClipRecord | None  # None: it could not be read at all
    failure: Failure | None = None  # for a clip without a record
    copy_of: str | None = None  # name of an earlier clip with the same content


class TableSet:
    """The three tables for one model and one set of inputs."""

    def __init__(self, labels: Sequence[str], inputs: Iterable[BatchInput]) -> None:
        inputs = list(inputs)
        self._labels = tuple(labels)
        self._listed = column_names(inputs)
        self._kinds = {
            name: _kind(one.columns.get(name) for one in inputs) for name in self._listed
        }
        self.windows = self._table("windows", _WINDOW_START, self._scores(), _WINDOW_END)
        self.clips = self._table("clips", _CLIP_START, _floats(self._labels), _CLIP_END)
        self.failures = self._table("failures", _FAILURE)

    @property
    def tables(self) -> tuple[Table, Table, Table]:
        """All of them, in the order of `rows`."""
        return (self.windows, self.clips, self.failures)

    def rows(self, finished: Finished) -> tuple[list[Row], list[Row], list[Row]]:
        """Rows of one clip in each of the tables."""
        listed = self._listed_values(finished.clip)
        record = finished.record
        if record is not None and record.analysis is not None:
            windows = [
                (*self._window(finished.clip.name, record, record.analysis, index), *listed)
                for index in range(len(record.analysis.windows))
            ]
            clip = self._clip(finished, record, record.analysis)
            return windows, [(*clip, *listed)], []
        failure = finished.failure if record is None else record.failure
        assert failure is not None, "neither analysed nor failed"
        sha256 = None if record is None else record.sha256
        row = (finished.clip.name, sha256, failure.error, failure.reason, *listed)
        return [], [], [row]

    def _table(self, name: str, *parts: tuple[Column, ...]) -> Table:
        own = [column for part in parts for column in part]
        taken = {column.name for column in own} | set(self._listed)
        listed = []
        for column in self._listed:
            free = column
            while free in taken - {column} or free in {one.name for one in own}:
                free = LISTED + free
            listed.append(Column(free, self._kinds[column]))
        return Table(name, (*own, *listed))

    def _scores(self) -> tuple[Column, ...]:
        arms = (f"{arm}_{label}" for arm in ARMS for label in self._labels)
        return _floats((*self._labels, *arms))

    def _listed_values(self, clip: BatchInput) -> list[Value]:
        values = ((self._kinds[name], clip.columns.get(name)) for name in self._listed)
        return [None if value is None else kind(value) for kind, value in values]

    def _window(self, name: str, record: ClipRecord, analysis: Analysis, index: int) -> Row:
        reading = analysis.windows[index]
        return (
            name, record.sha256, index, round_s(reading.start_s), round_s(reading.end_s),
            reading.track, reading.main, reading.label, "+".join(reading.modalities),
            *self._values(reading.scores), *self._values(reading.visual),
            *self._values(reading.audio), reading.frames, reading.faces, reading.reused,
            round_s(reading.speech_s), *_versions(analysis),
        )  # fmt: skip

    def _clip(self, finished: Finished, record: ClipRecord, analysis: Analysis) -> Row:
        overall, adaptation = analysis.overall, analysis.adaptation
        return (
            finished.clip.name, record.sha256, record.size, finished.copy_of,
            round_s(analysis.duration_s), len(analysis.windows), len(analysis.tracks),
            None if overall is None else overall.label,
            None if overall is None else "+".join(overall.modalities),
            *self._values(None if overall is None else overall.scores),
            None if adaptation is None else adaptation.name, round_s(analysis.timing.wall_s),
            analysis.device, analysis.bundle.precision, *_versions(analysis),
        )  # fmt: skip

    def _values(self, scores: Scores | None) -> Iterator[float | None]:
        rounded: Mapping[str, float] = round_scores(scores) or {}
        return (rounded.get(label) for label in self._labels)


def _versions(analysis: Analysis) -> tuple[str, str, str, str]:
    bundle = analysis.bundle
    return WARNINGS.join(analysis.warnings), __version__, bundle.name, bundle.sha256


def _floats(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(Column(name, float) for name in names)


def _kind(values: Iterable[Value]) -> type:
    """The one type that all values have; text if they have several."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 else str


_VERSIONS = tuple(Column(n, str) for n in ("warnings", "version", "bundle", "bundle_sha256"))
_WINDOW_START = (
    Column("path", str),
    Column("sha256", str),
    Column("window", int),
    Column("start_s", float),
    Column("end_s", float),
    Column("track", int),
    Column("main", bool),
    Column("label", str),
    Column("modalities", str),
)
_WINDOW_END = (
    Column("frames", int),
    Column("faces", int),
    Column("reused", int),
    Column("speech_s", float),
    *_VERSIONS,
)
_CLIP_START = (
    Column("path", str),
    Column("sha256", str),
    Column("bytes", int),
    Column("copy_of", str),
    Column("duration_s", float),
    Column("windows", int),
    Column("tracks", int),
    Column("label", str),
    Column("modalities", str),
)
_CLIP_END = (
    Column("adaptation", str),
    Column("wall_s", float),
    Column("device", str),
    Column("precision", str),
    *_VERSIONS,
)
_FAILURE = (
    Column("path", str),
    Column("sha256", str),
    Column("error", str),
    Column("reason", str),
)
