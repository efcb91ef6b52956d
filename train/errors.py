"""Errors of training that belong to no single module."""

from __future__ import annotations

from mfer_edge.errors import MferError


class TrainError(MferError):
    """A training that can't be started, resumed or completed."""
