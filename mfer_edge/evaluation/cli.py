"""`mfer-edge evaluate`: a model beside labels that people gave."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.analyzers import WindowRequest
from mfer_edge.cli.batch import Workers
from mfer_edge.cli.errors import DONE, FAILED, print_error
from mfer_edge.cli.options import (
    INPUT,
    OUTPUT_FOLDER,
    STDOUT,
    TEXT_OUTPUT,
    adapt_option,
    adaptation_file,
    bundle_option,
    device_option,
    hop_option,
    max_memory_option,
    timeout_option,
    window_option,
    worker_threads_option,
    workers_option,
)
from mfer_edge.cli.output_paths import OutputPaths, check_not_read

if TYPE_CHECKING:
    from mfer_edge.evaluation.annotations import LabelMap
    from mfer_edge.evaluation.report import Report
    from mfer_edge.evaluation.run import EvaluationPlan


@dataclass(frozen=True)
class EvaluationRequest:
    """What is compared, as it was asked for."""

    files: tuple[Path, ...]
    names: LabelMap
    tiers: tuple[str, ...]
    bundle: Path | None
    windows: WindowRequest
    adaptation: Path | None
    timeout_s: float | None

    def plan(self, folder: Path) -> EvaluationPlan:
        """Read the labels, and check everything else that can be before the work.

        Raises:
            MferError: labels, the bundle or the adaptation can't be read, or don't go together.
            click.UsageError: the windows are impossible.
        """
        from mfer_edge.batch.records import TaskMaker
        from mfer_edge.bundle import Bundle
        from mfer_edge.evaluation.annotations import read_annotations
        from mfer_edge.evaluation.run import EvaluationPlan

        bundle = Bundle.open(self.bundle)
        read = read_annotations(self.files, self.tiers)
        annotations = self.names.apply(read, bundle.manifest.labels)
        adaptations = [] if self.adaptation is None else [self.adaptation]
        options = self.windows.options(bundle.manifest)
        tasks = TaskMaker(bundle, options, adaptations, timeout_s=self.timeout_s)
        return EvaluationPlan(annotations, bundle, tasks, folder, self.adaptation)


@click.command()
@click.argument("labels", nargs=-1, required=True, type=INPUT, metavar="LABELS...")
@click.option("--map", "names", multiple=True, metavar="THEIRS=OURS",
              help="What a label is called by the model; nothing after = leaves it out. "
              "May be repeated.")  # fmt: skip
@click.option("--tier", "tiers", multiple=True, metavar="NAME",
              help="Of ELAN files: the tiers to read; may be repeated.")  # fmt: skip
@click.option("--json", "json_out", type=TEXT_OUTPUT, metavar="PATH|-",
              help="Write the report as JSON.")  # fmt: skip
@click.option("--work", type=OUTPUT_FOLDER, metavar="DIR",
              help="Keep what was analysed, to go on later; may be a batch's folder.")  # fmt: skip
@bundle_option
@device_option
@window_option
@hop_option
@adapt_option
@workers_option
@worker_threads_option
@timeout_option
@max_memory_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def evaluate(
    *,
    labels: tuple[Path, ...],
    names: tuple[str, ...],
    tiers: tuple[str, ...],
    json_out: Path | None,
    work: Path | None,
    bundle: Path | None,
    device: str,
    window: float | None,
    hop: float | None,
    adapt: str,
    workers: int | None,
    threads: int | None,
    timeout_s: float | None,
    max_memory: float | None,
    quiet: bool,
) -> None:
    """Compare the model with labels that people gave, before you rely on it.

    LABELS are tables (CSV or Parquet) with the columns path and label, and optionally start_s and
    end_s, and person; or ELAN files (.eaf).
    """
    from mfer_edge.evaluation.annotations import LabelMap

    try:
        mapping = LabelMap.parse(names)
    except ValueError as error:
        raise click.UsageError(f"--map {error}") from error
    windows = WindowRequest(window, hop, "main", 0.0)
    adaptation = adaptation_file(adapt)
    OutputPaths(json=json_out).check(labels, [adaptation])
    request = EvaluationRequest(labels, mapping, tiers, bundle, windows, adaptation, timeout_s)
    limit = None if max_memory is None else int(max_memory * 1e6)
    where = Workers(workers, threads, None, None)
    with working_folder(work) as folder:
        sys.exit(run(request, where, device, limit, folder, json_out, quiet=quiet))


def run(
    request: EvaluationRequest,
    where: Workers,
    device: str,
    max_memory_bytes: int | None,
    folder: Path,
    json_out: Path | None,
    *,
    quiet: bool,
) -> int:
    """Evaluate; return the exit code."""
    from mfer_edge.batch.journal import Journal
    from mfer_edge.batch.progress import BatchProgress
    from mfer_edge.evaluation.report import Report
    from mfer_edge.evaluation.run import evaluate as evaluate_plan
    from mfer_edge.isolation.worker import WorkerSetup
    from mfer_edge.outputs.files import make_folder

    plan = request.plan(folder)
    if json_out is not None:
        check_not_read("--json", [json_out], {one.path for one in plan.annotations})
    bundle = None if request.bundle is None else request.bundle.absolute()
    setup = WorkerSetup(bundle=bundle, device=device, max_memory_bytes=max_memory_bytes)
    make_folder(folder, "an evaluation")
    progress = BatchProgress(sys.stderr, show=sys.stderr.isatty() and not quiet)
    with Journal(folder) as journal, closing(progress):
        done = evaluate_plan(plan, journal, where.executor(setup, progress.note), progress)
    for failure in done.uncompared:
        print_error(failure)
    report = Report.of(done)
    if not quiet and json_out != STDOUT:
        click.echo(report.to_text())
    if json_out is not None:
        write_json(report, plan, json_out)
    return FAILED if done.failures else DONE


def write_json(report: Report, plan: EvaluationPlan, out: Path) -> None:
    """Write a report.

    Raises:
        OutputError: it can't be written.
    """
    from mfer_edge.outputs.files import write_text

    text = json.dumps(report.to_dict(plan.bundle), indent=2, ensure_ascii=False) + "\n"
    if out == STDOUT:
        click.echo(text, nl=False)
    else:
        write_text(out, text)


@contextmanager
def working_folder(work: Path | None) -> Iterator[Path]:
    """The folder of the journal: a temporary one, if none is given."""
    if work is not None:
        yield work
        return
    with TemporaryDirectory(prefix="mfer-edge-") as folder:
        yield Path(folder)
