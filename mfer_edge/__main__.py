"""`python -m mfer_edge`."""

from mfer_edge.cli.main import main

main()
