"""`mfer-edge train`: from folders of recordings to a model and the tables that judge it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfer_edge.errors import MferError

if TYPE_CHECKING:
    from train.data.context import DataContext
    from train.data.index import Entry
    from train.evaluate.predictions import Predictions
    from train.stages import Work

PRESET_NAMES = ("compact", "paper")
INPUT = click.Path(path_type=Path, readable=False)
FOLDER = click.Path(path_type=Path, readable=False, file_okay=False)
OUTPUT = click.Path(path_type=Path, readable=False, dir_okay=False)


class TrainGroup(click.Group):
    """Names the extra to install where a package that training needs is missing."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImportError as error:
            raise MferError(
                f"{error.name} is not installed: pip install 'mfer-edge[cpu,train]'"
            ) from error


@click.group(cls=TrainGroup)
def train() -> None:
    """Train the arms and their fusion, and judge them on people that they have not met."""


Command = Callable[..., None]


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Bundle arguments and options that several commands have in common."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


with_materials = with_options(
    click.argument("index", type=INPUT),
    click.option("--preset", type=click.Choice(PRESET_NAMES), default="compact",
                 show_default=True),
    click.option("--weights", type=FOLDER, default=Path("weights"), show_default=True,
                 help="Folder of published backbones."),
    click.option("--random-init", is_flag=True,
                 help="Untrained backbones: what comes of them means nothing."),
    click.option("--cache", type=FOLDER, default=Path("cache"), show_default=True,
                 help="Folder of features, which many runs may share."),
)  # fmt: skip

