"""Runs of a batch: copies, failures, resuming by content, interruption; the tables they leave."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mfer_edge import __version__
from mfer_edge.adapt import Adaptation
from mfer_edge.batch.inputs import BatchInput
from mfer_edge.batch.journal import Journal
from mfer_edge.batch.records import ClipRecord, ClipTask, TaskMaker
from mfer_edge.batch.run import run_batch
from mfer_edge.errors import AdaptationError, CrashError
from mfer_edge.pipeline import Pipeline
from tests.mfer_edge.batch.conftest import Batch, Words


def table(batch: Batch, name: str) -> list[dict[str, str]]:
    with open(batch.folder / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def inputs(*paths: Path) -> list[BatchInput]:
    return [BatchInput(path) for path in paths]


class TestTables:
    def test_windows(self, batch: Batch, pipeline: Pipeline, moment: Path) -> None:
        run = batch.run(inputs(moment))
        [row] = table(batch, "windows")
        [reading] = pipeline.analyze(moment).to_dict()["windows"]
        assert (row["path"], row["window"], row["main"]) == (str(moment), "0", "True")
        assert (float(row["start_s"]), float(row["end_s"])) == (0, reading["end_s"])
        for label in pipeline.bundle.manifest.labels:
            assert float(row[label]) == reading["scores"][label]
            assert float(row[f"visual_{label}"]) == reading["visual"][label]
            assert float(row[f"audio_{label}"]) == reading["audio"][label]
        assert (row["label"], row["modalities"]) == (reading["label"], "visual+audio")
        assert (int(row["faces"]), float(row["speech_s"])) == (8, reading["speech_s"])
        assert (row["version"], row["bundle_sha256"]) == (__version__, pipeline.bundle.sha256)
        assert run.windows == 1

    def test_clips_and_failures(self, batch: Batch, words: Words, tmp_path: Path) -> None:
        (tmp_path / "bad.mp4").write_text("no clip")
        (tmp_path / "empty").mkdir()
        names = ("good.wav", "bad.mp4", "nowhere.mp4", "empty")
        words("good.wav", 1.0)
        batch.run(inputs(*(tmp_path / name for name in names)))
        [clip] = table(batch, "clips")
        assert (clip["path"], float(clip["duration_s"])) == (str(tmp_path / "good.wav"), 1.0)
        assert int(clip["bytes"]) == (tmp_path / "good.wav").stat().st_size
        failed = [(row["path"], row["error"], row["reason"]) for row in table(batch, "failures")]
        assert failed == [
            (str(tmp_path / "bad.mp4"), "MediaError", failed[0][2]),
            (str(tmp_path / "nowhere.mp4"), "MediaError", "No such file or directory"),
            (str(tmp_path / "empty"), "MediaError", "a folder without clips"),
        ]
        assert failed[0][2].startswith("not a video")
        assert batch.heard.failures == [f"{path}: {reason}" for path, _, reason in failed]
        assert batch.heard.counts[-1].failed == 3

    def test_columns_of_lists(self, batch: Batch, words: Words, tmp_path: Path) -> None:
        columns = [{"label": "sad", "age": 3}, {"age": 4.5, "list_label": "x"}, {"label": "y"}]
        paths = [words("a.wav", 0.4), words("b.wav", 0.5), tmp_path / "nowhere.wav"]
        given = [BatchInput(p, None, c) for p, c in zip(paths, columns, strict=True)]
        batch.run(given)
        rows = table(batch, "windows")
        assert [row["age"] for row in rows] == ["3.0", "4.5"]
        assert [row["list_list_label"] for row in rows] == ["sad", ""]  # a column `label` is there
        assert [row["list_label"] for row in rows] == ["", "x"]
        assert [row["label"] for row in table(batch, "failures")] == ["y"]  # and here it is not

    def test_parquet_has_the_same_rows_with_types(
        self, batch: Batch, words: Words, tmp_path: Path
    ) -> None:
        pytest.importorskip("pyarrow")
        from pyarrow import parquet

        (tmp_path / "bad.mp4").write_text("no clip")
        given = [
            BatchInput(words("a.wav"), None, {"age": 3}),
            BatchInput(tmp_path / "bad.mp4", None, {}),
        ]
        run = batch.run(given, ("csv", "parquet"))
        assert len(run.files) == 6
        for name, count in (("windows", 1), ("clips", 1), ("failures", 1)):
            made = parquet.read_table(batch.folder / f"{name}.parquet").to_pylist()
            assert len(made) == count
            as_text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in made]
            assert as_text == table(batch, name)
        [window] = parquet.read_table(batch.folder / "windows.parquet").to_pylist()
        assert window["age"] == 3 and window["main"] is True and window["track"] is None
        assert math.isclose(sum(window[label] for label in batch.pipeline.bundle.manifest.labels),
                            1, abs_tol=1e-5)  # fmt: skip

    def test_without_any_result_tables_have_their_columns(
        self, batch: Batch, tmp_path: Path
    ) -> None:
        pytest.importorskip("pyarrow")
        from pyarrow import parquet

        batch.run(inputs(tmp_path / "nowhere.wav"), ("csv", "parquet"))
        assert table(batch, "windows") == []
        made = parquet.read_table(batch.folder / "windows.parquet")
        assert made.num_rows == 0 and "visual_angry" in made.column_names

    def test_a_name_that_is_no_text(self, batch: Batch, words: Words, tmp_path: Path) -> None:
        strange = Path(str(tmp_path / "caf\udce9.wav"))
        words("a.wav").rename(strange)
        batch.run(inputs(strange))
        [row] = table(batch, "clips")
        assert row["path"].endswith("caf\ufffd.wav")


class TestCopies:
    def test_a_copy_is_not_analysed_again(self, batch: Batch, words: Words, tmp_path: Path) -> None:
        first = words("a.wav")
        copy = Path(shutil.copyfile(first, tmp_path / "copy.wav"))
        run = batch.run(inputs(first, words("b.wav", 0.6), copy))
        assert batch.analysed == ["a.wav", "b.wav"]
        rows = table(batch, "clips")
        assert [row["copy_of"] for row in rows] == ["", "", str(first)]
        assert rows[0]["happy"] == rows[2]["happy"]
        assert (run.counts.analysed, run.counts.copies, run.counts.settled) == (2, 1, 3)

    def test_a_copy_that_comes_while_the_first_is_analysed(
        self, batch: Batch, words: Words, tmp_path: Path
    ) -> None:
        first = words("a.wav")
        copy = Path(shutil.copyfile(first, tmp_path / "copy.wav"))

        def all_at_once(tasks: Iterator[ClipTask]) -> Generator[ClipRecord]:
            yield from batch.execute(iter(list(tasks)))

        batch.folder.mkdir()
        with Journal(batch.folder) as journal:
            run_batch(batch.plan(inputs(first, copy)), journal, all_at_once, batch.heard)
        assert batch.analysed == ["a.wav"]
        assert [row["path"] for row in table(batch, "windows")] == [str(first), str(copy)]

    def test_broken_copies_all_fail(self, batch: Batch, tmp_path: Path) -> None:
        for name in ("a.mp4", "b.mp4"):
            (tmp_path / name).write_text("no clip")
        run = batch.run(inputs(tmp_path / "a.mp4", tmp_path / "b.mp4"))
        assert batch.analysed == ["a.mp4"] and run.counts.failed == 2
        assert len(table(batch, "failures")) == 2


class TestResuming:
    def test_a_second_run_analyses_nothing(
        self, batch: Batch, words: Words, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.mp4").write_text("no clip")
        given = inputs(words("a.wav"), tmp_path / "bad.mp4")
        batch.run(given)
        before = {p.name: p.read_bytes() for p in batch.folder.iterdir()}
        run = batch.run(given)
        assert batch.analysed == ["a.wav", "bad.mp4"]
        assert (run.counts.known, run.counts.failed, run.counts.analysed) == (2, 1, 0)
        assert {p.name: p.read_bytes() for p in batch.folder.iterdir()} == before

    def test_a_moved_clip_is_known_a_changed_one_is_not(
        self, batch: Batch, words: Words, tmp_path: Path
    ) -> None:
        a, b = words("a.wav", 0.4), words("b.wav", 0.5)
        batch.run(inputs(a, b))
        a.rename(tmp_path / "moved.wav")
        words("b.wav", 0.6)
        batch.run(inputs(tmp_path / "moved.wav", b))
        assert batch.analysed == ["a.wav", "b.wav", "b.wav"]
        rows = table(batch, "clips")
        assert [row["path"] for row in rows] == [str(tmp_path / "moved.wav"), str(b)]
        assert float(rows[1]["duration_s"]) == 0.6

    def test_other_settings_are_another_result(
        self, batch: Batch, pipeline: Pipeline, words: Words
    ) -> None:
        given = inputs(words("a.wav", 1.0))
        batch.run(given)
        plan = batch.plan(given)
        short = TaskMaker(pipeline.bundle, pipeline.options(window_s=0.5, hop_s=0.5))
        with Journal(batch.folder) as journal:
            run_batch(replace(plan, tasks=short), journal, batch.execute, batch.heard)
            assert len(journal) == 2
        assert len(table(batch, "windows")) == 2

    def test_an_interrupted_run_keeps_what_is_done(self, batch: Batch, words: Words) -> None:
        given = inputs(*(words(f"{n}.wav", 0.4 + n / 10) for n in range(3)))

        def interrupted(tasks: Iterator[ClipTask]) -> Generator[ClipRecord]:
            yield from batch.execute(iter([next(tasks)]))
            raise KeyboardInterrupt

        batch.folder.mkdir()
        with Journal(batch.folder) as journal, pytest.raises(KeyboardInterrupt):
            run_batch(batch.plan(given), journal, interrupted, batch.heard)
        assert [row["path"] for row in table(batch, "clips")] == [given[0].name]
        batch.run(given)
        assert batch.analysed == ["0.wav", "1.wav", "2.wav"]
        assert [row["path"] for row in table(batch, "clips")] == [one.name for one in given]

    def test_a_clip_lost_with_its_worker_is_tried_again(self, batch: Batch, words: Words) -> None:
        given = inputs(words("a.wav"))

        def crash(tasks: Iterator[ClipTask]) -> Generator[ClipRecord]:
            for task in tasks:
                yield task.failed(CrashError(f"{task.job.path}: crashed (SIGSEGV)"))

        batch.folder.mkdir()
        with Journal(batch.folder) as journal:
            run_batch(batch.plan(given), journal, crash, batch.heard)
        [row] = table(batch, "failures")
        assert (row["error"], row["reason"]) == ("CrashError", "crashed (SIGSEGV)")
        run = batch.run(given)
        assert (run.counts.analysed, run.counts.failed) == (1, 0)
        assert table(batch, "failures") == [] and len(table(batch, "clips")) == 1


class TestTasks:
    def test_a_fifo_is_refused(self, pipeline: Pipeline, batch: Batch, tmp_path: Path) -> None:
        """Reading it would wait for ever."""
        import os

        os.mkfifo(tmp_path / "pipe.wav")
        batch.run(inputs(tmp_path / "pipe.wav"))
        assert batch.heard.failures == [f"{tmp_path}/pipe.wav: a device or a pipe, not a file"]

    def test_an_adaptation_of_another_model(
        self, pipeline: Pipeline, adaptable: Pipeline, moment: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "place.npz"
        adaptable.collect(moment).adaptation().save(file)
        with pytest.raises(AdaptationError, match="another model"):
            TaskMaker(pipeline.bundle, pipeline.options(), [file])
        maker = TaskMaker(adaptable.bundle, adaptable.options(), [file])
        plain, adapted = maker.task(moment, None), maker.task(moment, file)
        assert plain.sha256 == adapted.sha256 and plain.key != adapted.key
        renamed = file.rename(tmp_path / "other.npz")
        again = TaskMaker(adaptable.bundle, adaptable.options(), [renamed]).task(moment, renamed)
        assert again.key == adapted.key  # by content
        voice = Adaptation.load(renamed).voice
        assert voice is not None and voice.windows == 1
