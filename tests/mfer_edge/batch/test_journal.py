"""The journal: what a crash leaves of it, and who may write it."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from mfer_edge.batch.journal import JOURNAL, Journal
from mfer_edge.batch.records import ClipRecord, Failure
from mfer_edge.errors import BatchError, OutputError
from mfer_edge.results import Analysis

FAILED = ClipRecord("k1", "s1", 5, None, Failure("MediaError", "the file is empty", False))


def test_what_was_written_is_read(tmp_path: Path, anger_analysis: Analysis) -> None:
    done = ClipRecord("k2", "s2", 7, replace(anger_analysis, detections=()), None)
    with Journal(tmp_path) as journal:
        journal.append(FAILED)
        journal.append(done)
        assert journal.get("k2") == done
    with Journal(tmp_path) as journal:
        assert len(journal) == 2
        assert (journal.get("k1"), journal.get("k2"), journal.get("k3")) == (FAILED, done, None)


def test_the_last_record_of_a_key_counts(tmp_path: Path) -> None:
    later = replace(FAILED, failure=Failure("HangError", "not done in 5 s", True))
    with Journal(tmp_path) as journal:
        journal.append(FAILED)
        journal.append(later)
    with Journal(tmp_path) as journal:
        assert len(journal) == 1 and journal.get("k1") == later


@pytest.mark.parametrize("length", [1, 20, -1])
def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path, length: int) -> None:
    with Journal(tmp_path) as journal:
        journal.append(FAILED)
        whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + whole.replace(b"k1", b"k2")[:length])
    with Journal(tmp_path) as journal:
        assert journal.get("k2") is None
        journal.append(replace(FAILED, key="k3"))
    keys = [json.loads(line)["key"] for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert keys == ["k1", "k3"]


def test_a_line_that_was_written_is_known_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: int) -> None:
        raise KeyboardInterrupt

    with Journal(tmp_path) as journal:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("mfer_edge.batch.journal.os.fsync", interrupted)
            journal.append(FAILED)
        assert journal.get("k1") is None
        journal.catch_up()
        assert journal.get("k1") == FAILED
        journal.append(replace(FAILED, key="k2"))
        assert (journal.get("k1"), len(journal)) == (FAILED, 2)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(FAILED.to_json() + '\n{"key"\n')
    with pytest.raises(BatchError, match=r"journal.jsonl, after \d+ bytes: a damaged line"):
        Journal(tmp_path)


def test_a_record_of_another_form_is_not_used(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text('{"key": "k1", "colour": "red"}\n')
    with Journal(tmp_path) as journal:
        assert journal.get("k1") is None


def test_one_batch_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(BatchError, match="another batch writes to this folder"):
        Journal(tmp_path)
    Journal(tmp_path).close()


def test_a_line_that_does_not_fit_on_the_disk(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(FAILED)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 20, limits[1]))
        try:
            with pytest.raises(OutputError, match=r"journal.jsonl: the disk is full"):
                journal.append(replace(FAILED, key="k2"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert journal.get("k2") is None
        journal.append(replace(FAILED, key="k3"))
    keys = [json.loads(line)["key"] for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert keys == ["k1", "k3"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        Journal(tmp_path / "nowhere")
