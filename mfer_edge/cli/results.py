"""Outputs of `infer`: all that was asked for of a clip, written as soon as it is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.errors import FailureCount
from mfer_edge.cli.options import STDOUT
from mfer_edge.cli.output_paths import OutputPaths
from mfer_edge.cli.progress import progress_bar
from mfer_edge.results import Analysis

if TYPE_CHECKING:
    from mfer_edge.outputs.results import GrowingText
    from mfer_edge.sources.base import TrackChoice


class ResultWriter:
    """Writer of the results of clips. An output that fails does not stop the others.

    Args:
        tracks: as for the analysis.
        several: whether there is more than one clip: JSON is then an object a line.
    """

    def __init__(
        self,
        outputs: OutputPaths,
        failures: FailureCount,
        tracks: TrackChoice | None = None,
        *,
        several: bool,
        quiet: bool,
    ) -> None:
        self._outputs, self._failures, self._tracks = outputs, failures, tracks
        self._several, self._quiet = several, quiet
        self._has_header = False  # of CSV
        self._texts: dict[Path, GrowingText] = {}
        texts = (outputs.json, outputs.csv, outputs.vtt)
        if files := [path for path in texts if path is not None and path != STDOUT]:
            from mfer_edge.outputs.results import GrowingText

            for path in files:
                append = several and path == outputs.json
                self._texts[path] = GrowingText(path, append=append)

    def write(self, analysis: Analysis, source: Path | str) -> None:
        """Write all outputs of the next clip: first the files, then what is printed."""
        outputs, texts = self._outputs, {}
        if outputs.json is not None:
            from mfer_edge.outputs.json import json_text

            texts[outputs.json] = json_text([analysis], one_per_line=self._several)
        if outputs.csv is not None:
            from mfer_edge.outputs.csv import csv_text

            texts[outputs.csv] = csv_text([analysis], header=not self._has_header)
            self._has_header = True
        if outputs.vtt is not None:
            from mfer_edge.outputs.webvtt import vtt_text

            texts[outputs.vtt] = vtt_text(analysis)
        for path, text in texts.items():
            if path != STDOUT:
                with self._failures.reported(str(path)):
                    self._texts[path].add(text)
        self._print(analysis, texts.get(STDOUT))
        self._write_images(analysis, source)

    def close(self) -> None:
        """Close pipes."""
        for text in self._texts.values():
            text.close()

    def _print(self, analysis: Analysis, data: str | None) -> None:
        from mfer_edge.outputs.terminal import summary

        with self._failures.reported("stdout"):
            if not self._quiet:
                click.echo(summary(analysis))
            if data is not None:  # in UTF-8, whatever the terminal's encoding
                click.echo(data.encode(), nl=False)

    def _write_images(self, analysis: Analysis, source: Path | str) -> None:
        outputs = self._outputs
        if outputs.plot is not None:
            from mfer_edge.outputs.timeline import write_timeline

            with self._failures.reported(str(outputs.plot)):
                write_timeline(analysis, outputs.plot)
        if outputs.html is not None:
            from mfer_edge.outputs.html import write_html

            stays = analysis.source == str(source)  # not so the file that stdin is kept in
            with self._failures.reported(str(outputs.html)):
                write_html(analysis, outputs.html, clip=source, tracks=self._tracks, linked=stays)
        if outputs.video is not None:
            from mfer_edge.outputs.overlay import write_overlay

            with (
                self._failures.reported(str(outputs.video)),
                progress_bar(outputs.video.name, quiet=self._quiet) as progress,
            ):
                write_overlay(source, analysis, outputs.video, progress, self._tracks)