with_run = with_options(
    click.option("--out", type=FOLDER, required=True, help="Folder of this run."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
    click.option("--tensorboard", is_flag=True, help="Write scalars for TensorBoard too."),
)

with_fine_tuning = with_options(
    click.option("--finetune-voice", type=click.IntRange(0), metavar="BLOCKS",
                 help="Last blocks of the speech backbone to train too [default: preset's]."),
)  # fmt: skip


@train.command("index")
@click.argument("datasets", nargs=-1, required=True, metavar="NAME=FOLDER...")
@click.option("--out", type=OUTPUT, required=True, help="The table to write, as CSV.")
def index_command(datasets: tuple[str, ...], out: Path) -> None:
    """List the files of datasets, each read and checked, in one table.

    NAME is crema-d, ckplus, fer2013, own, ravdess, saudi, shemo or urdu; `own` is any folder of
    EMOTION/ACTOR_CLIP.wav (or a video, or a picture).
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
@with_materials
@click.option("--modality", type=click.Choice(["both", "voice", "face"]), default="both",
              show_default=True)  # fmt: skip
def features(modality: str, **common: Any) -> None:
    """Run the frozen backbones over every file of INDEX once, and keep what they make of it.

    Work that was stopped goes on where it was.
    """
    entries, materials = materials_of(**common)
    heard = [entry for entry in entries if entry.has_sound]
    seen = [entry for entry in entries if entry.has_pictures or entry.kind == "image"]
    if modality != "face" and heard:
        materials.voice_features(heard)
    if modality != "voice" and seen:
        materials.face_features(seen)
    size = sum(file.stat().st_size for file in materials.cache.folder.rglob("*.npz"))
    click.echo(f"{materials.cache.folder}: {size / 1e6:.0f} MB")


@train.command()
@click.argument("index", type=INPUT)
@click.option("--out", type=FOLDER, required=True, help="Folder of this run.")
@click.option("--epochs", type=click.IntRange(0), default=28, show_default=True,
              help="With strong random changes.")  # fmt: skip
@click.option("--finish", type=click.IntRange(0), default=9, show_default=True,
              help="Epochs after those, with mild ones.")  # fmt: skip
@click.option("--teacher", type=INPUT,
              help="A fer_face.safetensors to start from and learn from.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def faces(
    index: Path, out: Path, epochs: int, finish: int, teacher: Path | None, seed: int
) -> None:
    """Train the compact preset's face network on the pictures in INDEX.

    Leaves OUT/fer_face.safetensors, which belongs into the folder of --weights.
    """
    from train.data.index import read_index
    from train.train_face import FaceOptions, train_faces

    train_faces(read_index(index), out, FaceOptions(epochs, finish, seed), teacher, click.echo)


@train.command()
@with_materials
@with_run
def visual(**common: Any) -> None:
    """Train the visual arm; leaves OUT/visual.safetensors."""
    from train.train_arms import train_visual_arm

    (entries, materials), work = materials_of(**common), work_of(**common)
    train_visual_arm(materials, entries, common["out"], work, everything=False)
    click.echo(f"{common['out']}: visual arm trained")


@train.command()
@with_materials
@with_run
@with_fine_tuning
def audio(finetune_voice: int | None, **common: Any) -> None:
    """Train the audio arm, one stage after the other; leaves OUT/audio.safetensors."""
    from train.train_arms import train_audio_arm

    (entries, materials), work = materials_of(**common), work_of(**common)
    last = materials.preset.fine_tuned if finetune_voice is None else finetune_voice
    train_audio_arm(materials, entries, common["out"], work, everything=False, fine_tuned=last)
    click.echo(f"{common['out']}: audio arm trained")


@train.command()
@with_materials
@with_run
@click.option("--crossval", type=FOLDER, help="Calibrate by this cross-validation's predictions.")
def fusion(crossval: Path | None, **common: Any) -> None:
    """Join the trained arms in OUT and calibrate them; leaves OUT/model.safetensors."""
    from train.fuse import read_unseen

    (entries, materials), work = materials_of(**common), work_of(**common)
    unseen = read_unseen(crossval, materials.preset) if crossval else []
    join(entries, materials, work, common["out"], unseen)


@train.command("all")
@with_materials
@with_run
@with_fine_tuning
@click.option("--crossval", type=FOLDER,
              help="Calibrate by this cross-validation, and train on every actor.")  # fmt: skip
def all_stages(finetune_voice: int | None, crossval: Path | None, **common: Any) -> None:
    """Train visual arm, audio arm and fusion; leaves OUT/model.safetensors."""
    from train.fuse import read_unseen
    from train.train_arms import train_audio_arm, train_visual_arm

    (entries, materials), work = materials_of(**common), work_of(**common)
    unseen = read_unseen(crossval, materials.preset) if crossval else []
    everything, out = crossval is not None, common["out"]
    last = materials.preset.fine_tuned if finetune_voice is None else finetune_voice
    train_visual_arm(materials, entries, out, work, everything)
    train_audio_arm(materials, entries, out, work, everything, last)
    join(entries, materials, work, out, unseen)


@train.command()
@with_materials
@with_run
@with_fine_tuning
@click.option("--protocol", type=click.Choice(["paper", "subject", "loso"]), default="subject",
              show_default=True, help="paper: random folds, speaker-dependent.")  # fmt: skip
@click.option("--classes", type=click.Choice(["8", "4"]), default="8", show_default=True,
              help="8: RAVDESS and your own; 4: the first audio stage's datasets.")  # fmt: skip
@click.option("--finetune-face", type=click.IntRange(0), default=0, show_default=True,
              metavar="LAYERS", help="Last layers of the face backbone to train too.")  # fmt: skip
@click.option("--svm", is_flag=True, help="Also judge a support vector machine on the features.")
@click.option("--no-first-stage", is_flag=True, help="Without the audio stage on four emotions.")
@click.option("--fold", "only", multiple=True, metavar="NAME",
              help="Go through this fold alone; may be repeated.")  # fmt: skip
def crossval(
    finetune_voice: int | None,
    protocol: str,
    classes: str,
    finetune_face: int,
    svm: bool,
    no_first_stage: bool,
    only: tuple[str, ...],
    **common: Any,
) -> None:
    """Train anew in every fold and keep what each says of the people it has not met."""
    from train.crossval import Clips, Plan, cross_validate, train_first_stage
    from train.data.context import eight_class, four_class
    from train.evaluate.predictions import read_run
    from train.evaluate.report import report_text
    from train.labels import EMOTIONS, FOUR_EMOTIONS

    (entries, materials), work = materials_of(**common), work_of(**common)
    last = materials.preset.fine_tuned if finetune_voice is None else finetune_voice
    eight = classes == "8"
    chosen = eight_class(entries) if eight else four_class(entries)
    clips = Clips.gather(chosen, EMOTIONS if eight else FOUR_EMOTIONS, materials)
    first = None
    if eight and not no_first_stage:
        first = train_first_stage(materials, entries, work.stage("audio-one"))
    plan = Plan(protocol, common["seed"], last, finetune_face, svm, only)
    command = shlex.join(["mfer-edge", *sys.argv[1:]])
    cross_validate(materials, clips, first, plan, common["out"], work, command)
    click.echo(report_text([read_run(common["out"])]))


@train.command()
@click.argument("runs", nargs=-1, required=True, type=INPUT)
@click.option("--out", type=FOLDER, required=True, help="Folder for tables and plots.")
def report(runs: tuple[Path, ...], out: Path) -> None:
    """Make tables and plots of cross-validations."""
    from train.evaluate.report import write_report

    for path in write_report(runs, out):
        click.echo(path)


def materials_of(
    index: Path, preset: str, weights: Path, random_init: bool, cache: Path, **_: Any
) -> tuple[list[Entry], DataContext]:
    """Read the index, and make ready what its files are going to need."""
    from train.data.context import DataContext
    from train.data.index import read_index
    from train.presets import PRESETS

    if random_init:
        click.echo("warning: the backbones are random: what comes of them means nothing", err=True)
    return read_index(index), DataContext(PRESETS[preset], weights, cache, random_init)


def work_of(out: Path, seed: int, tensorboard: bool, **_: Any) -> Work:
    """Say where and how a run's stages work."""
    from train.stages import Work

    return Work(out, seed, tensorboard=tensorboard)


def join(
    entries: Sequence[Entry],
    materials: DataContext,
    work: Work,
    out: Path,
    unseen: Sequence[Predictions],
) -> None:
    """Assemble the model and print how good its parts are."""
    from train.fuse import assemble

    for figures in assemble(materials, entries, out, work, unseen):
        click.echo(
            f"{figures.what}: unweighted recall {figures.unweighted_recall:.3f}, accuracy "
            f"{figures.accuracy:.3f}, calibration error {figures.calibration_error:.3f}"
        )
    click.echo(f"{out}: model trained; `mfer-edge export --checkpoint {out}` makes a bundle of it")
