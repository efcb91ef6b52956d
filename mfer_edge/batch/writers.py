"""Table files: CSV and Parquet, written atomically and a part at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from mfer_edge.batch.lists import import_pyarrow
from mfer_edge.batch.tables import Row, Table
from mfer_edge.outputs.files import replacing

ROWS_AT_ONCE = 5000  # of a Parquet file, held in memory

FORMATS = ("csv", "parquet")


class TableWriter(Protocol):
    """A table file that is being written."""

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows."""


def write_tables(
    folder: Path,
    formats: Sequence[str],
    tables: Sequence[Table],
    parts: Iterable[Sequence[Iterable[Row]]],
) -> list[Path]:
    """Write all tables in all formats; each file is complete, or as it was.

    Args:
        parts: rows of each of the tables, again and again.

    Returns:
        The paths of the files.

    Raises:
        OutputError: a file can't be written.
    """
    with ExitStack() as stack:
        writers = [
            [stack.enter_context(_WRITERS[name](folder, table)) for name in formats]
            for table in tables
        ]
        for part in parts:
            for rows, those in zip(part, writers, strict=True):
                for writer in those:
                    writer.write(rows)
    return [folder / f"{table.name}.{name}" for table in tables for name in formats]


class _CsvWriter:
    def __init__(self, file: Any, table: Table) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(column.name for column in table.columns)

    def write(self, rows: Iterable[Row]) -> None:
        self._writer.writerows(rows)


class _ParquetWriter:
    def __init__(self, path: Path, table: Table) -> None:
        self._pyarrow = import_pyarrow()
        types = {str: "string", int: "int64", float: "float64", bool: "bool"}
        self._schema = self._pyarrow.schema(
            [(one.name, self._pyarrow.type_for_alias(types[one.kind])) for one in table.columns]
        )
        self._file = self._pyarrow.parquet.ParquetWriter(path, self._schema)
        self._rows: list[Row] = []

    def write(self, rows: Iterable[Row]) -> None:
        self._rows += rows
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [
            self._pyarrow.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._file.write_table(self._pyarrow.table(arrays, schema=self._schema))
        self._rows = []


@contextmanager
def _csv(folder: Path, table: Table) -> Iterator[TableWriter]:
    with (
        replacing(folder / f"{table.name}.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        yield _CsvWriter(file, table)


@contextmanager
def _parquet(folder: Path, table: Table) -> Iterator[TableWriter]:
    with replacing(folder / f"{table.name}.parquet") as temporary:
        writer = _ParquetWriter(temporary, table)
        try:
            yield writer
        finally:
            writer.close()


_WRITERS = {"csv": _csv, "parquet": _parquet}
