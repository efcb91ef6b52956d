"""Paths of a command's outputs, checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import click

from mfer_edge.cli.options import STDOUT

TEXT_OPTIONS = ("--json", "--csv", "--vtt")  # may go to stdout, a pipe or a device
SINGLE_SOURCE_OPTIONS = ("--vtt", "--video", "--plot", "--html")


@dataclass(frozen=True)
class OutputPaths:
    """Output files by format; None for those that were not asked for."""

    json: Path | None = None
    csv: Path | None = None
    vtt: Path | None = None
    video: Path | None = None
    plot: Path | None = None
    html: Path | None = None

    @property
    def use_stdout(self) -> bool:
        """Whether one of the outputs goes to stdout."""
        return STDOUT in (self.json, self.csv, self.vtt)

    def by_option(self) -> dict[str, Path]:
        """The paths that were given."""
        paths = {
            "--json": self.json,
            "--csv": self.csv,
            "--vtt": self.vtt,
            "--video": self.video,
            "--plot": self.plot,
            "--html": self.html,
        }
        return {option: path for option, path in paths.items() if path is not None}

    def check(self, sources: Sequence[Path | str], others: Iterable[Path | None] = ()) -> None:
        """Check that the outputs can be written and overwrite nothing that is read.

        Args:
            others: what is read beside the sources, such as an adaptation.

        Raises:
            click.UsageError: options contradict each other or the sources.
            OutputError: a file can't be written.
        """
        if [self.json, self.csv, self.vtt].count(STDOUT) > 1:
            raise click.UsageError("only one of --json, --csv and --vtt can go to stdout")
        self._check_distinct()
        for option, path in self.by_option().items():
            if len(sources) > 1 and option in SINGLE_SOURCE_OPTIONS:
                raise click.UsageError(f"{option} takes one source; {len(sources)} were given")
            _check_path(option, path, [*sources, *(other for other in others if other)])

    def _check_distinct(self) -> None:
        for (first, path), (second, other) in combinations(self.by_option().items(), 2):
            same = os.path.realpath(path) == os.path.realpath(other) or is_same_file(path, other)
            if same and not is_same_file(path, Path(os.devnull)):
                raise click.UsageError(f"{first} and {second} are the same file, {other}")


def _check_path(option: str, path: Path, sources: Sequence[Path | str]) -> None:
    import mimetypes

    from mfer_edge.outputs.files import (
        HTML_SUFFIXES,
        IMAGE_SUFFIXES,
        VIDEO_SUFFIXES,
        check_output,
        is_stream,
    )

    is_text = option in TEXT_OPTIONS
    if is_text and (path == STDOUT or is_stream(path)):
        return
    check_not_read(option, [path], sources)
    media_type = (mimetypes.guess_type(path.name)[0] or "").split("/")[0]
    if is_text and media_type in ("video", "audio"):  # `--json a.mp4 b.mp4`: PATH was forgotten
        raise click.UsageError(f"{option} {path}: this is the name of a clip, not of a result")
    suffixes = {"--video": VIDEO_SUFFIXES, "--plot": IMAGE_SUFFIXES, "--html": HTML_SUFFIXES}
    check_output(path, suffixes.get(option, ()))


def check_not_read(option: str, outs: Sequence[Path], sources: Iterable[Path | str]) -> None:
    """Refuse outputs that are files which the command reads.

    Each path is looked at once: a batch reads many clips, and may write many tables.

    Raises:
        click.UsageError: one of them is.
    """
    identities = {out: identity for out in outs if (identity := _identity(out)) is not None}
    if not identities:
        return
    wanted = set(identities.values())
    read = {identity for source in sources if (identity := _identity(source)) in wanted}
    for out, identity in identities.items():
        if identity in read:
            raise click.UsageError(f"{option} {out}: this is a source; write to another name")


def _identity(path: Path | str) -> tuple[int, int] | None:
    """Device and inode of a file that exists; a URL is none."""
    if isinstance(path, str):
        return None
    try:
        status = path.stat()
    except OSError:  # it is missing, or in a folder without permission
        return None
    return status.st_dev, status.st_ino


def is_same_file(path: Path | str, other: Path) -> bool:
    """Whether two paths lead to one file that exists; a URL leads to none."""
    identity = _identity(path)
    return identity is not None and identity == _identity(other)
