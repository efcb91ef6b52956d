"""`mfer-edge train paper`, on small data in the published layouts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from export import build
from mfer_edge.bundle import Bundle
from mfer_edge.pipeline import Pipeline
from mfer_edge.samples import ANGER, FEAR
from mfer_edge.sources.clip import read_audio
from tests.support.exporter import detectors_kept, operators_kept
from tests.support.footage import filmed, images_of
from tests.train.cli_runs import Datasets, done, refused
from tests.train.synthetic import small_presets


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    with small_presets():
        yield


def options(datasets: Datasets, out: Path) -> list[object]:
    trees = datasets.root / "filmed"
    return [
        "paper", "--ravdess", trees / "RAVDESS", "--crema-d", trees / "CREMA-D",
        "--urdu", trees / "URDU", "--out", out,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(
    small: None, datasets: Datasets, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A run's folder, and what it printed."""
    folder = tmp_path_factory.mktemp("paper")
    out, moment = folder / "run", folder / "moment.mp4"
    filmed(moment, images_of(ANGER)[7:15], read_audio(ANGER)[22_400:48_000])
    with pytest.MonkeyPatch.context() as patch, operators_kept(), detectors_kept():
        patch.setattr(build, "CLIPS", (moment,))  # to check the bundle on: enough here
        return out, done(*options(datasets, out), "--weights", datasets.weights)


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_everything_is_made(finished: tuple[Path, str]) -> None:
    out, printed = finished
    for name in (
        "index.csv",
        "model/model.safetensors",
        "report/report.md",
        "bundle/manifest.json",
    ):
        assert (out / name).is_file(), name
    for protocol in ("paper", "subject"):
        run = json.loads((out / f"crossval-{protocol}" / "run.json").read_text())
        assert run["protocol"] == protocol
    report = (out / "report" / "report.md").read_text()
    assert "paper" in report and "subject" in report
    assert printed.index("features") < printed.rindex("three stages") < printed.rindex("tables\n")


def test_the_bundle_reads_a_clip(finished: tuple[Path, str]) -> None:
    bundle = Bundle.open(finished[0] / "bundle")
    assert bundle.manifest.name == "paper" and bundle.manifest.trained
    assert bundle.manifest.precision.startswith("int8")
    analysis = Pipeline.open(bundle.folder, "cpu", threads=1).analyze(FEAR)
    assert analysis.overall is not None and len(analysis.overall.modalities) == 2


def test_a_second_start_changes_nothing(finished: tuple[Path, str], datasets: Datasets) -> None:
    out, _ = finished
    before = content(out)
    printed = done(*options(datasets, out), "--weights", datasets.weights)
    assert "done" in printed and "three stages\n" not in printed.split("Rough")[1]
    after = content(out)
    assert {name for name in after if after[name] != before.get(name)} <= {
        name for name in after if name.startswith("report/")
    }


def test_what_is_missing_is_made_again(finished: tuple[Path, str], datasets: Datasets) -> None:
    """As after a stop in the last step: the model is kept, the tables are written anew."""
    out, _ = finished
    model = (out / "model" / "model.safetensors").read_bytes()
    (out / "report" / "report.md").unlink()
    done(*options(datasets, out), "--weights", datasets.weights)
    assert (out / "report" / "report.md").is_file()
    assert (out / "model" / "model.safetensors").read_bytes() == model


def test_a_dry_run_says_what_it_takes_and_writes_nothing(
    small: None, datasets: Datasets, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    printed = done(*options(datasets, out), "--download", "--dry-run")
    rows = {line.strip().rsplit(None, 2)[0]: line for line in printed.splitlines() if line.strip()}
    for step in ("weights", "index", "features", "three stages", "bundle", "to do"):
        assert step in rows, printed
    assert "ravdess" in printed and "crema-d" in printed
    assert not out.exists()


def test_an_estimate_grows_with_the_data(small: None, datasets: Datasets, tmp_path: Path) -> None:
    from train.data.index import read_index
    from train.paper import PaperRun, plan

    run = PaperRun((), tmp_path, datasets.weights)
    entries = read_index(datasets.filmed)
    once, twice = (plan(run, entries * times, download=False) for times in (1, 2))
    for one, other in zip(once, twice, strict=True):
        assert other.hours >= one.hours and other.disk_mb >= one.disk_mb
    assert sum(step.hours for step in twice) > sum(step.hours for step in once)


class TestRefused:
    @pytest.mark.parametrize("more", [[], ["--download", "--random-init"]])
    def test_weights_are_named_once(
        self, more: list[str], datasets: Datasets, tmp_path: Path
    ) -> None:
        assert "--weights" in refused(*options(datasets, tmp_path / "run"), *more, code=2)

    def test_another_run_in_the_folder(
        self, finished: tuple[Path, str], datasets: Datasets
    ) -> None:
        line = refused(*options(datasets, finished[0]), "--weights", datasets.weights, "--seed", 3)
        assert "settings.json" in line and "--out" in line

    def test_missing_weights(self, small: None, datasets: Datasets, tmp_path: Path) -> None:
        line = refused(*options(datasets, tmp_path / "run"), "--weights", tmp_path / "none")
        assert "is missing" in line

    def test_no_recordings(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        line = refused(
            "paper", "--ravdess", tmp_path / "empty", "--random-init", "--out", tmp_path / "run"
        )
        assert str(tmp_path / "empty") in line
