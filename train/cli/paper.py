"""`mfer-edge train paper`."""

from __future__ import annotations

from pathlib import Path

import click

from mfer_edge.errors import MferError

FOLDER = click.Path(path_type=Path, readable=False, file_okay=False)
FIRST_STAGE = ("crema-d", "shemo", "saudi", "urdu")  # voices of four emotions


@click.command()
@click.option("--ravdess", type=FOLDER, required=True, help="Folder of RAVDESS.")
@click.option("--crema-d", type=FOLDER, help="Folder of CREMA-D.")
@click.option("--shemo", type=FOLDER, help="Folder of ShEMO.")
@click.option("--saudi", type=FOLDER, help="Folder of the Saudi Dialect Corpus.")
@click.option("--urdu", type=FOLDER, help="Folder of URDU.")
@click.option("--weights", type=FOLDER, help="Folder of published backbones.")
@click.option("--download", is_flag=True, help="Fetch them from the model hub.")
@click.option("--random-init", is_flag=True,
              help="Untrained backbones: the results mean nothing.")  # fmt: skip
@click.option("--out", type=FOLDER, required=True, help="Folder of this run.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Read the data sets, estimate, and write nothing.")
def paper(
    ravdess: Path,
    weights: Path | None,
    download: bool,
    random_init: bool,
    out: Path,
    seed: int,
    dry_run: bool,
    **others: Path | None,
) -> None:
    """Train the paper's model in one go: from data sets to tables and a bundle.

    Index, features, cross-validation under both protocols, the three stages, tables, bundle. It
    says first what they take. A run that was stopped goes on with the same command.
    """
    given = {
        "--weights": weights is not None, "--download": download, "--random-init": random_init,
    }  # fmt: skip
    if sum(given.values()) != 1:
        raise click.UsageError(f"name one of {', '.join(given)}")
    from train.data.index import read_index
    from train.data.scan import counts_table, gather
    from train.paper import PaperRun, plan, plan_text, train_paper
    from train.progress import progress_bar

    named = {name.replace("_", "-"): folder for name, folder in others.items()}
    sources = [("ravdess", ravdess)]
    sources += [(name, folder) for name in FIRST_STAGE if (folder := named[name]) is not None]
    run = PaperRun(tuple(sources), out, weights or out / "weights", random_init, seed)
    if run.index.is_file():
        run.claim_folder()
        entries = read_index(run.index)
        gathered = None
    else:
        with progress_bar("reading") as progress:
            gathered = gather(sources, progress)
        entries = gathered.entries
    click.echo(counts_table(entries))
    click.echo(plan_text(plan(run, entries, download=download)))
    if dry_run:
        return
    if download:
        run.claim_folder()
        fetch_weights(run.weights)
    train_paper(run, gathered, export_bundle, click.echo)
    click.echo(f"{run.report / 'report.md'}: tables; {run.bundle}: bundle")


def fetch_weights(weights: Path) -> None:
    """Fetch the paper's backbones from the model hub into a folder.

    Raises:
        MferError: `huggingface_hub` is not installed, or a file can't be had.
    """
    from train.models.hub import Hub, Pin
    from train.models.registry import FACE_BACKBONES, SPEECH_BACKBONES
    from train.presets import PAPER

    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MferError(
            f"{error.name} is not installed: pip install 'mfer-edge[cpu,train,paper]'"
        ) from error
    hub = Hub(lambda line: click.echo(line, err=True))
    for spec in (FACE_BACKBONES[PAPER.face], SPEECH_BACKBONES[PAPER.speech]):
        if spec.hub:
            hub.fetch(spec.hub, Pin.of(spec.hub.repo), spec.licence).put_into(weights, spec.hub)


def export_bundle(checkpoint: Path, bundle: Path) -> None:
    """Export a model for CPUs with `mfer-edge export`, its checks included.

    Raises:
        MferError: it failed.
    """
    from mfer_edge.cli.main import COMMANDS, load_command

    command = load_command("export", COMMANDS["export"])
    arguments = ["--checkpoint", str(checkpoint), "--int8", "--out", str(bundle)]
    command.main(arguments, standalone_mode=False)
