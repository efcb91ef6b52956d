"""`mfer-edge export`: from a model to a bundle, with the proof that nothing was lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from mfer_edge.errors import MferError

if TYPE_CHECKING:
    from export.checkpoint import Source
    from mfer_edge.bundle import Bundle
    from mfer_edge.manifest import Manifest

INPUT = click.Path(path_type=Path, readable=False)
PACKAGE = "-"  # what `--list` stands for without a bundle's name
MODELS = ("--checkpoint", "--weights", "--random-init")
PRECISIONS = ("--fp32", "--fp16", "--int8", "--int8-gpu")


@click.command()
@click.option(
    "--preset",
    type=click.Choice(["compact", "paper"]),
    help="Architecture [default: the checkpoint's, or compact].",
)
@click.option(
    "--checkpoint", type=INPUT, help="Trained model [default: compact's, in the package]."
)
@click.option("--weights", type=INPUT, help="Folder of published backbones, under untrained arms.")
@click.option("--random-init", is_flag=True, help="An untrained model, to measure speed with.")
@click.option("--fp32", is_flag=True, help="Single precision [default].")
@click.option("--fp16", is_flag=True, help="Half precision, for GPUs.")
@click.option("--int8", is_flag=True, help="8-bit products: small, for CPUs.")
@click.option(
    "--int8-gpu", is_flag=True, help="8-bit products, their scales fixed on the clips, for GPUs."
)
@click.option(
    "--merge-tokens",
    type=click.IntRange(1),
    metavar="R",
    help="Approximate: merge R tokens in each block of the face network's transformer.",
)
@click.option("--tensorrt", is_flag=True, help="Build TensorRT engines for this machine too.")
@click.option("--bundle", type=INPUT, help="With --tensorrt: build them for this bundle.")
@click.option(
    "--verify",
    multiple=True,
    type=INPUT,
    metavar="CLIP",
    help="A real clip to compare with PyTorch on; may be repeated.",
)
@click.option(
    "--bisect",
    is_flag=True,
    help="Where a network fails, name the operator at which it departs from PyTorch.",
)
@click.option("--out", type=INPUT, help="Folder [default: PRESET-PRECISION].")
@click.option(
    "--list",
    "listed",
    is_flag=False,
    flag_value=PACKAGE,
    metavar="[BUNDLE]",
    help="Tell what a bundle holds, and do nothing else.",
)
@click.pass_context
def export(
    ctx: click.Context,
    preset: str | None,
    checkpoint: Path | None,
    weights: Path | None,
    random_init: bool,
    merge_tokens: int | None,
    tensorrt: bool,
    bundle: Path | None,
    verify: tuple[Path, ...],
    bisect: bool,
    out: Path | None,
    listed: str | None,
    **_precisions: bool,
) -> None:
    """Export a model to a bundle, and prove that nothing was lost."""
    given = options_given(ctx)
    if listed is not None:
        refuse_beside("--list", given, [])
        list_bundle(None if listed == PACKAGE else Path(listed))
        return
    for choices in (MODELS, PRECISIONS):
        if len(chosen := [option for option in given if option in choices]) > 1:
            raise click.UsageError(f"{' and '.join(chosen)} exclude each other: name one")
    precision = next((option for option in given if option in PRECISIONS), "--fp32")[2:]
    if tensorrt and precision == "int8":
        raise click.UsageError("--int8 is for CPUs: --tensorrt takes --int8-gpu, --fp16 or --fp32")
    if bundle is not None:
        if not tensorrt:
            raise click.UsageError("--bundle goes with --tensorrt; the new one's name is --out")
        refuse_beside("--bundle", given, ["--tensorrt", "--out", "--verify"])
        add_tensorrt(bundle, verify, out or bundle)
        return
    with named_extra():
        from export.build import build_bundle
        from export.checkpoint import open_source
        from export.rewrites.token_merging import merge_tokens as with_merged_tokens
    if tensorrt:
        require_tensorrt()
    source = open_source(preset, checkpoint, weights, random_init)
    if merge_tokens:
        source = with_merged_tokens(source, merge_tokens)
    warn_untrained(source)
    out = out or Path(f"{source.model.preset.name}-{precision}")
    with shown_figures():
        made, parity = build_bundle(source, precision, verify, out, bisect, tensorrt)
    tell(made, parity.table(precision, source.trained))


def list_bundle(folder: Path | None) -> None:
    """Print what a bundle holds."""
    from export.listing import describe
    from mfer_edge.bundle import Bundle

    click.echo(describe(Bundle.open(folder)), nl=False)


def add_tensorrt(folder: Path, clips: tuple[Path, ...], out: Path) -> None:
    """Build TensorRT engines for a bundle, and print how near they are to its networks."""
    with named_extra():
        from export.build import add_proven_plans, precision_of
    from mfer_edge.bundle import Bundle

    require_tensorrt()
    bundle = Bundle.open(folder)
    warn_untrained(bundle.manifest)
    with shown_figures():
        made, parity = add_proven_plans(bundle, clips, out)
    tell(made, parity.table(precision_of(made), made.manifest.trained))


def require_tensorrt() -> None:
    """Say that TensorRT or a GPU is missing before any work.

    Raises:
        EngineError: it is.
    """
    from mfer_edge.engines.tensorrt_target import this_target

    this_target()


def warn_untrained(model: Source | Manifest) -> None:
    """Say loudly that a model's scores mean nothing, if so."""
    if not model.trained:
        said = " ".join([*model.notes[:1], "The scores mean nothing."])
        click.echo(f"warning: {said}", err=True)


def tell(bundle: Bundle, proof: list[str]) -> None:
    """Print what has been made, after how near it is."""
    click.echo("\n".join(proof))
    manifest = bundle.manifest
    size_mb = sum(file.bytes for file in manifest.files) / 1e6
    click.echo(f"{bundle.folder}: {manifest.name} {manifest.precision}, {size_mb:.1f} MB")


def options_given(ctx: click.Context) -> list[str]:
    """List the options that stand on the command line, as they are spelled."""
    return [
        option.opts[0]
        for option in ctx.command.params
        if option.name and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]


def refuse_beside(option: str, given: Sequence[str], going: Sequence[str]) -> None:
    """Refuse options that mean nothing together with another.

    Args:
        going: those that go with it.

    Raises:
        click.UsageError: there are others.
    """
    if others := [other for other in given if other not in (option, *going)]:
        raise click.UsageError(f"{', '.join(others)} can't go with {option}")


@contextmanager
def shown_figures() -> Iterator[None]:
    """Print the figures of an export that failed, too."""
    from export.parity import ParityError

    try:
        yield
    except ParityError as error:
        for line in error.table:
            click.echo(line)
        raise


@contextmanager
def named_extra() -> Iterator[None]:
    """Name the extra to install where a package that exporting needs is missing."""
    try:
        yield
    except ImportError as error:
        raise MferError(
            f"{error.name} is not installed: pip install 'mfer-edge[cpu,export]'"
        ) from error
