"""Files that grow with every result."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfer_edge.errors import OutputError
from mfer_edge.outputs import files
from mfer_edge.outputs.files import append_text
from mfer_edge.outputs.results import GrowingText


@pytest.mark.parametrize("append", [True, False])
def test_an_older_file_stays_until_the_first_result(tmp_path: Path, append: bool) -> None:
    out = tmp_path / "out"
    out.write_text("old")
    text = GrowingText(out, append=append)
    assert out.read_text() == "old"
    for number in range(3):
        text.add(f"{number}\n")
        assert out.read_text() == "".join(f"{i}\n" for i in range(number + 1))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("append", [True, False])
def test_what_could_not_be_written_is_tried_again(tmp_path: Path, append: bool) -> None:
    out = tmp_path / "folder" / "out"
    text = GrowingText(out, append=append)
    with pytest.raises(OutputError, match="no folder"):
        text.add("1\n")
    out.parent.mkdir()
    text.add("2\n")
    assert out.read_text() == "1\n2\n"
    out.unlink()
    out.mkdir()
    with pytest.raises(OutputError):
        text.add("3\n")
    out.rmdir()
    text.add("4\n")
    assert out.read_text().endswith("3\n4\n")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_all_of_a_text_is_added_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A disk that fills up in the middle leaves no half line."""
    out = tmp_path / "out"
    out.write_text("first\n")
    really_open = open

    class Full:
        """A file that takes three bytes."""

        def __init__(self, *arguments: object, **options: object) -> None:
            self.file = really_open(*arguments, **options)  # type: ignore[call-overload]
            self.tell, self.truncate = self.file.tell, self.file.truncate
            self.room = 3

        def write(self, data: bytes) -> int:
            if not self.room:
                raise error
            self.room = 0
            return self.file.write(data[:3])

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

    monkeypatch.setattr(files, "open", Full, raising=False)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        append_text(out, "second\n")
    monkeypatch.undo()
    assert out.read_text() == "first\n"
    append_text(out, "second\n")
    assert out.read_text() == "first\nsecond\n"


def test_a_device_is_written_to_each_time() -> None:
    text = GrowingText(Path(os.devnull), append=False)
    text.add("1")
    text.add("2")
    text.close()
    assert not os.path.isfile(os.devnull)
