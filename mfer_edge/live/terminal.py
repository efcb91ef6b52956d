"""Live readings as text: a line for each person on a terminal, plain lines in a pipe."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence

import click

from mfer_edge.live.events import Event, Gap, LatencySummary, LiveReading, LiveStats, Notice
from mfer_edge.results import MODALITY_NAMES, Reading

BAR = 20  # characters of the bar of a score of 1
UP, CLEAR = "\x1b[{}A", "\x1b[K"


class LivePrinter:
    """Prints readings as they come.

    Args:
        screen: the output is a terminal, on which the lines of the latest window stay in place;
            otherwise each reading is a line.
    """

    def __init__(self, screen: bool, echo: Callable[..., None] = click.echo) -> None:
        self._screen = screen
        self._echo = echo
        self._latest: list[LiveReading] = []  # of the window that is shown
        self._shown = 0  # lines that are on the screen, to be replaced

    def __call__(self, event: Event, dropped: int) -> None:
        """Print an event.

        Args:
            dropped: frames so far.
        """
        if not isinstance(event, LiveReading):
            self._shown = 0  # what is on the screen stays above
            self._echo(_told(event))
        elif not self._screen:
            self._echo(f"{reading_line(event.reading)}  lag {event.lag_s:.2f} s")
        else:
            if event.reading.main:
                self._latest = []
            self._latest.append(event)
            self._draw(dropped)

    def _draw(self, dropped: int) -> None:
        width = max(20, shutil.get_terminal_size().columns - 1)
        lines = [reading_line(one.reading) + "  " + score_bar(one.reading) for one in self._latest]
        last = self._latest[-1]
        lines.append(
            f"  computed in {1000 * last.compute_s:.0f} ms, lag {last.lag_s:.2f} s, "
            f"{dropped} frames dropped; Ctrl-C ends"
        )
        if self._shown:
            self._echo(UP.format(self._shown), nl=False)
        extra = max(0, self._shown - len(lines))
        for line in [*lines, *[""] * extra]:
            self._echo(line[:width].rstrip() + CLEAR)
        if extra:
            self._echo(UP.format(extra), nl=False)
        self._shown = len(lines)


def reading_line(reading: Reading) -> str:
    """A reading in a line."""
    label = reading.label or "no face, no speech"
    score = "" if reading.scores is None else f"{reading.scores[label]:.0%}"
    face = "voice" if reading.track is None else f"face {reading.track}"
    used = " + ".join(MODALITY_NAMES[name] for name in reading.modalities)
    line = f"{reading.start_s:7.1f} - {reading.end_s:7.1f} s"
    if reading.scores is None:
        return f"{line}  {label}"
    return f"{line}  {label:<10} {score:>4}  {face:<8} {used:<12}".rstrip()


def score_bar(reading: Reading) -> str:
    """Bar of the highest score."""
    return "" if reading.scores is None else "#" * round(BAR * max(reading.scores.values()))


def live_summary(
    source: str, stats: LiveStats, labels: Counter[str], warnings: Sequence[str]
) -> str:
    """What a live run saw, how fast it was, and what was missing.

    Args:
        labels: windows, by the label of their main reading.
    """
    lines = [f"{source}  {stats.duration_s:.1f} s, {_counted(stats.readings, 'reading')}"]
    total = sum(labels.values())
    for label, count in labels.most_common():
        lines.append(f"  {label:<10} {count / total:4.0%} of the windows")
    if not total:
        lines.append("  no reading: neither a face nor speech was found")
    lines.append(
        f"  {_counted(stats.frames, 'frame')} read, {stats.dropped} dropped; "
        f"{stats.audio_s:.1f} s of sound read, none dropped"
    )
    if stats.gaps:
        lines.append(f"  {_counted(stats.gaps, 'gap')}, {stats.gap_s:.1f} s in all")
    lines.append(f"  compute latency {_percentiles(stats.compute)}; lag {_percentiles(stats.lag)}")
    lines += [f"  warning: {warning}" for warning in warnings]
    return "\n".join(lines)


def _told(event: Event) -> str:
    if isinstance(event, Gap):
        if event.end_s is None:
            return f"{event.start_s:7.1f} s  lost: {event.reason}; it is tried again"
        return f"{event.start_s:7.1f} - {event.end_s:7.1f} s  nothing: {event.reason}"
    assert isinstance(event, Notice)
    return f"{event.time_s:7.1f} s  warning: {event.text}"


def _percentiles(times: LatencySummary) -> str:
    if times.p50_s is None or times.p99_s is None:
        return "not measured"
    return f"{1000 * times.p50_s:.0f} ms (median), {1000 * times.p99_s:.0f} ms (p99)"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
