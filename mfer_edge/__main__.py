"""Start of `mfer-edge`, and of `python -m mfer_edge`."""

import os
import sys
from typing import NoReturn


def start() -> NoReturn:
    """Run the command; Ctrl-C ends it in one line while modules are still imported, too."""
    try:
        from mfer_edge.cli.main import run

        run()
    except KeyboardInterrupt:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"interrupted\n")
        os._exit(130)


if __name__ == "__main__":
    start()
