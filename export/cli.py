"""`mfer-edge export`: a model to a bundle, with a parity check against PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from mfer_edge.errors import MferError
from mfer_edge.install import install_hint

if TYPE_CHECKING:
    from export.checkpoint import Source
    from mfer_edge.bundle import Bundle
    from mfer_edge.manifest import Manifest
    from train.models.hub import Hub

INPUT = click.Path(path_type=Path, readable=False)
PACKAGE = "-"  # value of `--list` without a bundle: the one in the package
MODELS = ("--checkpoint", "--weights", "--download", "--random-init")
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
@click.option(
    "--download",
    is_flag=True,
    help="With --preset paper: fetch its published backbones from the model hub.",
)
@click.option("--random-init", is_flag=True, help="An untrained model, to measure its speed.")
@click.option("--fp32", is_flag=True, help="Single precision [default].")
@click.option("--fp16", is_flag=True, help="Half precision, for GPUs.")
@click.option("--int8", is_flag=True, help="8-bit products with dynamic scales, for CPUs.")
@click.option(
    "--int8-gpu", is_flag=True, help="8-bit products with scales calibrated on the clips, for GPUs."
)
@click.option(
    "--merge-tokens",
    type=click.IntRange(1),
    metavar="R",
    help="Approximate: merge R tokens in each block of the face backbone's transformer.",
)
@click.option("--tensorrt", is_flag=True, help="Build TensorRT engines for this machine too.")
@click.option(
    "--triton",
    type=INPUT,
    metavar="DIR",
    help="Write a model repository for Triton Inference Server from --bundle, and do nothing else.",
)
@click.option(
    "--bundle",
    type=INPUT,
    help="With --tensorrt or --triton: for this bundle [--triton: compact, in the package].",
)
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
    help="Where an engine fails, name the first operator that diverges from PyTorch.",
)
@click.option("--out", type=INPUT, help="Folder [default: PRESET-PRECISION].")
@click.option(
    "--list",
    "listed",
    is_flag=False,
    flag_value=PACKAGE,
    metavar="[BUNDLE]",
    help="Describe a bundle, and do nothing else.",
)
@click.pass_context
def export(
    ctx: click.Context,
    preset: str | None,
    checkpoint: Path | None,
    weights: Path | None,
    download: bool,
    random_init: bool,
    merge_tokens: int | None,
    tensorrt: bool,
    triton: Path | None,
    bundle: Path | None,
    verify: tuple[Path, ...],
    bisect: bool,
    out: Path | None,
    listed: str | None,
    **_precisions: bool,
) -> None:
    """Export a model to a bundle, and check it against PyTorch."""
    given = options_given(ctx)
    if listed is not None:
        refuse_beside("--list", given, [])
        list_bundle(None if listed == PACKAGE else Path(listed))
        return
    if triton is not None:
        refuse_beside("--triton", given, ["--bundle"])
        write_triton(bundle, triton)
        return
    precision = chosen_precision(given)
    if bundle is not None:
        if not tensorrt:
            raise click.UsageError(
                "--bundle goes with --tensorrt or --triton; the new one's name is --out"
            )
        refuse_beside("--bundle", given, ["--tensorrt", "--out", "--verify"])
        add_tensorrt(bundle, verify, out or bundle)
        return
    with named_extra():
        from export.build import build_bundle
        from export.checkpoint import open_source
        from export.options import ExportOptions
        from export.rewrites.token_merging import merge_tokens as merge_tokens_of
    if tensorrt:
        require_tensorrt()
    hub = model_hub(preset) if download else None
    source = open_source(preset, checkpoint, weights, random_init, hub)
    if merge_tokens:
        source = merge_tokens_of(source, merge_tokens)
    warn_untrained(source)
    out = out or Path(f"{source.model.preset.name}-{precision}")
    options = ExportOptions(out, precision, verify, bisect, tensorrt)
    with shown_figures():
        exported, parity = build_bundle(source, options)
    report(exported, parity.table(precision, source.trained))


def chosen_precision(given: Sequence[str]) -> str:
    """The precision among the given options, by default fp32.

    Raises:
        click.UsageError: options exclude each other.
    """
    for choices in (MODELS, PRECISIONS):
        if len(chosen := [option for option in given if option in choices]) > 1:
            raise click.UsageError(f"{' and '.join(chosen)} exclude each other: name one")
    precision = next((option for option in given if option in PRECISIONS), "--fp32")[2:]
    if precision == "int8" and "--tensorrt" in given:
        raise click.UsageError("--int8 is for CPUs: --tensorrt takes --int8-gpu, --fp16 or --fp32")
    return precision


def model_hub(preset: str | None) -> Hub:
    """Give access to the model hub.

    Raises:
        click.UsageError: the preset's weights are not there.
    """
    if preset != "paper":
        raise click.UsageError("--download goes with --preset paper: compact is in the package")
    with named_extra("paper"):
        import huggingface_hub  # noqa: F401
    from train.models.hub import Hub

    return Hub(lambda line: click.echo(line, err=True))


def list_bundle(folder: Path | None) -> None:
    """Print a description of a bundle."""
    from export.listing import describe
    from mfer_edge.bundle import Bundle

    click.echo(describe(Bundle.open(folder)), nl=False)


def add_tensorrt(folder: Path, clips: tuple[Path, ...], out: Path) -> None:
    """Build TensorRT plans for a bundle, and print their parity with its ONNX engines."""
    with named_extra():
        from export.build import add_tensorrt_plans, precision_of
    from mfer_edge.bundle import Bundle

    require_tensorrt()
    bundle = Bundle.open(folder)
    warn_untrained(bundle.manifest)
    with shown_figures():
        exported, parity = add_tensorrt_plans(bundle, clips, out)
    report(exported, parity.table(precision_of(exported), exported.manifest.trained))


def write_triton(folder: Path | None, out: Path) -> None:
    """Write a model repository from a bundle, and print its models."""
    from export.targets.triton import write_repository
    from mfer_edge.bundle import Bundle

    bundle = Bundle.open(folder)
    warn_untrained(bundle.manifest)
    for config in write_repository(bundle, out):
        batch = f"batches of up to {config.max_batch}" if config.max_batch else "no batches"
        click.echo(
            f"{config.name:<20}{config.backend:<13}{config.count} x {config.kind:<11}{batch}"
        )
    click.echo(f"{out}: {bundle.manifest.name} {bundle.manifest.precision}; not run on a server")


def require_tensorrt() -> None:
    """Check for TensorRT and a GPU before any work.

    Raises:
        EngineError: one is missing.
    """
    from mfer_edge.engines.tensorrt_target import this_target

    this_target()


def warn_untrained(model: Source | Manifest) -> None:
    """Print a warning if a model is untrained."""
    if not model.trained:
        text = " ".join([*model.notes[:1], "The scores mean nothing."])
        click.echo(f"warning: {text}", err=True)


def report(bundle: Bundle, table: list[str]) -> None:
    """Print the parity figures and the exported bundle."""
    click.echo("\n".join(table))
    manifest = bundle.manifest
    size_mb = sum(file.bytes for file in manifest.files) / 1e6
    click.echo(f"{bundle.folder}: {manifest.name} {manifest.precision}, {size_mb:.1f} MB")


def options_given(ctx: click.Context) -> list[str]:
    """Names of the options given on the command line."""
    return [
        option.opts[0]
        for option in ctx.command.params
        if option.name and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]


def refuse_beside(option: str, given: Sequence[str], allowed: Sequence[str]) -> None:
    """Check the options given together with another.

    Args:
        allowed: options that may be combined with it.

    Raises:
        click.UsageError: there are others.
    """
    if others := [other for other in given if other not in (option, *allowed)]:
        raise click.UsageError(f"{', '.join(others)} can't go with {option}")


@contextmanager
def shown_figures() -> Iterator[None]:
    """Print the figures of a failed export as well."""
    from export.parity import ParityError

    try:
        yield
    except ParityError as error:
        for line in error.table:
            click.echo(line)
        raise


@contextmanager
def named_extra(*more: str) -> Iterator[None]:
    """Name the extra to install if a package that exporting needs is missing."""
    try:
        yield
    except ImportError as error:
        hint = install_hint(",".join(("export", *more)))
        raise MferError(f"{error.name} is not installed: {hint}") from error
