"""`mfer-edge infer --isolate`, `--timeout` and `--max-memory`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import infer, passed, refused, scores_of


class TestIsolate:
    def test_results_are_the_same(self, moment: Path, expected: dict) -> None:
        assert scores_of(json.loads(passed(infer(moment, "--isolate", "--json", "-")))) == expected

    def test_a_bad_clip_costs_one_line(self, moment: Path, bad: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.jsonl"
        result = infer(bad, moment, "--isolate", "--quiet", "--json", out)
        assert refused(result, 1).startswith(f"{bad}: not a video")
        assert json.loads(out.read_text())["source"] == str(moment)

    def test_the_overlay_has_the_detections(self, moment: Path, tmp_path: Path) -> None:
        for name, options in (("here.mp4", []), ("there.mp4", ["--isolate"])):
            passed(infer(moment, "--quiet", "--video", tmp_path / name, *options))
        assert (tmp_path / "here.mp4").read_bytes() == (tmp_path / "there.mp4").read_bytes()

    def test_a_bundle_that_does_not_open(self, moment: Path, tmp_path: Path) -> None:
        line = refused(infer(moment, "--isolate", "--bundle", tmp_path), 1)
        assert line.startswith(f"{tmp_path}: not a bundle")

    def test_windows_are_checked_before_the_work(self, moment: Path) -> None:
        assert "the window is 20 s" in refused(infer(moment, "--isolate", "--window", 20), 2)


class TestLimits:
    def test_timeout(self, moment: Path) -> None:
        line = refused(infer(moment, "--timeout", 0.01), 1)
        assert line == f"{moment}: stopped as it was not done in 0.01 s"

    def test_enough_time_and_memory(self, moment: Path, expected: dict) -> None:
        printed = passed(infer(moment, "--timeout", 600, "--max-memory", 4000, "--json", "-"))
        assert scores_of(json.loads(printed)) == expected

    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory needs /proc")
    def test_memory(self, anger: Path) -> None:
        line = refused(infer(anger, "--max-memory", 80), 1)
        assert line == f"{anger}: stopped as it took more than 80 MB of memory"

    @pytest.mark.parametrize("option", ["--timeout", "--max-memory"])
    @pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "long"])
    def test_wrong_value(self, moment: Path, option: str, value: str) -> None:
        assert option in refused(infer(moment, option, value), 2)
