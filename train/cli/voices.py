"""`mfer-edge train voices`."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli.faces import FOLDER, INPUT, device_option


@click.command()
@click.argument("index", type=INPUT)
@click.option("--weights", type=FOLDER, default=Path("weights"), show_default=True,
              help="Folder of the published backbone.")  # fmt: skip
@click.option("--random-init", is_flag=True, help="An untrained backbone, to try the command.")
@click.option("--cache", type=FOLDER, default=Path("cache"), show_default=True,
              help="Folder of features, which runs may share.")  # fmt: skip
@click.option("--out", type=FOLDER, required=True, help="Folder of this run.")
@click.option("--without", multiple=True, metavar="PROTOCOL:FOLD",
              help="Train on none of the recordings that this fold of `train crossval` tests, "
              "such as corpus:nemo or subject:2.")  # fmt: skip
@click.option("--train-only", multiple=True, metavar="NAME",
              help="As in the cross-validation that --without names a fold of.")  # fmt: skip
@click.option("--trainings", type=click.IntRange(1), default=3, show_default=True,
              help="With different seeds; the mean of their weights is kept.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@device_option
def voices(
    index: Path,
    weights: Path,
    random_init: bool,
    cache: Path,
    out: Path,
    without: tuple[str, ...],
    train_only: tuple[str, ...],
    trainings: int,
    seed: int,
    device: str,
) -> None:
    """Fine-tune the compact preset's speech backbone on all corpora of INDEX.

    Writes OUT/whisper_tiny_en_encoder.safetensors, which takes the place of the published one in
    the folder of --weights: features are extracted by it, and the arm is trained on those. A CPU
    takes many hours.
    """
    from train.data.context import DataContext
    from train.data.index import read_index
    from train.device import select_device
    from train.presets import PRESETS
    from train.run import RunContext
    from train.voices.tuning import LeftOut, train_voices

    entries = read_index(index)
    run = RunContext(
        DataContext(PRESETS["compact"], weights, cache, random_init), entries, out, seed
    )
    written = train_voices(
        run,
        left_out=[LeftOut.parse(text) for text in without],
        train_only=train_only,
        trainings=trainings,
        device=select_device(device),
        say=click.echo,
    )
    click.echo(f"{written}: written")
