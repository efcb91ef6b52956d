"""What the arguments of a batch stand for."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from mfer_edge.batch.inputs import BatchInput, column_names, read_inputs
from mfer_edge.errors import BatchError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.wav", "a.mp4", "deep/c.FLAC", "notes.txt", "list.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def read(*arguments: object, stdin: str = "", adaptation: Path | None = None) -> list[BatchInput]:
    return read_inputs([str(one) for one in arguments], io.StringIO(stdin), adaptation)


def names(inputs: list[BatchInput], folder: Path) -> list[str]:
    return [os.path.relpath(one.path, folder) for one in inputs]


class TestPaths:
    def test_a_folder_is_all_clips_below_it(self, folder: Path) -> None:
        assert names(read(folder), folder) == ["a.mp4", "b.wav", "deep/c.FLAC"]

    def test_a_pattern(self, folder: Path) -> None:
        assert names(read(folder / "**" / "*.[fF]*"), folder) == ["deep/c.FLAC"]
        assert names(read(folder / "*.w?v", folder / "a*"), folder) == ["b.wav", "a.mp4"]

    def test_a_file_with_the_name_of_a_pattern(self, folder: Path) -> None:
        (folder / "a[1].mp4").touch()
        assert names(read(folder / "a[1].mp4"), folder) == ["a[1].mp4"]

    def test_a_file_is_taken_once(self, folder: Path) -> None:
        os.symlink("b.wav", folder / "link.wav")
        inputs = read(folder / "b.wav", folder, folder / "*.wav", folder / "link.wav")
        assert names(inputs, folder) == ["b.wav", "a.mp4", "deep/c.FLAC"]

    def test_what_is_not_there_is_kept_to_be_told_of(self, folder: Path) -> None:
        (folder / "empty").mkdir()
        inputs = read(folder / "no.mp4", folder / "*.avi", folder / "empty")
        assert names(inputs, folder) == ["no.mp4", "*.avi", "empty"]

    def test_stdin(self, folder: Path) -> None:
        stdin = f"{folder}/b.wav\n\n{folder}/with space.mp4\r\n"
        assert names(read("-", stdin=stdin), folder) == ["b.wav", "with space.mp4"]


class TestLists:
    def test_columns_are_kept(self, folder: Path) -> None:
        (folder / "list.csv").write_text('speaker,path,note\nMia,a.mp4,"x, y"\nBen,b.wav,\n')
        inputs = read(folder / "list.csv")
        assert names(inputs, folder) == ["a.mp4", "b.wav"]  # beside the list
        assert [dict(one.columns) for one in inputs] == [
            {"speaker": "Mia", "note": "x, y"},
            {"speaker": "Ben", "note": ""},
        ]
        assert column_names(inputs) == ["speaker", "note"]

    def test_rows_with_one_path_are_all_kept(self, folder: Path) -> None:
        (folder / "list.csv").write_text("path,n\na.mp4,1\na.mp4,2\n")
        assert [one.columns["n"] for one in read(folder / "list.csv")] == ["1", "2"]

    def test_parquet_keeps_types(self, folder: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        table = {"path": ["a.mp4", "b.wav"], "age": [3, None], "ok": [True, False]}
        parquet.write_table(pyarrow.table(table), folder / "list.parquet")
        inputs = read(folder / "list.parquet")
        assert [dict(one.columns) for one in inputs] == [
            {"age": 3, "ok": True},
            {"age": None, "ok": False},
        ]

    def test_adaptations(self, folder: Path) -> None:
        (folder / "list.csv").write_text("path,adapt\na.mp4,room.npz\na.mp4,off\na.mp4,\n")
        default = Path("default.npz")
        inputs = read(folder / "list.csv", folder / "b.wav", adaptation=default)
        assert [one.adaptation for one in inputs] == [folder / "room.npz", None, default, default]
        assert column_names(inputs) == []

    @pytest.mark.parametrize(
        ("text", "fact"),
        [
            ("file,n\na.mp4,1\n", "no column path among file, n"),
            ("", "no column path among none"),
            ("path,n\na.mp4,1,2\n", "line 2: 3 columns, but 2 in the first line"),
            ("path,n\na.mp4,1\n,2\n", "line 3: no path"),
            ("path,n,n\n", "two columns n"),
            ("path,adapt\na.mp4,auto\n", "line 2: adapt auto: not offered"),
            ('path\n"a.mp4\n', "not a CSV table"),
            ("path\n\udcff\n", "its text is not UTF-8"),
            ("path;label\na.mp4;sad\n", "its columns are separated by ;"),
            ("path\tlabel\na.mp4\tsad\n", "its columns are separated by tabs"),
        ],
    )
    def test_a_bad_list(self, folder: Path, text: str, fact: str) -> None:
        (folder / "list.csv").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(BatchError, match=f"list.csv.*{fact}"):
            read(folder / "list.csv")

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_a_list_that_is_missing(self, folder: Path, suffix: str) -> None:
        if suffix == "parquet":
            pytest.importorskip("pyarrow")
        with pytest.raises(BatchError, match=f"nowhere.{suffix}: No such file"):
            read(folder / f"nowhere.{suffix}")

    def test_a_parquet_list_that_is_none(self, folder: Path) -> None:
        pytest.importorskip("pyarrow")
        (folder / "list.parquet").write_text("path\na.mp4\n")
        with pytest.raises(BatchError, match="not a Parquet table"):
            read(folder / "list.parquet")
