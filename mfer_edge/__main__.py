"""`python -m mfer_edge`."""

from mfer_edge.cli import main

main()
