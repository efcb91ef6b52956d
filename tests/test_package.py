"""The distributions: what is in them, what they say of themselves, and that they run elsewhere."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest
from readme_renderer import markdown

from mfer_edge import __version__
from tests.support.paths import ROOT

PACKAGES = ("mfer_edge", "export", "train")
LICENCES = (
    "LICENSE",
    "LICENSE-WEIGHTS.md",
    "export/assets/README.md",
    "mfer_edge/samples/README.md",
)
MOST_BYTES = 50_000_000  # of a wheel; an index takes 100 MB


@dataclass(frozen=True)
class Distributions:
    """A source archive, the wheel built from it, and the files that both were made of."""

    sources: frozenset[str]
    sdist: Path
    wheel: Path

    @property
    def packaged(self) -> frozenset[str]:
        """Files of the packages."""
        return frozenset(name for name in self.sources if name.split("/")[0] in PACKAGES)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    if not (ROOT / ".git").exists():
        pytest.skip("which files belong to the project is known in a git checkout only")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    sources = frozenset(name for name in names.split("\0") if (ROOT / name).is_file())
    clean, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("dist")
    for name in sources:
        (clean / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, clean / name)
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(clean)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Distributions(sources, sdist, wheel)


@pytest.fixture(scope="module")
def metadata(built: Distributions) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        return email.message_from_bytes(wheel.read(f"mfer_edge-{__version__}.dist-info/METADATA"))


def test_the_wheel_holds_the_packages_and_nothing_else(built: Distributions) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert names == built.packaged
        for name in ("mfer_edge/samples/anger.mp4", "mfer_edge/models/compact/audio.onnx"):
            assert wheel.read(name) == (ROOT / name).read_bytes()
    assert {"mfer_edge/py.typed", "train/checkpoints/compact/model.safetensors"} <= names
    assert built.wheel.stat().st_size < MOST_BYTES
    assert built.wheel.name.endswith("-py3-none-any.whl")


def test_the_source_archive_holds_what_the_wheel_is_made_of(built: Distributions) -> None:
    with tarfile.open(built.sdist) as archive:
        found = {member.name.partition("/")[2] for member in archive if member.isfile()}
    needed = built.packaged | {"pyproject.toml", "README.md", *LICENCES}
    assert needed <= found
    made = {name for name in found if name.startswith("mfer_edge.egg-info/")}
    assert found - needed - made <= {"MANIFEST.in", "PKG-INFO", "setup.cfg"}
    assert built.sdist.stat().st_size < MOST_BYTES


def test_licences_are_named_and_included(built: Distributions, metadata: Message) -> None:
    named = metadata.get_all("License-File") or []
    assert sorted(named) == sorted(LICENCES)
    with zipfile.ZipFile(built.wheel) as wheel:
        for name in LICENCES:
            inside = f"mfer_edge-{__version__}.dist-info/licenses/{name}"
            assert wheel.read(inside) == (ROOT / name).read_bytes()
    # The code is free, the weights and the samples are not: an index must not say otherwise.
    terms = "Apache-2.0 AND CC-BY-NC-SA-4.0 AND LicenseRef-mfer-edge-weights"
    assert metadata["License-Expression"] == terms


def test_the_readme_is_the_description_and_renders(metadata: Message) -> None:
    payload = metadata.get_payload(decode=True)
    assert isinstance(payload, bytes)
    text = payload.decode()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert text.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    page = markdown.render(text)
    assert page is not None
    assert page.count("<table>") == len(re.findall(r"^\|[-|: ]+\|$", text, re.MULTILINE))
    assert page.count("<pre") == text.count("```") / 2
    assert "```" not in page and "<!--" not in page


@pytest.fixture(scope="module")
def site(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel in it; what it depends on is taken from the tests' environment.

    `make package` installs everything anew.
    """
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--target", str(site), str(built.wheel)], check=True)
    return site


class TestInstalled:
    """The wheel's own files, run in a folder that has nothing of the checkout."""

    def call(self, site: Path, folder: Path, *arguments: str) -> str:
        command = [sys.executable, str(site / "bin" / "mfer-edge"), *arguments]
        return self.output(site, folder, command)

    def output(self, site: Path, folder: Path, command: Sequence[str]) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return done.stdout

    def test_it_is_the_installed_package_that_runs(self, site: Path, tmp_path: Path) -> None:
        code = "import mfer_edge, export, train; print(mfer_edge.__file__, export.__file__)"
        found = self.output(site, tmp_path, [sys.executable, "-c", code]).split()
        assert all(Path(path).is_relative_to(site) for path in found)
        assert self.call(site, tmp_path, "--version").split()[-1] == __version__

    def test_doctor_finds_and_analyses_a_sample(self, site: Path, tmp_path: Path) -> None:
        lines = self.call(site, tmp_path, "doctor").splitlines()
        (line,) = [line for line in lines if line.startswith("ok  analysis")]
        assert f"{site / 'mfer_edge' / 'samples' / 'anger.mp4'}: angry" in line

    def test_export_finds_the_checkpoint_and_the_clips(self, site: Path, tmp_path: Path) -> None:
        code = (
            "from export.build import verification_clips\n"
            "from export.checkpoint import open_source\n"
            "print(*verification_clips(()), open_source().model.preset.name)"
        )
        *clips, name = self.output(site, tmp_path, [sys.executable, "-c", code]).split()
        samples = site / "mfer_edge" / "samples"
        assert clips == [str(samples / "anger.mp4"), str(samples / "fear.mp4")]
        assert name == "compact"
