"""Text summary of an analysis, as `mfer-edge infer` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from mfer_edge.results import MODALITY_NAMES, Analysis, Overall, voices
from mfer_edge.segments import seen_share, segments

BAR = 30  # characters of the bar of a score of 1
MIN_OTHER_S = 1.0  # for which another face is in view, to be named: a shorter one may be none
MISSING = {"visual": "no face", "audio": "no speech"}


def summary(analysis: Analysis) -> str:
    """Overall scores, segments, timing and warnings of one clip."""
    lines = [f"{analysis.source}  {analysis.duration_s:.2f} s"]
    if analysis.overall is None:
        lines.append("  no reading: neither a face nor speech was found")
    else:
        lines += _overall_lines(analysis, analysis.overall)
    if len(analysis.windows) > 1:
        lines += ["", *_segment_lines(analysis)]
    timing = analysis.timing
    threads = "1 thread" if timing.threads == 1 else f"{timing.threads} threads"
    lines.append("")
    lines.append(
        f"  {analysis.bundle.name} {analysis.bundle.precision} on {analysis.device}, {threads}: "
        f"{timing.wall_s:.2f} s, real-time factor {timing.rtf(analysis.duration_s):.2f}"
    )
    if (adaptation := analysis.adaptation) is not None:
        parts = (
            (adaptation.windows, adaptation.weight, "with speech"),
            (adaptation.face_windows, adaptation.face_weight, "with a face"),
        )
        heard = (
            f"{count} {'window' if count == 1 else 'windows'} {what}, weight {weight:.2f}"
            for count, weight, what in parts
            if count
        )
        lines.append(f"  adapted to {adaptation.name or 'a place'}: {'; '.join(heard)}")
    lines += [f"  warning: {warning}" for warning in analysis.warnings]
    return "\n".join(lines) + "\n"


def _overall_lines(analysis: Analysis, overall: Overall) -> Iterator[str]:
    used = " + ".join(_basis(name, analysis) for name in overall.modalities)
    missing = [text for name, text in MISSING.items() if name not in overall.modalities]
    yield f"  {overall.label} ({', '.join([used, *missing])})"
    if others := _unread_faces(analysis):
        faces = "1 other face was" if others == 1 else f"{others} other faces were"
        yield f"  {faces} in view and not read: --faces all reads everybody"
    yield ""
    for label, score in sorted(overall.scores.items(), key=lambda item: -item[1]):
        yield f"  {label:<10} {score:4.0%} {'#' * round(BAR * score)}".rstrip()


def _basis(modality: str, analysis: Analysis) -> str:
    """A modality, and how much of it the scores rest on."""
    name = MODALITY_NAMES[modality]
    main = [reading for reading in analysis.windows if reading.main]
    if modality == "visual":
        if len(main) == 1:
            return f"{name} in {main[0].faces} of {main[0].frames} frames"
        return f"{name} in {seen_share(analysis.windows, analysis.duration_s):.0%} of the frames"
    heard = [reading for reading in voices(analysis.windows) if reading.main or not reading.faces]
    if len(main) == 1:
        return f"{name} for {heard[0].speech_s:.1f} s"
    with_voice = sum(reading.audio is not None for reading in heard)
    return f"{name} in {with_voice} of {len(main)} windows"


def _unread_faces(analysis: Analysis) -> int:
    """How many faces were in view without a reading of their own."""
    read = {reading.track for reading in analysis.windows}
    return sum(
        track.track not in read and track.end_s - track.start_s >= MIN_OTHER_S
        for track in analysis.tracks
    )


def _segment_lines(analysis: Analysis) -> Iterator[str]:
    several = len(analysis.tracks) > 1
    for segment in segments(analysis.windows, analysis.duration_s):
        span = f"{segment.start_s:7.1f} - {segment.end_s:6.1f} s"
        score = "" if segment.score is None else f"{segment.score:.0%}"
        face = f"face {segment.track}" if several and segment.track is not None else ""
        label = segment.label or "no face, no speech"
        yield f"  {span}  {label:<10} {score:>4}  {face}".rstrip()
