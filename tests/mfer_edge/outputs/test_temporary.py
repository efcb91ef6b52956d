"""Temporary files do not stay behind, whatever happens to their process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mfer_edge.outputs import temporary
from mfer_edge.outputs.files import replacing, write_text
from mfer_edge.outputs.temporary import PREFIX, exchange, temporary_file, temporary_folder

HOLDER = """
import sys
from pathlib import Path
from mfer_edge.outputs.temporary import temporary_file, temporary_folder
with temporary_file(Path(sys.argv[1]), ".json") as file:
    file.write_text("half of")
    with temporary_folder(Path(sys.argv[1])) as folder:
        (folder / "part").write_text("half of")
        print(flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that is writing a file and a folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def leftovers(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*"))


@pytest.mark.skipif(temporary.fcntl is None, reason="this system has no locks")
class TestLeftovers:
    def test_of_a_killed_process_are_deleted_by_the_next(
        self, tmp_path: Path, holder: subprocess.Popen[str]
    ) -> None:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert len(leftovers(tmp_path)) == 2
        write_text(tmp_path / "out.json", "all of it")
        assert sorted(tmp_path.iterdir()) == [tmp_path / "out.json"]

    def test_of_a_process_that_runs_are_left_alone(
        self, tmp_path: Path, holder: subprocess.Popen[str]
    ) -> None:
        before = leftovers(tmp_path)
        write_text(tmp_path / "out.json", "all of it")
        assert leftovers(tmp_path) == before and len(before) == 2
        holder.communicate("")
        assert sorted(tmp_path.iterdir()) == [tmp_path / "out.json"]

    def test_other_hidden_files_are_left_alone(self, tmp_path: Path) -> None:
        other, target = tmp_path / ".other", tmp_path / "elsewhere"
        other.touch()
        target.write_text("mine")
        (tmp_path / f"{PREFIX}link").symlink_to(target)
        write_text(tmp_path / "out.json", "all of it")
        assert other.exists() and target.read_text() == "mine"

    def test_nobody_waits_long_for_a_folder_that_is_locked(self, tmp_path: Path) -> None:
        lock = temporary._lock(tmp_path)
        assert lock is not None
        write_text(tmp_path / "out.json", "all of it")
        assert (tmp_path / "out.json").read_text() == "all of it"


def test_without_locks_writes_work_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "fcntl", None)
    write_text(tmp_path / "out.json", "all of it")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out.json"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    for made in (temporary_file(tmp_path, ".json"), temporary_folder(tmp_path)):
        with pytest.raises(KeyboardInterrupt), made:
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_many_writers_to_one_place(tmp_path: Path) -> None:
    """What is there at any moment is one writer's text, whole."""
    out, stop, seen = tmp_path / "out.txt", threading.Event(), set()
    texts = [str(number) * 100_000 for number in range(4)]
    write_text(out, texts[0])

    def write(text: str) -> None:
        while not stop.is_set():
            with replacing(out) as beside:
                beside.write_text(text)

    threads = [threading.Thread(target=write, args=[text]) for text in texts]
    for thread in threads:
        thread.start()
    for _ in range(300):
        seen.add(out.read_text())
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= set(texts)
    assert sorted(tmp_path.iterdir()) == [out]


def test_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).touch()
    if not exchange(one, other):
        pytest.skip("this system can't")
    assert (one / "other").exists() and (other / "one").exists()
    assert not exchange(one, tmp_path / "nothing")
