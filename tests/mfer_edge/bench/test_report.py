"""A benchmark as JSON, as a table, and beside another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mfer_edge.bench.machine import Gauge, Gpu, Machine
from mfer_edge.bench.report import comparison, differences, read_bench, table, to_dict
from mfer_edge.bench.run import Bench, MeasuredBundle, MeasuredClip, Waits
from mfer_edge.bench.stats import LatencyStats
from mfer_edge.bench.streams import Trial
from mfer_edge.bench.sweep import Setting, SweepResult
from mfer_edge.errors import MferError
from mfer_edge.schema import read_as

CLIP = LatencyStats.of([0.4] * 20)
BENCH = Bench(
    scenario="single",
    bundle=MeasuredBundle("compact", "int8+fp32", {"int8": 0.4, "fp32": 0.6}, True, "ab" * 32),
    clip=MeasuredClip("face.mp4", "cd" * 32, 1000, 4.0, "h264", 640, 360, "aac"),
    machine=Machine(
        system="Linux 6 aarch64",
        cpu="Cortex",
        cores=6,
        memory_bytes=8_000_000_000,
        governor="schedutil",
        gpus=(Gpu("Orin", "540", None),),
        board="Jetson Orin Nano",
        power_mode="25W",
        versions={"mfer-edge": "0.1.0", "onnxruntime": "1.32.0"},
    ),
    device="cpu",
    providers=("CPUExecutionProvider",),
    threads=6,
    commit="abc1234",
    waits=Waits(4.0, 1.0, 4.5, 0.2, 0.032),
    times={"clip.decode": LatencyStats.of([0.1, 0.2, 0.3]), "clip.total": CLIP},
    trials=(Trial(4, 40, None, None, 1.0, True), Trial(2, 20, 0.25, 0.5, 1.0, False)),
    cells=(SweepResult(Setting("compact", "fp32", 1, "face", 20), LatencyStats.of([0.001])),),
    verdicts=("int8 is not worth it here",),
    memory_bytes=237_000_000,
    gpu_bytes=None,
    others=0.01,
    gauges=(Gauge("VDD_IN", "W", 4.0, 6.5, 9.0),),
    warnings=("the machine is busy",),
)


def written(bench: Bench, folder: Path, **changed: object) -> Path:
    path = folder / "bench.json"
    path.write_text(json.dumps(to_dict(bench) | changed))
    return path


class TestJson:
    def test_comes_back_as_it_was(self, tmp_path: Path) -> None:
        assert read_bench(written(BENCH, tmp_path)) == BENCH

    def test_holds_percentiles_and_runs(self) -> None:
        made = to_dict(BENCH)["times"]["clip.decode"]
        assert (made["p50_s"], made["mean_s"]) == (0.2, pytest.approx(0.2))
        assert list(made["runs_s"]) == [0.1, 0.2, 0.3]

    def test_of_another_schema_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MferError, match=r"bench.json: schema 2, but .* reads schema 1"):
            read_bench(written(BENCH, tmp_path, schema=2))

    @pytest.mark.parametrize("text", ["no JSON", "[]", '{"schema": 1}', '"bench"', "[" * 100_000])
    def test_of_something_else_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(MferError, match=r"other.json: not a result of mfer-edge bench"):
            read_bench(tmp_path / "other.json")

    def test_that_was_altered_names_the_field(self, tmp_path: Path) -> None:
        with pytest.raises(MferError, match='threads is "six", not a whole number'):
            read_bench(written(BENCH, tmp_path, threads="six"))

    def test_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(MferError, match=r"none.json: No such file"):
            read_bench(tmp_path / "none.json")


@dataclass(frozen=True)
class Pet:
    name: str
    age: float | None
    legs: Mapping[str, int]


class TestReadAs:
    def test_reads_what_fits(self) -> None:
        read = read_as(tuple[Pet, ...], [{"name": "a", "age": 3, "legs": {"left": 2}}])
        assert read == (Pet("a", 3.0, {"left": 2}),)
        assert type(read[0].age) is float
        assert read_as(Pet, {"name": "a", "age": None, "legs": {}}).age is None

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            ({"age": 1, "legs": {}}, "it has no name"),
            ({"name": "a", "age": "1", "legs": {}}, 'age is "1", not a number or null'),
            ({"name": "a", "age": 1, "legs": {"l": 1.5}}, r"legs.l is 1.5, not a whole number"),
            ({"name": "a", "age": True, "legs": {}}, "age is true, not a number or null"),
            ({"name": "a", "age": 1, "legs": {}, "tail": 1}, "tail is unknown"),
            ([], r" is \[\], not an object"),
        ],
    )
    def test_names_what_does_not(self, value: object, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            read_as(Pet, value)


class TestTable:
    def test_says_what_where_and_with_what(self) -> None:
        text = table(BENCH)
        for told in (
            "compact int8+fp32 (int8 40%, fp32 60% of the work; abababababab) on cpu, 6 threads",
            "commit abc1234",
            "face.mp4: 4.00 s, 640x360 h264 + aac (cdcdcdcdcdcd)",
            "Jetson Orin Nano: Cortex, 6 cores, 8 GB, governor schedutil, power mode 25W",
            "Orin, driver 540",
            "onnxruntime 1.32.0",
            "peak memory of a process that reads the clip: 237 MB",
            "VDD_IN: 6.5 W (4 to 9)",
            "warning: the machine is busy",
        ):
            assert told in text

    def test_rows_are_milliseconds(self) -> None:
        rows = {line.split()[0]: line.split()[1:] for line in table(BENCH).splitlines() if line}
        assert rows["decode"] == ["200.00", "280.00", "290.00", "298.00", "200.00", "3"]

    def test_what_never_ran_is_not_zero(self) -> None:
        lines = [line.split() for line in table(BENCH).splitlines()]
        assert ["audio", "not", "run"] in lines

    def test_speed_and_waiting_are_apart(self) -> None:
        text = table(BENCH)
        assert "one clip at a time: 10.0 s of clip a second, real-time factor 0.100" in text
        assert "looks back 4 s and comes every 1 s, first after 4.5 s" in text

    def test_streams(self) -> None:
        rows = [line.split() for line in table(BENCH).splitlines()]
        assert ["2", "250.0", "500.0", "20", "holds"] in rows
        assert ["4", "-", "-", "40", "falls", "behind"] in rows
        assert "2 live streams held at p99" in table(BENCH)

    def test_sweep_ends_in_words(self) -> None:
        rows = [line.split() for line in table(BENCH).splitlines()]
        assert ["face", "fp32", "1", "20", "1.000", "1.000", "compact"] in rows
        assert "\nint8 is not worth it here\n" in table(BENCH)

    def test_a_clip_without_a_track_and_a_machine_that_tells_little(self) -> None:
        machine = replace(BENCH.machine, memory_bytes=None, governor=None, gpus=(), board=None)
        clip = replace(BENCH.clip, video=None, width=0, height=0)
        text = table(replace(BENCH, machine=machine, clip=clip, gauges=(), commit=None))
        assert "face.mp4: 4.00 s, aac (" in text
        assert "power and clocks: this machine does not tell" in text
        assert "None" not in text


class TestComparison:
    def test_tells_what_became_faster_and_what_is_noise(self) -> None:
        before = {
            "clip.total": LatencyStats.of([0.8] * 20),
            "clip.vad": LatencyStats.of([0.0103] * 20),
            "clip.decode": LatencyStats.of([0.1] * 20),
        }
        after = {
            "clip.total": CLIP,
            "clip.vad": LatencyStats.of([0.01] * 20),
            "clip.decode": LatencyStats.of([0.2] * 3),
            "clip.audio": CLIP,
        }
        text = comparison(replace(BENCH, times=before), replace(BENCH, times=after))
        rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
        assert rows["clip.total"][:4] == ["800.00", "400.00", "faster", "2.00x"]
        assert rows["clip.vad"][2] == "same"
        assert rows["clip.decode"][2:] == ["too", "few", "runs"]
        assert "clip.audio" not in rows  # it was not measured before
        assert "warning" not in text

    def test_of_nothing_in_common(self) -> None:
        text = comparison(replace(BENCH, times={}), BENCH)
        assert "nothing was measured in both" in text

    def test_warns_where_it_means_something_else(self) -> None:
        other = replace(
            BENCH,
            machine=replace(BENCH.machine, cpu="Xeon", versions={"onnxruntime": "1.20.0"}),
            clip=replace(BENCH.clip, sha256="00" * 32),
            bundle=replace(BENCH.bundle, sha256="00" * 32, name="paper"),
            threads=1,
            others=0.5,
        )
        assert differences(BENCH, BENCH) == []
        assert differences(BENCH, other) == [
            "the machines differ: Jetson Orin Nano Cortex 6 cores 25W Orin, "
            "Jetson Orin Nano Xeon 6 cores 25W Orin",
            "the bundles differ: compact, paper",
            "the threads differ: 6, 1",
            "the versions of ONNX Runtime differ: 1.32.0, 1.20.0",
            "the clip face.mp4 is not the same: its sha256 differs",
            "now, other processes kept 50% of the cores busy",
        ]
