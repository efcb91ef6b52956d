"""What the world does to a run: full disks, kills, clocks, forks, other processes in one place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest

from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis
from tests.support.commands import infer, one_error, python, refused
from tests.support.paths import ROOT

LIMITED = """
import resource, sys
from mfer_edge.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
main(sys.argv[2:])
"""
PRIVATE = """
import os, sys
contacts = []
def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        contacts.append(event)
sys.addaudithook(watch)
from mfer_edge.cli.main import main
main(sys.argv[1:], standalone_mode=False)
sys.exit(f"network: {contacts}" if contacts else 0)
"""
TELEMETRY_SWITCHES = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
OUTPUTS = ("out.json", "out.csv", "out.vtt", "out.png", "out.mp4")
FORKED = """
import os, signal, sys
from mfer_edge.pipeline import Pipeline
pipeline = Pipeline.open(device="cpu", threads=2)
expected = pipeline.analyze(sys.argv[1]).windows
child = os.fork()
if child == 0:
    signal.alarm(120)
    os._exit(pipeline.analyze(sys.argv[1]).windows != expected)
_, status = os.waitpid(child, 0)
print(status, pipeline.analyze(sys.argv[1]).windows == expected)
"""


def outputs(folder: Path) -> list[str]:
    flags = ("--json", "--csv", "--vtt", "--plot", "--video")
    return [f"{flag}={folder / name}" for flag, name in zip(flags, OUTPUTS, strict=True)]


def limited(size: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Call `mfer-edge` on a disk that holds files of so many bytes at most."""
    return python(LIMITED, size, *arguments)


class TestDisk:
    @pytest.mark.parametrize("size", [0, 20_000])
    def test_a_full_disk_costs_one_line_and_leaves_what_was_there(
        self, moment: Path, tmp_path: Path, size: int
    ) -> None:
        for name in OUTPUTS:
            (tmp_path / name).write_text("older")
        result = limited(size, "infer", "--device=cpu", "--quiet", moment, *outputs(tmp_path))
        assert result.returncode == 1 and "Traceback" not in result.stderr
        for line in result.stderr.splitlines():  # one for each file
            assert line.startswith("error: ") and "could not be written" in line
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)
        assert (tmp_path / "out.mp4").read_text() == "older"
        for name in OUTPUTS:
            text = (tmp_path / name).read_bytes()
            assert text == b"older" or len(text) <= size

    @pytest.mark.parametrize("size", [0, 1000])
    def test_an_adaptation_that_does_not_fit(self, moment: Path, tmp_path: Path, size: int) -> None:
        result = limited(size, "adapt", moment, "--out", tmp_path / "place.adapt")
        assert result.returncode == 1 and "could not be written" in result.stderr
        assert "Traceback" not in result.stderr and list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a read-only file system")
    def test_a_read_only_place_is_refused_before_the_work(self, moment: Path) -> None:
        for name in OUTPUTS:
            [flag] = [o.split("=")[0] for o in outputs(Path()) if o.endswith(name)]
            assert "/proc" in refused(infer(moment, flag, f"/proc/{name}"), 1)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission(self, moment: Path, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        result = infer(moment, "--json", tmp_path / "out.json")
        assert "no permission to write" in one_error(result)


class TestOthers:
    def test_two_processes_to_one_place(self, moment: Path, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "mfer_edge", "infer", "--device=cpu", "--quiet"]
        command += [str(moment), *outputs(tmp_path)]
        processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)
        assert json.loads((tmp_path / "out.json").read_text())["overall"]
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 8

    def test_a_few_kills(self, moment: Path) -> None:
        """`benchmarks.torture.kills` runs fifty of each command."""
        command = ["-m", "benchmarks.torture.kills", str(moment), "--kills", "4"]
        result = subprocess.run(
            [sys.executable, *command, "--job", "adapt", "--job", "save"],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr[-500:]
        rows = [
            line for line in result.stdout.splitlines() if line.startswith(("| adapt", "| save"))
        ]
        assert [row.split(" | ")[6:] for row in rows] == [["0", "0", "0", "yes", "0 |"]] * 2

    def test_clocks_that_jump(
        self, pipeline: Pipeline, moment: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Set back by a day and on by a year while a clip is read."""
        expected, calls = pipeline.analyze(moment), iter(range(10**9))

        def jumping() -> float:
            return 1.7e9 + (-86_400.0, 3.2e7)[next(calls) % 2]

        monkeypatch.setattr(time, "time", jumping)
        made = pipeline.analyze(moment)
        assert made.windows == expected.windows and made.tracks == expected.tracks
        assert 0 < made.timing.wall_s < 600

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_process_that_forks_after_opening(self, moment: Path) -> None:
        result = python(FORKED, moment)
        assert result.stdout.split() == ["0", "True"], result.stderr[-500:]

    def test_threads_that_share_a_pipeline(self, pipeline: Pipeline, moment: Path) -> None:
        expected = pipeline.analyze(moment)
        start = threading.Barrier(3)

        def analyze(_: int) -> Analysis:
            start.wait()
            return pipeline.analyze(moment)

        with ThreadPoolExecutor(3) as pool:
            for made in pool.map(analyze, range(3)):
                assert made.windows == expected.windows and made.tracks == expected.tracks


def test_nothing_is_stored_unless_asked_for_and_nothing_is_sent(
    moment: Path, tmp_path: Path
) -> None:
    """No cache, no log, no temporary file, no socket: in an empty home and an empty folder.

    From 1.29 on, ONNX Runtime stores an id of the device and sends events, unless told not to.
    """
    places = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "here")}
    for place in places.values():
        place.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", *TELEMETRY_SWITCHES)}
    environment |= {**{k: str(v) for k, v in places.items()}, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-B", "-c", PRIVATE, "infer", "--device=cpu", str(moment)]
    result = subprocess.run(
        command, cwd=places["here"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "angry" in result.stdout
    assert [path for place in places.values() for path in place.rglob("*")] == []
