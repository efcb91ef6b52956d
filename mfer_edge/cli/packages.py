"""Check that `import train` and `import export` find mfer-edge's packages.

`python -m mfer_edge` puts the current folder before installed packages on the import path, so a
`train.py` of the user would be imported instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

import mfer_edge
from mfer_edge.errors import MferError

INSTALL_FOLDER = Path(mfer_edge.__file__).resolve().parents[1]


def check_packages(names: Sequence[str], *, command: str) -> None:
    """Check where packages would be imported from, without importing them.

    Args:
        names: of packages that are installed beside `mfer_edge`.
        command: the command that needs them, for the message.

    Raises:
        click.UsageError: another module with that name comes first on the import path.
        MferError: a package is not installed.
    """
    for name in names:
        path = import_path(name)
        if path is None:
            raise MferError(
                f"mfer-edge's package {name} is not beside {INSTALL_FOLDER / 'mfer_edge'}: "
                "install mfer-edge again"
            )
        if path.parent != INSTALL_FOLDER / name:
            raise click.UsageError(
                f"{_shown(path)} hides mfer-edge's {name}: {_way_out(path, command)}"
            )


def import_path(name: str) -> Path | None:
    """File that `import name` would run; None if there is none."""
    try:
        spec = find_spec(name)
    except ValueError:  # imported already, by something that is not a module of a file
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve()


def _shown(path: Path) -> Path:
    return path.parent if path.name == "__init__.py" else path


def _way_out(path: Path, command: str) -> str:
    if _shown(path).parent == Path.cwd():
        return f"run `mfer-edge {command}` instead of `python -m mfer_edge`, or another folder"
    return "rename it, or take its folder out of PYTHONPATH"
