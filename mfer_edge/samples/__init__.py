"""Two short clips of a speaking face, for a first try, `bench`, `doctor` and the export's checks.

Where they come from, and under which licence, is in the README beside them.
"""

from __future__ import annotations

from pathlib import Path

ANGER = Path(__file__).parent / "anger.mp4"
FEAR = Path(__file__).parent / "fear.mp4"
CLIPS = (ANGER, FEAR)
