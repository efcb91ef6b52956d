"""Summary of an analysis for a terminal."""

from __future__ import annotations

from dataclasses import replace

from mfer_edge.outputs.terminal import summary
from mfer_edge.results import AdaptationInfo, Timing, Track
from tests.support.analyses import LABELS, analysis, reading


class TestSummary:
    def test_one_window(self) -> None:
        made = analysis([reading(0, 4.14)], 4.14, timing=Timing(0.5, 0.3, 1))
        assert summary(made).splitlines() == [
            "clip.mp4  4.14 s",
            "  happy (face in 20 of 20 frames + voice for 2.1 s)",
            "",
            "  happy       79% ########################",
            *(f"  {label:<10}   3% #" for label in LABELS if label != "happy"),
            "",
            "  compact int8 on cpu, 1 thread: 0.50 s, real-time factor 0.12",
        ]

    def test_how_much_a_modality_rests_on(self) -> None:
        few = reading(0, 4.2, frames=21, faces=1)
        assert "  happy (face in 1 of 21 frames + voice for 2.1 s)" in summary(analysis([few], 4.2))
        windows = [few, reading(1, 5, audio=None), reading(2, 6, faces=15)]
        line = summary(analysis(windows, 6.0)).splitlines()[1]
        # By how long each window is shown: 2.6 s of 1 in 21, 0.9 s of all, 2.5 s of 15 in 20.
        assert line == "  happy (face in 48% of the frames + voice in 2 of 3 windows)"

    def test_what_the_model_was_adapted_to(self) -> None:
        for info, line in (
            (
                AdaptationInfo("a.npz", 23, 0.697),
                "  adapted to a.npz: 23 windows with speech, 0.70",
            ),
            (AdaptationInfo("", 1, 0.0909), "  adapted to a place: 1 window with speech, 0.09"),
            (AdaptationInfo("a", 0, 0, 1, 0.167), "  adapted to a: 1 window with a face, 0.17"),
            (
                AdaptationInfo("a", 2, 0.167, 3, 0.375),
                "  adapted to a: 2 windows with speech, weight 0.17; 3 windows with a face, 0.38",
            ),
        ):
            text, weight = line.rsplit(" ", 1)
            made = analysis([reading(0, 4)], 4.0, adaptation=info, warnings=("a warning",))
            assert summary(made).splitlines()[-2] == f"{text} weight {weight}"

    def test_several_windows_are_shown_as_segments(self) -> None:
        windows = [reading(0, 4), reading(1, 5), reading(2, 6, "sad"), reading(3, 7, None)]
        lines = summary(analysis(windows, 7.0)).splitlines()
        assert lines[12:-2] == [
            "      0.0 -    3.5 s  happy       79%",
            "      3.5 -    4.5 s  sad         79%",
            "      4.5 -    7.0 s  no face, no speech",
        ]

    def test_several_faces_are_numbered(self) -> None:
        windows = [
            made
            for start in (0, 1)
            for made in (
                reading(start, start + 4),
                reading(start, start + 4, "sad", track=1, main=False),
            )
        ]
        tracks = (Track(0, 0, 5, 25), Track(1, 0, 5, 25))
        lines = summary(analysis(windows, 5.0, tracks=tracks)).splitlines()
        assert lines[12:-2] == [
            "      0.0 -    5.0 s  happy       79%  face 0",
            "      0.0 -    5.0 s  sad         79%  face 1",
        ]

    def test_no_reading_and_warnings(self) -> None:
        made = analysis([reading(0, 3, None)], 3.0, tracks=(), warnings=("it is dark",))
        lines = summary(made).splitlines()
        assert lines[1] == "  no reading: neither a face nor speech was found"
        assert lines[-1] == "  warning: it is dark"

    def test_voice_alone(self) -> None:
        alone = replace(reading(0, 3), visual=None, track=None, faces=0)
        line = summary(analysis([alone], 3.0)).splitlines()[1]
        assert line == "  happy (voice for 1.5 s, no face)"

    def test_face_alone(self) -> None:
        alone = replace(reading(0, 3), audio=None, speech_s=0.0)
        line = summary(analysis([alone], 3.0)).splitlines()[1]
        assert line == "  happy (face in 20 of 20 frames, no speech)"

    def test_voice_that_is_no_faces(self) -> None:
        """With `--faces all`: the voice is not the main face's, and is not 0 s long."""
        made = [
            part
            for start in (0, 1)
            for part in (
                reading(start, start + 4, audio=None, speech_s=0.0),
                reading(start, start + 4, "sad", track=None, visual=None, faces=0, main=False),
            )
        ]
        line = summary(analysis(made[:2], 4.0)).splitlines()[1]
        assert line == "  happy (face in 20 of 20 frames + voice for 2.0 s)"
        line = summary(analysis(made, 5.0)).splitlines()[1]
        assert line == "  happy (face in 100% of the frames + voice in 2 of 2 windows)"

    def test_faces_that_were_not_read(self) -> None:
        tracks = (Track(0, 0, 4, 20), Track(1, 0, 4, 20), Track(2, 1, 1.4, 3), Track(3, 0, 3, 9))
        lines = summary(analysis([reading(0, 4)], 4.0, tracks=tracks)).splitlines()
        assert lines[2] == "  2 other faces were in view and not read: --faces all reads everybody"
        lines = summary(analysis([reading(0, 4)], 4.0, tracks=tracks[:2])).splitlines()
        assert lines[2] == "  1 other face was in view and not read: --faces all reads everybody"
        everybody = [reading(0, 4), reading(0, 4, track=1, main=False)]
        assert "not read" not in summary(analysis(everybody, 4.0, tracks=tracks[:3]))
