"""Command line of the benchmark scripts: from `parse` to `publish`, inside `run`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mfer_edge.bench.machine import Machine
from mfer_edge.errors import MediaError, MferError
from mfer_edge.outputs.files import check_output, write_text

ROUNDS = 5


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Make a parser that prints a module's docstring as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, *, timed: bool = True
) -> argparse.Namespace:
    """Parse a script's command line, with `--rounds` and `--json` besides its own options.

    Args:
        timed: whether the script has `--rounds`.

    Raises:
        OutputError: the JSON file could not be written at the end.
    """
    if timed:
        parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if timed and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.json:
        check_output(options.json)
    return options


def clips_in(path: Path) -> list[Path]:
    """All .mp4 files of a folder, by name; or the one clip that is named.

    Raises:
        MediaError: there is none in the folder.
    """
    clips = sorted(path.rglob("*.mp4")) if path.is_dir() else [path]
    if not clips:
        raise MediaError(f"{path}: no .mp4 in it")
    return clips


def log(line: str) -> None:
    """Print a line of progress on the standard error."""
    print(line, file=sys.stderr, flush=True)


def machine_line(machine: Machine, packages: Sequence[str] = ()) -> str:
    """Describe the machine and the versions of the runtime's and further packages in a line."""
    versions = dict(machine.versions)
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [
        *map(str, machine.gpus),
        f"{machine.cpu}, {machine.cores} cores",
        machine.system,
        listed,
    ]
    return f"Machine: {'; '.join(parts)}."


def publish(markdown: str, result: Any, json_path: Path | None) -> None:
    """Print a result's tables, and write it as JSON where asked.

    Args:
        result: a dataclass.

    Raises:
        OutputError: the JSON file can't be written.
    """
    print(markdown)
    if json_path:
        write_text(json_path, json.dumps(asdict(result), indent=1) + "\n")


def run(main: Callable[[], None]) -> None:
    """Run a script; an `MferError` is printed as one line, and the exit code is 1."""
    try:
        main()
    except MferError as error:
        sys.exit(f"error: {error}")
