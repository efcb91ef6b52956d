"""`mfer-edge train faces` and `train clips`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

INPUT = click.Path(path_type=Path, readable=False)
FOLDER = click.Path(path_type=Path, readable=False, file_okay=False)

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: a CUDA device if PyTorch finds one.",
)


@click.command()
@click.argument("index", type=INPUT)
@click.option("--out", type=FOLDER, required=True, help="Folder of this run.")
@click.option("--start", type=INPUT,
              help="A fer_face.safetensors or compact checkpoint to fine-tune.")  # fmt: skip
@click.option("--frozen", type=click.IntRange(0), default=3, show_default=True,
              help="With --start: first epochs, which train the last layers alone.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(0),
              help="With strong augmentation [default: 28, with --start 3].")  # fmt: skip
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True),
              help="The highest [default: 0.1, with --start or --teacher 0.05].")  # fmt: skip
@click.option("--mix", type=click.FloatRange(0, 1), default=1.0, show_default=True,
              help="With --start: share of the new weights in the mean of new and earlier ones "
              "that is kept.")  # fmt: skip
@click.option("--finish", type=click.IntRange(0), default=9, show_default=True,
              help="Without --start: epochs after those, with mild augmentation.")  # fmt: skip
@click.option("--mixed", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Share of batches of mixed images (mixup, CutMix).")  # fmt: skip
@click.option("--teacher", "teachers", type=INPUT, multiple=True,
              help="A fer_face.safetensors to distill; of several, their mean. The training starts "
              "from the first.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@device_option
def faces(
    index: Path,
    out: Path,
    start: Path | None,
    frozen: int,
    epochs: int | None,
    learning_rate: float | None,
    mix: float,
    finish: int,
    mixed: float,
    teachers: tuple[Path, ...],
    seed: int,
    device: str,
) -> None:
    """Train the compact preset's face network on the images in INDEX.

    Where INDEX has the votes of FER+ they are the targets, and FER-2013's labels those of a second
    classifier. Writes OUT/fer_face.safetensors, which belongs into the folder of --weights, and
    OUT/figures.json: the accuracy on the published test images.
    """
    from train.data.index import read_index
    from train.device import select_device
    from train.train_face import FaceOptions, train_faces

    if start is not None and teachers:
        raise click.UsageError("--start and --teacher: a training starts from one network")
    if start is not None:
        options = FaceOptions.from_network(start, frozen, 3 if epochs is None else epochs)
    else:
        options = FaceOptions.distilling(teachers) if teachers else FaceOptions()
        options = options.with_epochs(28 if epochs is None else epochs, finish)
    if learning_rate is not None:
        options = options.with_learning_rate(learning_rate)
    options = replace(options, seed=seed, mixed=mixed, new_share=mix)
    chosen = select_device(device)
    train_faces(read_index(index), out, options, device=chosen, say=click.echo)


@click.command("clips")
@click.argument("folder", type=FOLDER)
@click.option("--checkpoint", type=INPUT, required=True,
              help="A trained model's file, or its folder.")  # fmt: skip
@click.option("--cache", type=FOLDER, default=Path("cache"), show_default=True,
              help="Folder of features, which runs may share.")  # fmt: skip
def clips(folder: Path, checkpoint: Path, cache: Path) -> None:
    """Measure a model on clips of people in no training data, one person left out at a time.

    FOLDER holds PERSON-SENTENCE-EMOTION_01.mp4: 01 neutral, 02 sad, 03 happy, 04 surprised,
    05 fearful, 06 angry. Each person's fusion is fitted on the other people's clips. The folder of
    a model that `train visual` made tells its false alarms on ordinary talking faces too.
    """
    from train.evaluate.clip_report import report_clips

    click.echo(report_clips(folder, checkpoint, cache))
