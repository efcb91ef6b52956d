"""The lean package on aarch64, emulated: both samples, with the same labels as on this machine.

`make arm64` runs it on a Debian or Ubuntu of x86-64 with a network. Nothing is installed, all goes
into a folder. Emulation says that it works and gives the same results, not how fast it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline
from mfer_edge.samples import CLIPS

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.11"  # Debian 12's
# The newest ONNX Runtime that starts in qemu 7.2: 1.32 crashes when it is imported there.
WHEELS = ("av", "click", "numpy", "onnxruntime==1.23.2", "opencv-python-headless")
PACKAGES = (
    f"python{PYTHON}-minimal",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    *("libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1", "liblzma5", "libsqlite3-0"),
    *("libssl3", "libstdc++6", "libuuid1", "zlib1g"),
)
"""Debian's interpreter for arm64 and the libraries that it and the wheels load."""

TOLERANCE = 0.01  # of a score, between the two kinds of processor
ANALYSE = (
    "import json, platform, sys; from mfer_edge.pipeline import Pipeline\n"
    "found = Pipeline.open(device='cpu').analyze(sys.argv[1])\n"
    "print(json.dumps([platform.machine(), found.overall.label, dict(found.overall.scores)]))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "arm64")
    parser.add_argument("clips", nargs="*", type=Path, default=CLIPS, metavar="CLIP")
    arguments = parser.parse_args()
    try:
        emulated = prepare(arguments.folder)
        faults = [fault for clip in arguments.clips for fault in compare(clip, emulated)]
    except MferError as error:
        sys.exit(f"error: {error}")
    sys.exit("\n".join(faults) or None)


def prepare(folder: Path) -> list[str]:
    """Put an emulator, an interpreter and wheels for arm64 into a folder, where they are not yet.

    Returns:
        The emulated interpreter's command.

    Raises:
        MferError: a package can't be had.
    """
    folder = folder.resolve()
    debs, system, wheels = folder / "debs", folder / "system", folder / "wheels"
    if not (folder / "done").exists():
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        debs.mkdir(exist_ok=True)
        run("apt-get", "--quiet", "download", "qemu-user-static", inside=debs)
        # Of its own lists: the system's packages and architectures are left alone.
        options = {"Dir::State::Lists": lists, "Dir::State::status": "/dev/null"}
        options |= {"APT::Architecture": "arm64", "APT::Architectures::": "arm64"}
        apt = ["apt-get", "--quiet", *(f"-o{name}={value}" for name, value in options.items())]
        run(*apt, "update", inside=debs)
        run(*apt, "download", *PACKAGES, inside=debs)
        for deb in sorted(debs.glob("*.deb")):
            run("dpkg-deb", "--extract", str(deb), str(system), inside=folder)
        platforms = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
        pip += [f"--platform={name}" for name in platforms]
        run(*pip, f"--python-version={PYTHON}", "--target", str(wheels), *WHEELS, inside=folder)
        (folder / "done").touch()
    emulator = [str(system / "usr" / "bin" / "qemu-aarch64-static"), "-L", str(system)]
    path = f"PYTHONPATH={wheels}{os.pathsep}{ROOT}"
    return [*emulator, "-E", path, str(system / "usr" / "bin" / f"python{PYTHON}")]


def run(*command: str, inside: Path) -> str:
    """Run a command; return its output.

    Raises:
        MferError: it is not there, or failed.
    """
    try:
        done = subprocess.run(command, cwd=inside, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise MferError(f"{command[0]} is not there: this needs a Debian or an Ubuntu") from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise MferError(f"{' '.join(command[:6])}: {reason}")
    return done.stdout


def compare(clip: Path, emulated: Sequence[str]) -> list[str]:
    """Analyse a clip on this processor and on the emulated one; print and return what differs."""
    here = Pipeline.open(device="cpu").analyze(clip).overall
    if here is None:
        raise MferError(f"{clip}: no face and no voice")
    start_s = time.monotonic()
    output = run(*emulated, "-c", ANALYSE, str(clip.resolve()), inside=ROOT)
    machine, label, scores = json.loads(output.splitlines()[-1])
    if machine != "aarch64":
        raise MferError(f"the emulated machine is {machine}")
    worst = max(abs(scores[name] - here.scores[name]) for name in here.scores)
    print(
        f"{clip.name}: {here.label} here, {label} on {machine}, scores within {worst:.4f}, "
        f"{time.monotonic() - start_s:.0f} s emulated",
        flush=True,
    )
    if label != here.label:
        return [f"{clip.name}: {label} instead of {here.label}"]
    return [f"{clip.name}: a score differs by {worst:.4f}"] if worst > TOLERANCE else []


if __name__ == "__main__":
    main()
