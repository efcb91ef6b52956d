"""Where the tests find real recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shared_data(*parts: str) -> Path:
    """Give a path in the workplace's shared/data; skip the test on a machine without it."""
    path = ROOT.parent.joinpath("shared", "data", *parts)
    if not path.exists():
        pytest.skip(f"real recordings are not on this machine: no {path}")
    return path


def shared_cases(name: str) -> Path:
    """Give a file of the workplace's shared/cases; skip the test on a machine without it."""
    path = ROOT.parent / "shared" / "cases" / name
    if not path.exists():
        pytest.skip(f"not on this machine: {path}")
    return path
