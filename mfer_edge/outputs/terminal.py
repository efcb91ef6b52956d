"""Text summary of an analysis, as `mfer-edge infer` prints it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mfer_edge.results import MODALITY_NAMES, Analysis, Overall, Reading
from mfer_edge.segments import segments

BAR = 30  # characters of the bar of a score of 1


def summary(analysis: Analysis) -> str:
    """Overall scores, segments, timing and warnings of one clip."""
    lines = [f"{analysis.source}  {analysis.duration_s:.2f} s"]
    if analysis.overall is None:
        lines.append("  no reading: neither a face nor speech was found")
    else:
        lines += _overall_lines(analysis.overall, analysis.windows)
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


def _overall_lines(overall: Overall, windows: Sequence[Reading]) -> Iterator[str]:
    used = " + ".join(_basis(name, windows) for name in overall.modalities)
    yield f"  {overall.label} ({used})"
    yield ""
    for label, score in sorted(overall.scores.items(), key=lambda item: -item[1]):
        yield f"  {label:<10} {score:4.0%} {'#' * round(BAR * score)}".rstrip()


def _basis(modality: str, windows: Sequence[Reading]) -> str:
    """A modality, and how much of it the scores rest on."""
    name = MODALITY_NAMES[modality]
    main = [reading for reading in windows if reading.main]
    if modality == "visual":
        faces, frames = sum(r.faces for r in main), sum(r.frames for r in main)
        if len(main) == 1:
            return f"{name} in {faces} of {frames} frames"
        return f"{name} in {faces / frames:.0%} of the frames"
    if len(main) == 1:
        return f"{name} for {main[0].speech_s:.1f} s"
    heard = sum(reading.audio is not None for reading in main)
    return f"{name} in {heard} of {len(main)} windows"


def _segment_lines(analysis: Analysis) -> Iterator[str]:
    several = len(analysis.tracks) > 1
    for segment in segments(analysis.windows, analysis.duration_s):
        span = f"{segment.start_s:7.1f} - {segment.end_s:6.1f} s"
        score = "" if segment.score is None else f"{segment.score:.0%}"
        face = f"face {segment.track}" if several and segment.track is not None else ""
        label = segment.label or "no face, no speech"
        yield f"  {span}  {label:<10} {score:>4}  {face}".rstrip()
