"""Options of a session: the bundle's by default, and refused where it can't serve them."""

from __future__ import annotations

import pytest

from mfer_edge.model import Model
from mfer_edge.options import SessionOptions, approximations, check_options
from mfer_edge.pipeline import Pipeline
from mfer_edge.session import Session
from tests.support.analyses import reading


class TestChecks:
    @pytest.mark.parametrize(
        ("options", "fact"),
        [
            (SessionOptions(0.0, 0.0), "the window is 0 s"),
            (SessionOptions(-4.0, 1.0), "the window is -4 s"),
            (SessionOptions(float("nan"), 1.0), "the window is nan s"),
            (SessionOptions(4.0, 0.0), "the hop is 0 s"),
            (SessionOptions(4.0, -1.0), "the hop is -1 s"),
            (SessionOptions(4.0, 4.5), "the hop is 4.5 s"),
            (SessionOptions(4.0, float("nan")), "the hop is nan s"),
            (SessionOptions(4.0, 1e-9), "the hop is 1e-09 s"),
            (SessionOptions(float("inf"), 1.0), "the window is inf s"),
            (SessionOptions(4.0, 1.0, "both"), "faces is 'both'"),
            (SessionOptions(4.0, 1.0, skip_still=-1.0), "-1 grey levels"),
            (SessionOptions(4.0, 1.0, skip_still=float("nan")), "nan grey levels"),
            (SessionOptions(4.0, 1.0, skip_still=256.0), "0 to 255"),
        ],
    )
    def test_impossible_options(self, model: Model, options: SessionOptions, fact: str) -> None:
        with pytest.raises(ValueError, match=fact):
            check_options(options, model.manifest)
        with pytest.raises(ValueError, match=fact):
            Session(model, options)

    def test_the_bundle_takes_no_longer_windows(self, model: Model) -> None:
        longest_s = model.manifest.max_window_s
        check_options(SessionOptions(longest_s - 1.0, 1.0), model.manifest)
        with pytest.raises(ValueError, match="at most the 10 s that the bundle compact"):
            check_options(SessionOptions(longest_s, 1.0), model.manifest)


class TestDefaults:
    def test_are_the_bundles(self, pipeline: Pipeline) -> None:
        manifest, options = pipeline.bundle.manifest, pipeline.options()
        assert (options.window_s, options.hop_s) == (manifest.window_s, manifest.hop_s)
        assert (options.faces, options.skip_still) == ("main", 0.0)

    def test_a_short_window_brings_its_hop_along(self, pipeline: Pipeline) -> None:
        assert pipeline.options(0.5).hop_s == 0.5
        assert pipeline.options(2.0).hop_s == 1.0

    @pytest.mark.parametrize(
        ("levels", "fact"),
        [(-1.0, "-1 grey levels"), (float("nan"), "nan grey levels"), (256.0, "0 to 255")],
    )
    def test_are_checked_with_what_is_given(
        self, pipeline: Pipeline, levels: float, fact: str
    ) -> None:
        with pytest.raises(ValueError, match=fact):
            pipeline.options(skip_still=levels)


def test_windows_too_short_for_a_voice_are_told(pipeline: Pipeline) -> None:
    """If there was speech: without it no voice is missed."""
    manifest = pipeline.bundle.manifest
    short, long = pipeline.options(0.3), pipeline.options(0.4)
    spoken, silent = reading(0, 0.3, audio=None), reading(0, 0.3, audio=None, speech_s=0.0)
    [told] = approximations(short, manifest, [silent, spoken])
    assert told.startswith("windows of 0.3 s are shorter than the 0.4 s of speech")
    assert approximations(short, manifest, [silent]) == []
    assert approximations(long, manifest, [spoken]) == []
