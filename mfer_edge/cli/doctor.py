"""`mfer-edge doctor`: what this machine can run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mfer_edge.cli.errors import DONE, FAILED
from mfer_edge.cli.options import INPUT


@click.command()
@click.option("--bundle", type=INPUT, help="Model to check.")
def doctor(*, bundle: Path | None) -> None:
    """Tell what this machine can run, and why not the rest."""
    from mfer_edge.doctor import checkup

    checks = checkup(bundle)
    for check in checks:
        click.echo(f"{'ok ' if check.ok else 'no '} {check.what:<22} {check.detail}")
    sys.exit(DONE if all(check.ok for check in checks if check.needed) else FAILED)
