"""Colours and text of images."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.outputs.canvas import label_colours, shorten, text_width
from tests.support.analyses import LABELS

COLOURS = label_colours(LABELS)


class TestCanvas:
    def test_emotions_have_their_colour_in_any_set(self) -> None:
        few = label_colours(["anger", "fear", "contempt", "surprise"])
        assert few["anger"] == COLOURS["angry"]
        assert few["fear"] == COLOURS["fearful"]
        assert few["surprise"] == COLOURS["surprised"]
        assert few["contempt"] not in COLOURS.values()

    def test_colours_of_the_eight_differ(self) -> None:
        assert len(set(COLOURS.values())) == len(LABELS)

    @given(st.text(max_size=80), st.integers(20, 400))
    def test_shortened_text_fits(self, text: str, width: int) -> None:
        short = shorten(text, width, 10)
        assert text_width(short, 10) <= width
        assert short == text or "..." in short

    def test_shortened_text_keeps_both_ends(self) -> None:
        short = shorten("a long name of a recording, take 12.mp4", 150, 10)
        assert short.startswith("a lo") and short.endswith(".mp4")
