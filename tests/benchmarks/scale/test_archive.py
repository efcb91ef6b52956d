"""The simulation of large archives, where the answer is known."""

from __future__ import annotations

import pytest

from benchmarks.scale.archive import (
    LENGTH,
    Archive,
    Measured,
    Nodes,
    main,
    measured,
    nodes_for,
    simulate,
)
from mfer_edge.errors import MferError

COST = Measured(core_s=0.25, memory_mb=200)
ARCHIVE = Archive(hours=1000, clip_s=360, spread=0.5, bitrate_mbit=2, storage_gbit=100)
NODES = Nodes(count=1, cores=10, mtbf_h=1e9, usd_core_h=0.1)


def test_measured_figures() -> None:
    rows = "Machine: 2 cores\n| 601 | 62.7 | 104.3 | 205 |\n| 3604 | 348.4 | 96.7 | 213 |\n"
    cost = measured(rows)
    assert cost.core_s == pytest.approx(2 * 348.4 / 3604)
    assert cost.memory_mb == 213
    assert 0.05 < measured(LENGTH.read_text()).core_s < 0.5
    with pytest.raises(MferError, match="no table of lengths"):
        measured("nothing")


def test_cores_divide_the_work() -> None:
    made = simulate(COST, ARCHIVE, NODES)
    assert made.hours == pytest.approx(1000 * 0.25 / 10, rel=0.01)
    assert made.usd == pytest.approx(0.1 * made.core_hours)
    assert made.core_hours == pytest.approx(250, rel=0.01)
    assert (made.bottleneck, made.redone) == ("cores", 0)


def test_storage_is_in_the_way() -> None:
    """Ten cores read 40 s of video a second: 80 Mbit/s, from a storage that gives 40."""
    slow = Archive(1000, 360, 0.5, bitrate_mbit=2, storage_gbit=0.04)
    made = simulate(COST, slow, NODES)
    assert made.hours == pytest.approx(50, rel=0.02)
    assert made.bottleneck.startswith("storage: everything takes 2.0 times")
    assert made.storage == pytest.approx(1, rel=0.02)


def test_failures_cost_what_was_begun() -> None:
    """Work of 1 h on a node that fails every hour takes e - 1 hours on average."""
    hourly = Archive(40_000, 4 * 3600, 1e-6, bitrate_mbit=2, storage_gbit=100)
    made = simulate(COST, hourly, Nodes(1, 10, mtbf_h=1, usd_core_h=0.1))
    assert made.redone == pytest.approx(2.718 - 2, rel=0.05)


def test_more_cores_than_clips() -> None:
    few = Archive(10, 3600, 0.5, bitrate_mbit=2, storage_gbit=100)
    assert (
        simulate(COST, few, Nodes(10, 10, 1e9, 0.1)).bottleneck == "the longest clips, at the end"
    )


def test_nodes_for_a_deadline() -> None:
    assert nodes_for(COST, ARCHIVE, NODES, within_h=5.2) == 5
    slow = Archive(1000, 360, 0.5, bitrate_mbit=2, storage_gbit=0.04)
    assert nodes_for(COST, slow, NODES, within_h=5.2) is None


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--hours", "1000", "--nodes", "1", "2"])
    printed = capsys.readouterr().out
    assert "A simulation, not a run." in printed
    assert "| 1,000 h in clips of 60 min | assumed |" in printed


def test_an_impossible_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--nodes", "0"])
    assert "--nodes must be above 0" in capsys.readouterr().err
