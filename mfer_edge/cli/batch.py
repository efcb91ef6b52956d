"""`mfer-edge batch`: tables of the emotions in many clips."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.analyzers import WindowRequest
from mfer_edge.cli.errors import DONE, FAILED
from mfer_edge.cli.options import (
    OUTPUT_FOLDER,
    PositiveNumber,
    adapt_option,
    adaptation_file,
    bundle_option,
    device_option,
    faces_option,
    hop_option,
    max_memory_option,
    skip_still_option,
    timeout_option,
    window_option,
    worker_threads_option,
    workers_option,
)
from mfer_edge.cli.output_paths import check_not_read

if TYPE_CHECKING:
    from mfer_edge.batch.run import BatchPlan, Execute
    from mfer_edge.isolation.worker import WorkerSetup

LOCAL_CLUSTER = "local"


@dataclass(frozen=True)
class Workers:
    """Where clips are analysed; None for the default."""

    count: int | None
    threads: int | None
    ray: str | None
    gpu_share: float | None

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            click.UsageError: they do not.
        """
        if self.gpu_share is not None and self.ray is None:
            raise click.UsageError("--gpu-share is for --ray")
        if self.ray is not None and Path(self.ray).exists():
            raise click.UsageError(
                f"--ray {self.ray}: this is a file or a folder, not the address of a cluster; "
                "write --ray last"
            )

    def executor(self, setup: WorkerSetup, note: Callable[[str], None]) -> Execute:
        """What analyses the clips of a batch.

        Args:
            note: called with a line when something has to be known.
        """
        if self.ray is not None:
            from mfer_edge.batch.cluster import ClusterOptions, cluster_records

            options = ClusterOptions(self.ray, self.count, self.gpu_share or 0.0)
            on_cluster = replace(setup, threads=self.threads or 1)
            return lambda tasks: cluster_records(tasks, on_cluster, options, note)
        from mfer_edge.batch.local import default_workers, local_records
        from mfer_edge.cpu import core_count

        count = self.count or default_workers(setup.device)
        threads = self.threads or max(1, core_count() // count)
        return lambda tasks: local_records(tasks, replace(setup, threads=threads), count)


@dataclass(frozen=True)
class BatchRequest:
    """What a batch reads and writes, as it was asked for."""

    inputs: tuple[str, ...]
    out: Path
    table_format: str
    bundle: Path | None
    windows: WindowRequest
    adaptation: Path | None
    timeout_s: float | None

    def plan(self) -> BatchPlan:
        """Read the inputs' names, and check everything else that can be before the work.

        Raises:
            MferError: a list, the bundle or an adaptation can't be read, or a package is missing.
            click.UsageError: there is nothing to do, or the windows are impossible.
        """
        from mfer_edge.batch.inputs import read_inputs
        from mfer_edge.batch.lists import import_pyarrow
        from mfer_edge.batch.records import TaskMaker
        from mfer_edge.batch.run import BatchPlan
        from mfer_edge.batch.tables import TableSet
        from mfer_edge.batch.writers import FORMATS
        from mfer_edge.bundle import Bundle

        formats = FORMATS if self.table_format == "both" else (self.table_format,)
        if "parquet" in formats:
            import_pyarrow()
        clips = read_inputs(self.inputs, sys.stdin, self.adaptation)
        if not clips:
            raise click.UsageError("there are no clips in what was given")
        bundle = Bundle.open(self.bundle)
        options = self.windows.options(bundle.manifest)
        adaptations = {clip.adaptation for clip in clips if clip.adaptation is not None}
        tasks = TaskMaker(bundle, options, sorted(adaptations), timeout_s=self.timeout_s)
        tables = TableSet(bundle.manifest.labels, clips)
        read = [*map(Path, self.inputs), *(clip.path for clip in clips), *adaptations]
        self._check_tables([table.name for table in tables.tables], formats, read)
        return BatchPlan(clips, tables, tasks, self.out, formats)

    def _check_tables(
        self, names: Sequence[str], formats: Sequence[str], read: Sequence[Path]
    ) -> None:
        """Check that no file is overwritten but the tables of a batch.

        Raises:
            BatchError: a file has the name of a table, and is none.
            click.UsageError: a table is read.
        """
        from mfer_edge.batch.journal import JOURNAL
        from mfer_edge.errors import BatchError

        tables = [self.out / f"{name}.{kind}" for name in names for kind in formats]
        existing = list(filter(Path.exists, tables))
        check_not_read("--out", existing, read)
        if existing and not (self.out / JOURNAL).exists():
            raise BatchError(
                f"{existing[0]}: there is another file of that name, of no batch (there is no "
                f"{JOURNAL} beside it): choose another folder, or move it"
            )


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", required=True, type=OUTPUT_FOLDER, help="Folder of the tables.")
@click.option("--format", "table_format", type=click.Choice(["csv", "parquet", "both"]),
              default="csv", show_default=True,
              help="Of the tables; Parquet needs the extra batch.")  # fmt: skip
@bundle_option
@device_option
@window_option
@hop_option
@faces_option
@skip_still_option
@adapt_option
@workers_option
@worker_threads_option
@timeout_option
@max_memory_option
@click.option("--ray", is_flag=False, flag_value=LOCAL_CLUSTER, metavar="[ADDRESS]",
              help="Run on the Ray cluster at this address, or on one started here.")  # fmt: skip
@click.option("--gpu-share", type=PositiveNumber(), metavar="F",
              help="With --ray: part of a GPU that each worker takes.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def batch(
    *,
    inputs: tuple[str, ...],
    out: Path,
    table_format: str,
    bundle: Path | None,
    device: str,
    window: float | None,
    hop: float | None,
    faces: str,
    skip_still: float,
    adapt: str,
    workers: int | None,
    threads: int | None,
    timeout_s: float | None,
    max_memory: float | None,
    ray: str | None,
    gpu_share: float | None,
    quiet: bool,
) -> None:
    """Read the emotion in many clips, into tables.

    Each INPUT is a clip, a folder, a quoted pattern, a list (a CSV or Parquet table with a column
    path), or - for paths on stdin. The same command goes on where the last one stopped: what was
    analysed with the same settings is known by its content.
    """
    where = Workers(workers, threads, ray, gpu_share)
    where.check()
    request = BatchRequest(
        inputs=inputs,
        out=out,
        table_format=table_format,
        bundle=bundle,
        windows=WindowRequest(window, hop, faces, skip_still),
        adaptation=adaptation_file(adapt),
        timeout_s=timeout_s,
    )
    limit = None if max_memory is None else int(max_memory * 1e6)
    sys.exit(run(request, where, device, limit, quiet=quiet))


def run(
    request: BatchRequest, where: Workers, device: str, max_memory_bytes: int | None, *, quiet: bool
) -> int:
    """Run a batch; return the exit code."""
    from mfer_edge.batch.journal import Journal
    from mfer_edge.batch.progress import BatchProgress, summary
    from mfer_edge.batch.run import run_batch
    from mfer_edge.isolation.worker import WorkerSetup
    from mfer_edge.outputs.files import make_folder

    plan = request.plan()
    bundle = None if request.bundle is None else request.bundle.absolute()
    setup = WorkerSetup(bundle=bundle, device=device, max_memory_bytes=max_memory_bytes)
    make_folder(request.out, "a batch")
    progress = BatchProgress(sys.stderr, show=sys.stderr.isatty() and not quiet)
    with Journal(request.out) as journal, closing(progress):
        done = run_batch(plan, journal, where.executor(setup, progress.note), progress)
    if not quiet:
        click.echo(summary(done, progress.elapsed_s))
    return FAILED if done.counts.failed else DONE
