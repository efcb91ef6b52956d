"""Pin the published weights: write their present revisions and digests into `hub_pins.json`.

`python -m train.models.pin_hub`, where the model hub can be reached, downloads them.
"""

from __future__ import annotations

import json
from pathlib import Path

from train.models.hub import PINS, Hub, Pin
from train.models.registry import FACE_BACKBONES, SPEECH_BACKBONES


def pin_hub(hub: Hub, file: Path = PINS) -> None:
    """Fetch the present state of every model, and write it down.

    Raises:
        DownloadError: one can't be had; the file is unchanged.
    """
    pins = {}
    for spec in (*FACE_BACKBONES.values(), *SPEECH_BACKBONES.values()):
        if spec.hub:
            found = hub.fetch(spec.hub, Pin(None, {}), spec.licence)
            pins[spec.hub.repo] = {"revision": found.revision, "sha256": found.sha256}
    file.write_text(json.dumps(pins, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    pin_hub(Hub(print))
