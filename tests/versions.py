"""The oldest and the newest versions of the runtime's dependencies, tried in two environments.

`make test-versions` runs this, and `make test` that. `.venv-min` has the minimum of each dependency
in pyproject.toml, on the oldest Python that is supported; `.venv-new` the newest of each, on the
newest Python of this machine. Both read the sample clips and draw what `make demo` draws; labels
must be the same, and scores nearly. Of this project only the dependencies are installed: it runs
from its folder, so that other tests can run beside. An environment that is there and fits
pyproject.toml is used again. Needs nothing but Python and its package installer.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 10)  # as `requires-python` says
MAX_SCORE = 0.03  # largest difference of a score: decoders and kernels differ a little
SHOWN = ("python", "numpy", "opencv", "av", "click", "onnxruntime")  # of what doctor tells
LATER_PYTHONS = range(10, 30)  # minor versions of Python 3 to look for


def minimums(pyproject: str) -> dict[str, str]:
    """The minimum of each dependency of the runtime, ONNX Runtime included."""
    needed = re.findall(r"^(?:dependencies|cpu) = \[(.*?)\]", pyproject, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', " ".join(needed)))


def pythons() -> dict[tuple[int, int], str]:
    """The Pythons of this machine by version, from 3.10 on."""
    homes = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))
    names = [sys.executable, *(f"python3.{minor}" for minor in LATER_PYTHONS), *map(str, homes)]
    found: dict[tuple[int, int], str] = {}
    for name in names:
        if path := shutil.which(name):
            code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
            done = subprocess.run([path, "-c", code], capture_output=True, text=True)
            if done.returncode == 0:  # a shim of a version that is not active fails
                major, minor = map(int, done.stdout.split())
                found.setdefault((major, minor), path)
    return {version: found[version] for version in sorted(found) if version >= OLDEST}


def environment(folder: Path, python: str, packages: Sequence[str]) -> Path | None:
    """Make an environment, unless it is there; None if there are no wheels for this Python."""
    program, done = folder / "bin" / "python", folder / "done"
    wanted = "\n".join([python, *packages, (ROOT / "pyproject.toml").read_text()])
    if done.is_file() and done.read_text() == wanted:
        return program
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    install = [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wheels = ["--no-compile", "--only-binary", ":all:", *packages]
    installed = subprocess.run([*install, *wheels], capture_output=True, text=True)
    if installed.returncode:
        print(installed.stderr.strip().splitlines()[-1])
        return None
    done.write_text(wanted)
    return program


def demo(program: Path, folder: Path) -> dict[str, dict[str, float]]:
    """What `make demo` does, and `doctor`: the scores of each sample clip."""
    samples = sorted(ROOT.glob("mfer_edge/samples/*.mp4"))
    folder.mkdir(exist_ok=True)
    mfer_edge, path = [program, "-m", "mfer_edge"], {**os.environ, "PYTHONPATH": str(ROOT)}
    checked = subprocess.run([*mfer_edge, "doctor"], stdout=subprocess.PIPE, text=True, env=path)
    if checked.returncode:
        raise SystemExit(f"doctor says no:\n{checked.stdout}")
    rows = [line.split() for line in checked.stdout.splitlines()]
    print(folder.parent.name, *(f"{row[1]} {row[2]}," for row in rows if row[1] in SHOWN))
    drawn = {"--video": "a.mp4", "--plot": "a.png", "--csv": "a.csv", "--vtt": "a.vtt"}
    options = [part for option, name in drawn.items() for part in (option, folder / name)]
    run = [*mfer_edge, "infer", "--device", "cpu", "--quiet"]
    subprocess.run([*run, samples[0], *options], check=True, env=path)
    assert all((folder / name).stat().st_size for name in drawn.values())
    subprocess.run([*run, *samples, "--json", folder / "a.jsonl"], check=True, env=path)
    made = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    assert len(made) == len(samples) > 0
    for one in made:
        assert one["overall"]["modalities"] == ["visual", "audio"], one
        assert not one["warnings"], one
    return {one["source"]: one["overall"]["scores"] for one in made}


def differences(
    one: Mapping[str, Mapping[str, float]], other: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """How the scores of two environments differ, a line for each clip that does too much."""
    found = []
    for clip, scores in one.items():
        labels = [max(s, key=s.__getitem__) for s in (scores, other[clip])]
        most = max(abs(score - other[clip][label]) for label, score in scores.items())
        if labels[0] != labels[1] or most > MAX_SCORE:
            found.append(f"{clip}: {labels[0]} and {labels[1]}, a score differs by {most:.3f}")
    return found


def main() -> int:
    """Try both environments; 1 if one fails, or they differ."""
    found = pythons()
    if OLDEST not in found or len(found) < 2:
        versions = ", ".join(f"{major}.{minor}" for major, minor in found) or "none"
        print(f"skipped: oldest and newest versions need Python 3.10 and a newer one; {versions}")
        return 0
    needed = minimums((ROOT / "pyproject.toml").read_text())
    pins = [f"{name}=={version}" for name, version in needed.items()]
    oldest = environment(ROOT / ".venv-min", found[OLDEST], pins)
    if oldest is None:
        print("the declared minimums can't be installed")
        return 1
    newest = None
    for version in sorted(found, reverse=True):  # a new Python is there before the wheels for it
        newest = newest or environment(ROOT / ".venv-new", found[version], list(needed))
    if newest is None:
        print("the newest versions can't be installed")
        return 1
    scores = [demo(program, program.parents[1] / "demo") for program in (oldest, newest)]
    failed = differences(*scores)
    print("\n".join(failed) or f"the same labels on both: {', '.join(scores[0])}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
