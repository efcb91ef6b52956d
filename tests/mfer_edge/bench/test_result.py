"""JSON of a benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfer_edge.bench.result import (
    BenchResult,
    read_result,
    result_dict,
)
from mfer_edge.errors import MferError
from tests.support.bench_results import BENCH


def written(bench: BenchResult, folder: Path, **changed: object) -> Path:
    path = folder / "bench.json"
    path.write_text(json.dumps(result_dict(bench) | changed))
    return path


class TestJson:
    def test_round_trip(self, tmp_path: Path) -> None:
        assert read_result(written(BENCH, tmp_path)) == BENCH

    def test_holds_percentiles_and_runs(self) -> None:
        made = result_dict(BENCH)["times"]["clip.decode"]
        assert (made["p50_s"], made["mean_s"]) == (0.2, pytest.approx(0.2))
        assert list(made["runs_s"]) == [0.1, 0.2, 0.3]

    def test_another_schema_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MferError, match=r"bench.json: schema 2, but .* reads schema 1"):
            read_result(written(BENCH, tmp_path, schema=2))

    @pytest.mark.parametrize("text", ["no JSON", "[]", '{"schema": 1}', '"bench"', "[" * 100_000])
    def test_other_files_are_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(MferError, match=r"other.json: not a result of mfer-edge bench"):
            read_result(tmp_path / "other.json")

    def test_a_wrong_type_names_the_field(self, tmp_path: Path) -> None:
        with pytest.raises(MferError, match='threads is "six", not a whole number'):
            read_result(written(BENCH, tmp_path, threads="six"))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MferError, match=r"none.json: No such file"):
            read_result(tmp_path / "none.json")
