"""Check that `import train` and `import export` find mfer-edge's packages.

`python -m mfer_edge` puts the current folder first on the import path, so that a `train.py` of the
user would be imported instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from mfer_edge.errors import MferError
from mfer_edge.install import INSTALL_FOLDER


def check_packages(names: Sequence[str], *, command: str) -> None:
    """Check where packages would be imported from, without importing them.

    Args:
        names: of packages that are installed beside `mfer_edge`.
        command: the command that imports them, for the message.

    Raises:
        click.UsageError: another module of that name comes first on the import path.
        MferError: a package is not installed.
    """
    for name in names:
        found = module_path(name)
        if found is None:
            raise MferError(f"mfer-edge's package {name} is missing: install mfer-edge again")
        if found == INSTALL_FOLDER / name:
            continue
        way_out = "rename it, or take its folder out of PYTHONPATH"
        if found.parent == Path.cwd():
            way_out = (
                f"run `mfer-edge {command}` instead of `python -m mfer_edge {command}`, or run it "
                "from another folder"
            )
        raise click.UsageError(f"{found} hides mfer-edge's package {name}: {way_out}")


def module_path(name: str) -> Path | None:
    """File of a module, or folder of a package, that `import` would find; None if there is none."""
    try:
        spec = find_spec(name)
    except ValueError:  # in `sys.modules` without a spec
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return None if spec.origin is None else Path(spec.origin).resolve()
