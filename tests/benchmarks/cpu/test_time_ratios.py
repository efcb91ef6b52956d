"""Ratios of times, and their targets."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.cpu.time_ratios import (
    COMPACT_OVER_DECODING,
    REFERENCE_OVER_APPROXIMATE,
    REFERENCE_OVER_EXACT,
    TimeRatio,
    decoding_ratios,
    ratio_tables,
    reference_ratios,
    target_of,
)
from benchmarks.harness.rounds import Spread
from benchmarks.harness.systems import System
from mfer_edge.bundle import Bundle
from mfer_edge.stopwatch import STAGES
from tests.benchmarks.cpu.synthetic import synthetic_series


def last_lines(ratios: list[TimeRatio]) -> list[str]:
    """The last line of each table."""
    return [table.splitlines()[-1] for table in ratio_tables(ratios)]


def test_compact_is_compared_with_decoding() -> None:
    systems = synthetic_series()
    found = decoding_ratios(systems, systems["compact"], COMPACT_OVER_DECODING)
    assert [(one.what, round(one.ratio.median, 6)) for one in found] == [
        ("compact over decode every frame", 1.2),
        ("compact over decode as mfer-edge does", 2.0),
        ("compact over decode by OpenCV", 1.5),
    ]
    assert last_lines(found[:1]) == [
        "| compact over decode every frame | 1.20 | 1.20 to 1.20 | at most 1.6: met |"
    ]
    assert [one.target for one in found[1:]] == [None, None]
    assert COMPACT_OVER_DECODING.verdict(1.61) == "at most 1.6: missed"


def test_the_full_size_is_compared_with_the_reference() -> None:
    systems = synthetic_series()
    (found,) = reference_ratios(systems, systems["paper int8"], REFERENCE_OVER_EXACT)
    assert last_lines([found]) == [
        "| reference over paper int8 | 5.00 | 5.00 to 5.00 | at least 3: met |",
        "| reference over paper int8 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 |",
    ]
    assert found.stages == dict.fromkeys(STAGES, Spread(4.0, 4.0, 4.0))
    (found,) = reference_ratios(systems, systems["paper fp32"], None)
    assert found.stages == {"visual": Spread(0.5, 0.5, 0.5)}
    assert last_lines([found]) == [
        "| reference over paper fp32 | 2.50 | 2.50 to 2.50 |  |",
        "| reference over paper fp32 |  |  |  | 0.5 |  |  |",
    ]


def system(
    name: str,
    precision: str,
    skip_still: float = 0.0,
    *,
    notes: tuple[str, ...] = (),
    approximations: tuple[str, ...] = (),
) -> System:
    """A system as if its bundle were of that name and precision."""
    bundle = Bundle.open()
    engines = {
        file: replace(engine, macs={precision: 1})
        for file, engine in bundle.manifest.engines.items()
    }
    manifest = replace(
        bundle.manifest, name=name, engines=engines, notes=notes, approximations=approximations
    )
    return System(replace(bundle, manifest=manifest), "folder", skip_still)


def test_exact_and_approximate_systems_have_targets_of_their_own() -> None:
    merged = system("paper", "int8", approximations=("tokens are merged",))
    assert target_of(system("paper", "int8")) == REFERENCE_OVER_EXACT
    assert target_of(system("paper", "int8", notes=("Untrained.",))) == REFERENCE_OVER_EXACT
    assert target_of(system("paper", "int8", 5.0)) == REFERENCE_OVER_APPROXIMATE
    assert target_of(merged) == REFERENCE_OVER_APPROXIMATE
    assert REFERENCE_OVER_APPROXIMATE.verdict(4.99) == "at least 5: missed"
    # Targets against the reference are for int8, the one against decoding for exact scores.
    assert target_of(system("paper", "fp32")) is None
    assert target_of(system("paper", "fp32", 5.0)) is None
    assert target_of(System(Bundle.open())) == COMPACT_OVER_DECODING
    assert target_of(system("compact", "fp32")) == COMPACT_OVER_DECODING
    assert target_of(system("compact", "int8", 5.0)) is None
