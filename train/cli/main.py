"""`mfer-edge train`: from folders of recordings to a model and its evaluation."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfer_edge.errors import MferError
from mfer_edge.install import install_hint
from train.cli.faces import clips, faces
from train.cli.paper import paper
from train.cli.voices import voices

if TYPE_CHECKING:
    from train.data.context import DataContext
    from train.data.index import Entry
    from train.evaluate.predictions import Predictions
    from train.run import RunContext

PRESET_NAMES = ("compact", "paper")
INPUT = click.Path(path_type=Path, readable=False)
FOLDER = click.Path(path_type=Path, readable=False, file_okay=False)
OUTPUT = click.Path(path_type=Path, readable=False, dir_okay=False)


class TrainGroup(click.Group):
    """Names the extra to install if a package that training needs is missing."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImportError as error:
            raise MferError(f"{error.name} is not installed: {install_hint('train')}") from error


@click.group(cls=TrainGroup)
def train() -> None:
    """Train the arms and their fusion, and evaluate them on unseen people."""


train.add_command(faces)
train.add_command(clips)
train.add_command(voices)
train.add_command(paper)

Command = Callable[..., None]


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Combine arguments and options that several commands share."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


data_options = with_options(
    click.argument("index", type=INPUT),
    click.option("--preset", type=click.Choice(PRESET_NAMES), default="compact",
                 show_default=True),
    click.option("--weights", type=FOLDER, default=Path("weights"), show_default=True,
                 help="Folder of published backbones."),
    click.option("--random-init", is_flag=True,
                 help="Untrained backbones: the results mean nothing."),
    click.option("--cache", type=FOLDER, default=Path("cache"), show_default=True,
                 help="Folder of features, which runs may share."),
)  # fmt: skip

