"""`mfer-edge adapt`: adaptation to a place or a person, without labels."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.errors import FailureCount
from mfer_edge.cli.options import INPUT, OUTPUT, device_option, threads_option
from mfer_edge.cli.output_paths import check_not_read
from mfer_edge.cli.progress import progress_bar

if TYPE_CHECKING:
    from mfer_edge.adapt import AdaptationStatistics
    from mfer_edge.pipeline import Pipeline


@click.command()
@click.argument("sources", nargs=-1, required=True, type=INPUT)
@click.option("--out", required=True, type=OUTPUT, help="File to write, a few kB.")
@click.option("--bundle", type=INPUT, help="Model to adapt [default: compact].")
@device_option
@threads_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def adapt(
    *,
    sources: tuple[Path, ...],
    out: Path,
    bundle: Path | None,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Adapt a model to a place or a person, from recordings without labels.

    Each SOURCE is a clip, a sound file, or a folder of them. Take ordinary recordings with mixed
    emotions from where the model will be used: 10 of a few seconds do, 5 help a little. Voices and
    main faces are learned, each where there is one. `mfer-edge infer --adapt` takes the file.
    """
    from mfer_edge.adapt import AdaptationStatistics
    from mfer_edge.outputs.files import check_output
    from mfer_edge.pipeline import Pipeline

    check_output(out)
    failures = FailureCount()
    clips = list(expanded(sources, failures))
    check_not_read("--out", [out], clips)
    pipeline = Pipeline.open(bundle, device, threads or 0)
    heard = collected(pipeline, clips, failures, quiet=quiet)
    total = sum(heard, AdaptationStatistics(pipeline.bundle.manifest.model))
    total.adaptation().save(out)
    if not quiet:
        click.echo(summary(total, out, len(heard)))
    sys.exit(failures.exit_code)


def expanded(sources: Sequence[Path], failures: FailureCount) -> Iterator[Path]:
    """The clips among files and folders, each once, in order; folders with all that are in them."""
    from mfer_edge.errors import MediaError
    from mfer_edge.sources.folder import clips_in

    seen: set[str] = set()
    for source in sources:
        found = [source]
        if source.is_dir():
            found = clips_in(source)
        with failures.reported():
            if not found:
                raise MediaError(f"{source}: no clips in this folder")
        for path in found:
            if (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                yield path


def collected(
    pipeline: Pipeline, clips: Sequence[Path], failures: FailureCount, *, quiet: bool
) -> list[AdaptationStatistics]:
    """Statistics of each clip, without those that fail, which cost a line each.

    Raises:
        AdaptationError: the model can't be adapted.
    """
    pipeline.model.check_adaptable()
    heard: list[AdaptationStatistics] = []
    with progress_bar("adapt", quiet=quiet) as progress:
        for index, clip in enumerate(clips):
            with failures.reported():
                heard.append(pipeline.collect(clip))
            if progress is not None:
                progress((index + 1) / len(clips))
    return heard


def summary(total: AdaptationStatistics, out: Path, clips: int) -> str:
    """What was heard, what weight that gives, and what speaks against using it."""
    from mfer_edge.adapt import FEW_WINDOWS, ONE_MOOD

    made = total.adaptation()
    found = [
        f"{_counted(learned.windows, 'window')} with {what} (weight {learned.weight:.2f})"
        for what, learned in (("speech", made.voice), ("a face", made.face))
        if learned is not None
    ]
    lines = [f"{out}: {' and '.join(found)} in {_counted(clips, 'source')}"]
    label, most = max(total.labels.items(), key=lambda item: item[1])
    windows = max(total.voice.windows, total.face.windows)
    if windows < FEW_WINDOWS:
        lines.append(
            f"  warning: so few windows change little: {FEW_WINDOWS} are the least to gain from, "
            "10 to 20 are better"
        )
    elif made.voice is not None and most >= ONE_MOOD * sum(total.labels.values()):
        lines.append(
            f"  warning: {most} of them were taken for {label}: one mood alone is taken for the "
            "place; add recordings with other emotions, or compare with --adapt off"
        )
    return "\n".join(lines)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
