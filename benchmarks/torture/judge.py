"""What became of an input: read like its twin, said otherwise, refused in a line, or a fault."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum

from mfer_edge.errors import CrashError, HangError, MemoryLimitError, MferError
from mfer_edge.results import Analysis

TOLERANCE = 0.02  # of a score


class Outcome(Enum):
    """Outcome of an input, as the table's columns have it."""

    SAME = "as the twin"
    TOLD = "otherwise, said so"
    LINE = "one line"
    UNCOVERED = "no checksum covers it"
    SILENT = "otherwise, unsaid"
    CRASH = "crashes"
    HANG = "hangs"
    MEMORY = "over the memory limit"
    WRONG_LINE = "wrong lines"
    LOST = "lost"
    NO_TWIN = "read, without a twin"
    NOT_WRITTEN = "can't be written"


FAULTS = (
    Outcome.SILENT, Outcome.CRASH, Outcome.HANG, Outcome.MEMORY, Outcome.WRONG_LINE, Outcome.LOST,
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Outcome of an input, and why."""

    kind: str
    name: str
    outcome: str
    why: str = ""
    may_differ: bool = False  # as the case says


def given(future: Future[Analysis], timeout_s: float) -> Analysis | MferError | None:
    """What a pool gave for a clip; None: nothing."""
    try:
        return future.result(timeout_s)
    except MferError as error:
        return error
    except TimeoutError:
        return None


def judge(
    got: Analysis | MferError | None, twin: Analysis | MferError | None
) -> tuple[Outcome, str]:
    """Compare what a clip gave with what its twin did.

    Args:
        twin: None where there is none.
    """
    if got is None:
        return Outcome.LOST, ""
    if isinstance(got, Exception):
        return failure(got)
    if not isinstance(twin, Analysis):
        return Outcome.NO_TWIN, "" if twin is None else str(twin)
    difference = _difference(got, twin)
    if not difference:
        return Outcome.SAME, ""
    said = [line for line in got.warnings if line not in twin.warnings]
    return (Outcome.TOLD if said else Outcome.SILENT), difference


def failure(error: MferError) -> tuple[Outcome, str]:
    """Outcome of an input that could not be read."""
    line = str(error)
    for kind, outcome in (
        (HangError, Outcome.HANG), (MemoryLimitError, Outcome.MEMORY), (CrashError, Outcome.CRASH),
    ):  # fmt: skip
        if isinstance(error, kind):
            return outcome, line
    well = "\n" not in line and 10 < len(line) < 400 and "Traceback" not in line
    return (Outcome.LINE if well else Outcome.WRONG_LINE), line


def _difference(got: Analysis, twin: Analysis) -> str:
    """In which way two readings differ by more than the tolerance; "" if they do not."""
    if got.overall is None and twin.overall is None:
        return ""
    if got.overall is None or twin.overall is None:
        return "no reading" if got.overall is None else "a reading where the twin has none"
    if got.overall.modalities != twin.overall.modalities:
        return f"from {got.overall.modalities}, twin's from {twin.overall.modalities}"
    most = max(abs(score - twin.overall.scores[x]) for x, score in got.overall.scores.items())
    return f"scores differ by {most:.3f}" if most > TOLERANCE else ""