run_options = with_options(
    click.option("--out", type=FOLDER, required=True, help="Folder of this run."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
    click.option("--tensorboard", is_flag=True, help="Write scalars for TensorBoard too."),
)

fine_tuning_option = click.option(
    "--finetune-voice", type=click.IntRange(0), metavar="BLOCKS",
    help="Last blocks of the speech backbone to train too [default: preset's].",
)  # fmt: skip

clips_option = click.option(
    "--clips", type=FOLDER,
    help="Fit the fusion on these clips of people in no training data: see `train clips`.",
)  # fmt: skip


@dataclass(frozen=True)
class DataArguments:
    """Arguments of a command that name its data."""

    index: Path
    preset: str
    weights: Path
    random_init: bool
    cache: Path

    def context(self, entries: Sequence[Entry]) -> DataContext:
        """Backbones and features; ordinary talk of the index serves as babble."""
        from train.data.context import DataContext
        from train.presets import PRESETS

        if self.random_init:
            click.echo("warning: the backbones are random: the results mean nothing", err=True)
        talk = [entry for entry in entries if entry.soft and entry.kind == "audio"]
        return DataContext(PRESETS[self.preset], self.weights, self.cache, self.random_init, talk)


def takes_data(command: Command) -> Command:
    """Add the arguments that name data, and pass them as `data: DataArguments`."""

    @data_options
    @functools.wraps(command)
    def with_data(
        *, index: Path, preset: str, weights: Path, random_init: bool, cache: Path, **others: object
    ) -> None:
        command(data=DataArguments(index, preset, weights, random_init, cache), **others)

    return with_data


def takes_run(command: Command) -> Command:
    """Add the arguments that describe a run, and pass them as `run: RunContext`."""

    @takes_data
    @run_options
    @functools.wraps(command)
    def with_run(
        *, data: DataArguments, out: Path, seed: int, tensorboard: bool, **others: object
    ) -> None:
        from train.data.index import read_index
        from train.run import RunContext

        entries = read_index(data.index)
        command(run=RunContext(data.context(entries), entries, out, seed, tensorboard), **others)

    return with_run


@train.command("index")
@click.argument("datasets", nargs=-1, required=True, metavar="NAME=FOLDER...")
@click.option("--out", type=OUTPUT, required=True, help="The table to write, as CSV.")
def index_command(datasets: tuple[str, ...], out: Path) -> None:
    """List the files of datasets, each read and checked, in one table.

    NAME is a dataset, such as ravdess or nemo; `own` is any folder of EMOTION/ACTOR_CLIP.wav (or a
    video, or an image), and `ordinary` one of people who talk without acting.
    """
    from mfer_edge.outputs.files import check_output
    from train.data.catalogue import DATASETS
    from train.data.index import write_index
    from train.data.scan import counts_table, gather, rejected_table
    from train.progress import progress_bar

    roots = []
    for pair in datasets:
        name, equals, folder = pair.partition("=")
        if not equals or name not in DATASETS:
            raise click.UsageError(
                f"{pair}: not NAME=FOLDER with a NAME of {', '.join(sorted(DATASETS))}"
            )
        roots.append((name, Path(folder)))
    check_output(out)
    with progress_bar("reading") as progress:
        gathered = gather(roots, progress)
    write_index(gathered.entries, out)
    click.echo(counts_table(gathered.entries))
    if gathered.rejected:
        click.echo("\n" + rejected_table(gathered.rejected))
    for note in gathered.notes:
        click.echo(f"note: {note}")
    click.echo(f"\n{out}: {len(gathered.entries)} files, {len(gathered.rejected)} left out")


@train.command()
@takes_data
@click.option("--modality", type=click.Choice(["both", "voice", "face"]), default="both",
              show_default=True)  # fmt: skip
def features(data: DataArguments, modality: str) -> None:
    """Run the frozen backbones over every file of INDEX once, and cache their features.

    A run that was stopped is resumed.
    """
    from train.data.index import read_index

    entries = read_index(data.index)
    context = data.context(entries)
    spoken = [entry for entry in entries if entry.has_sound]
    shown = [entry for entry in entries if entry.has_pictures or entry.kind == "image"]
    if modality != "face" and spoken:
        context.voice_features(spoken)
    if modality != "voice" and shown:
        context.face_features(shown)
    size = sum(file.stat().st_size for file in context.cache.folder.rglob("*.npz"))
    click.echo(f"{context.cache.folder}: {size / 1e6:.0f} MB")


@train.command()
@takes_run
def visual(run: RunContext) -> None:
    """Train the visual arm; writes OUT/visual.safetensors."""
    from train.train_arms import train_visual_arm

    train_visual_arm(run, everything=False)
    click.echo(f"{run.out}: visual arm trained")


@train.command()
@takes_run
@fine_tuning_option
def audio(run: RunContext, finetune_voice: int | None) -> None:
    """Train the audio arm, one stage after the other; writes OUT/audio.safetensors."""
    from train.train_arms import train_audio_arm

    train_audio_arm(run, everything=False, fine_tuned=blocks_of(run, finetune_voice))
    click.echo(f"{run.out}: audio arm trained")


@train.command()
@takes_run
@click.option("--crossval", type=FOLDER, help="Calibrate by this cross-validation's predictions.")
@clips_option
def fusion(run: RunContext, crossval: Path | None, clips: Path | None) -> None:
    """Fuse the trained arms in OUT and calibrate them; writes OUT/model.safetensors."""
    from train.fuse import read_unseen

    fuse(run, read_unseen(crossval, run.preset) if crossval else [], clips)


@train.command("all")
@takes_run
@fine_tuning_option
@click.option("--crossval", type=FOLDER,
              help="Calibrate by this cross-validation, and train on every actor.")  # fmt: skip
@clips_option
def all_stages(
    run: RunContext, finetune_voice: int | None, crossval: Path | None, clips: Path | None
) -> None:
    """Train visual arm, audio arm and fusion; writes OUT/model.safetensors."""
    from train.fuse import read_unseen
    from train.train_arms import train_audio_arm, train_visual_arm

    unseen = read_unseen(crossval, run.preset) if crossval else []
    everything = crossval is not None
    train_visual_arm(run, everything=everything)
    train_audio_arm(run, everything=everything, fine_tuned=blocks_of(run, finetune_voice))
    fuse(run, unseen, clips)


@train.command()
@takes_run
@fine_tuning_option
@click.option("--protocol", type=click.Choice(["paper", "subject", "loso", "corpus"]),
              default="subject", show_default=True,
              help="paper: random, speaker-dependent; corpus: a dataset left out.")  # fmt: skip
@click.option("--classes", type=click.Choice(["8", "7", "4"]),
              help="4: datasets of the first audio stage [default: preset's].")  # fmt: skip
@click.option("--modality", type=click.Choice(["both", "voice"]), default="both",
              show_default=True, help="Protocol corpus is for voices alone.")  # fmt: skip
@click.option("--finetune-face", type=click.IntRange(0), default=0, show_default=True,
              metavar="LAYERS", help="Last layers of the face backbone to train too.")  # fmt: skip
@click.option("--svm", is_flag=True, help="Also evaluate a support vector machine.")
@click.option("--no-first-stage", is_flag=True, help="Without the audio stage on four emotions.")
@click.option("--train-only", multiple=True, metavar="DATASET",
              help="Protocol corpus: never leave this dataset out; may be repeated.")  # fmt: skip
@click.option("--adapt-recordings", default="5 10 20 50", show_default=True, metavar="'N...'",
              help="Protocol corpus: adapt to so many unlabelled recordings.")  # fmt: skip
@click.option("--fold", "only", multiple=True, metavar="NAME",
              help="Run this fold alone; may be repeated.")  # fmt: skip
def crossval(
    run: RunContext,
    finetune_voice: int | None,
    protocol: str,
    classes: str | None,
    modality: str,
    finetune_face: int,
    svm: bool,
    no_first_stage: bool,
    train_only: tuple[str, ...],
    adapt_recordings: str,
    only: tuple[str, ...],
) -> None:
    """Train anew in every fold, and write predictions of the people left out."""
    from train.crossval import Clips, CrossValidation, CrossvalOptions
    from train.data.context import first_stage_clips, label_clips
    from train.evaluate.report import report_text
    from train.evaluate.run_report import read_report
    from train.labels import FOUR_EMOTIONS, LABEL_SETS
    from train.train_arms import train_first_stage

    options = CrossvalOptions(
        protocol,
        blocks_of(run, finetune_voice),
        finetune_face,
        baseline=svm,
        only=only,
        faces=modality == "both",
        train_only=train_only,
        adapted_to=counts_of(adapt_recordings) if protocol == "corpus" else (),
    )
    labels = LABEL_SETS[int(classes)] if classes else run.preset.labels
    first_stage = None
    if labels == FOUR_EMOTIONS:
        chosen = first_stage_clips(run.entries)
    else:
        chosen = label_clips(run.entries, run.preset)
        if not options.visual:
            chosen = [entry for entry in chosen if entry.has_sound]
        first_stage = None if no_first_stage else train_first_stage(run)
    clips = Clips.extract(run.data, chosen, labels, faces=options.visual)
    command = shlex.join(["mfer-edge", *sys.argv[1:]])
    CrossValidation(run, clips, options, first_stage=first_stage, command=command).run_folds()
    click.echo(report_text([read_report(run.out)]))


@train.command()
@click.argument("runs", nargs=-1, required=True, type=INPUT)
@click.option("--out", type=FOLDER, required=True, help="Folder for tables and plots.")
def report(runs: tuple[Path, ...], out: Path) -> None:
    """Make tables and plots of cross-validations."""
    from train.evaluate.report import write_report

    for path in write_report(runs, out):
        click.echo(path)


def blocks_of(run: RunContext, given: int | None) -> int:
    """Blocks of the speech backbone to fine-tune: as given, or the preset's."""
    return run.preset.fine_tuned if given is None else given


def counts_of(text: str) -> tuple[int, ...]:
    """Numbers of recordings, as given to --adapt-recordings."""
    try:
        counts = tuple(map(int, text.replace(",", " ").split()))
    except ValueError:
        counts = (0,)
    if any(count < 1 for count in counts):
        raise click.UsageError(f"--adapt-recordings {text!r}: not whole numbers from 1")
    return counts


def fuse(run: RunContext, unseen: list[Predictions], clips: Path | None) -> None:
    """Assemble the model, and print its accuracy and calibration."""
    from train.fuse import assemble

    for figures in assemble(run, unseen, clips):
        click.echo(
            f"{figures.what}: unweighted recall {figures.unweighted_recall:.3f}, accuracy "
            f"{figures.accuracy:.3f}, calibration error {figures.calibration_error:.3f}"
        )
    click.echo(
        f"{run.out}: model trained; `mfer-edge export --checkpoint {run.out}` makes a bundle of it"
    )
