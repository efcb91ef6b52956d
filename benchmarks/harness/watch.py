"""Run one command; print its wall time in seconds and its peak resident set in KiB.

A script without imports of its own package: Linux counts the memory of the process that starts a
command towards that command's peak.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

if __name__ == "__main__":
    start = time.perf_counter()
    ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
    wall_s = time.perf_counter() - start
    if ended.returncode:
        sys.exit(ended.returncode)
    print(wall_s, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
