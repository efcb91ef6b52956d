"""`python -m mfer_edge`."""

from mfer_edge.cli.main import run

run()
