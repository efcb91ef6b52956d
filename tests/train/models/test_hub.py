"""Download of published weights, from a hub on this machine that breaks as real ones do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import click.testing
import pytest
from huggingface_hub import constants, file_download

from export.checkpoint import open_source
from mfer_edge.cli.main import main
from tests.support.model_hub import (
    COMMIT,
    SMALL,
    ModelHub,
    git_digest,
    model_hub,
    published_files,
    sha256,
)
from tests.train.synthetic import published_weights, small_presets
from train.models import hub as hub_module
from train.models.base import HubModel
from train.models.hub import PINS, DownloadError, Hub, Pin
from train.models.pin_hub import pin_hub
from train.models.registry import FACE_BACKBONES, SPEECH_BACKBONES

MODEL = HubModel("someone/voices", "voices", ("config.json", "model.pt"))
CONFIG, WEIGHTS = b'{"layers": 2}', bytes(range(256)) * 400
LICENCE = "MIT, named in full"
NO_PIN = Pin(None, {})


@dataclass
class Served:
    """A hub, a cache, and the lines that a download printed."""

    hub: ModelHub
    cache: Path
    lines: list[str]

    def fetch(self, pin: Pin = NO_PIN, model: HubModel = MODEL) -> hub_module.Downloaded:
        hub = Hub(self.lines.append, endpoint=self.hub.url, cache=self.cache)
        return hub.fetch(model, pin, LICENCE)

    def refused(self, pin: Pin = NO_PIN, model: HubModel = MODEL) -> str:
        """The error's line."""
        with pytest.raises(DownloadError) as caught:
            self.fetch(pin, model)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(
        constants, "DOWNLOAD_CHUNK_SIZE", 20_000
    )  # the library writes 10 MB at once
    files = {("someone/voices", "config.json"): CONFIG, ("someone/voices", "model.pt"): WEIGHTS}
    with model_hub(files) as hub:
        yield Served(hub, tmp_path / "cache", [])


def test_files_come_into_the_cache_with_their_digests(served: Served) -> None:
    found = served.fetch()
    assert (found.folder / "model.pt").read_bytes() == WEIGHTS
    assert found.revision == COMMIT
    assert found.sha256 == {"config.json": sha256(CONFIG), "model.pt": sha256(WEIGHTS)}
    assert f"revision {COMMIT}" in str(found) and sha256(WEIGHTS) in str(found)
    assert any("someone/voices: model.pt, 0 MB" in line for line in served.lines)
    assert any(LICENCE in line for line in served.lines)


def test_the_cache_is_the_library_s_own(served: Served) -> None:
    found = served.fetch()
    path = file_download.try_to_load_from_cache(
        MODEL.repo, "model.pt", cache_dir=served.cache, revision=COMMIT
    )
    assert path == str(found.folder / "model.pt")


def test_nothing_is_downloaded_twice(served: Served) -> None:
    served.fetch()
    served.lines.clear()
    before = list(served.hub.served)
    assert served.fetch().revision == COMMIT
    assert served.hub.served == before and served.lines == []


def test_a_pinned_model_in_the_cache_needs_no_hub(served: Served) -> None:
    served.fetch()
    served.hub.status = 500
    pin = Pin(COMMIT, {"model.pt": sha256(WEIGHTS)})
    assert served.fetch(pin).revision == COMMIT


def test_a_new_state_of_the_branch_is_fetched(served: Served) -> None:
    served.fetch()
    served.hub.commit = COMMIT[::-1]
    served.hub.files = {**served.hub.files, (MODEL.repo, "model.pt"): WEIGHTS[::-1]}
    found = served.fetch()
    assert found.revision == COMMIT[::-1]
    assert (found.folder / "model.pt").read_bytes() == WEIGHTS[::-1]


class TestBroken:
    def test_it_goes_on_where_it_stopped(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection breaks, and the hub is gone; another call asks for the rest only."""
        served.hub.cut_at = 60_000
        monkeypatch.setattr(
            file_download.time, "sleep", lambda seconds: setattr(served.hub, "status", 503)
        )
        message = served.refused()
        assert "try again, it goes on where it stopped" in message
        served.hub.cut_at = served.hub.status = 0
        served.hub.ranges.clear()
        found = served.fetch()
        assert served.hub.ranges == ["bytes=60000-"]
        assert (found.folder / "model.pt").read_bytes() == WEIGHTS
        assert list(served.cache.rglob("parts/*")) == []

    def test_a_break_in_between_is_not_noticed(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served.hub.cut_at = 60_000
        monkeypatch.setattr(
            file_download.time, "sleep", lambda seconds: setattr(served.hub, "cut_at", 0)
        )
        assert (served.fetch().folder / "model.pt").read_bytes() == WEIGHTS
        assert served.hub.ranges == ["bytes=60000-"]

    def test_a_damaged_file_is_refused_and_not_kept(self, served: Served) -> None:
        served.hub.flipped = True
        assert "damaged" in served.refused()
        assert WEIGHTS[:100] not in b"".join(
            path.read_bytes() for path in served.cache.rglob("*") if path.is_file()
        )
        served.hub.flipped = False
        assert (served.fetch().folder / "model.pt").read_bytes() == WEIGHTS
        assert served.hub.ranges == []  # from the start

    def test_a_damaged_small_file(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "tests.support.model_hub.git_digest", lambda data: git_digest(data + b" ")
        )
        assert "config.json: damaged: git's digest" in served.refused()

    def test_a_file_that_was_damaged_in_the_cache(self, served: Served) -> None:
        path = served.fetch().folder / "model.pt"
        path.resolve().write_bytes(WEIGHTS[:-1] + b"!")
        message = served.refused()
        assert str(path.resolve()) in message and "delete it" in message

    def test_another_file_than_the_pinned_one(self, served: Served) -> None:
        message = served.refused(Pin(COMMIT, {"model.pt": "0" * 64}))
        assert "instead of the pinned" in message and "model.pt" in message

    def test_a_revision_that_is_gone(self, served: Served) -> None:
        assert "no such revision" in served.refused(Pin("f" * 40, {}))

    @pytest.mark.parametrize(
        ("model", "said"),
        [
            (replace(MODEL, repo="someone/else"), "there is no someone/else"),
            (replace(MODEL, files=("other.pt",)), "lacks one of other.pt"),
        ],
    )
    def test_what_is_not_there(self, model: HubModel, said: str, served: Served) -> None:
        message = served.refused(model=model)
        assert said in message
        assert "into DIR/voices, then --weights DIR" in message

    @pytest.mark.parametrize(
        ("status", "code", "said"),
        [
            (401, "GatedRepo", "wants a login"),
            (403, "GatedRepo", "wants a login"),
            (500, "", "500"),
            (429, "", "429"),
        ],
    )
    def test_a_hub_that_refuses(
        self, status: int, code: str, said: str, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served.hub.status, served.hub.code = status, code
        assert said in served.refused()

    def test_a_login_page_instead_of_the_hub(self, served: Served) -> None:
        served.hub.page = True
        assert "not a model hub" in served.refused()

    def test_no_hub_at_all(self, served: Served) -> None:
        served.hub.url = "http://127.0.0.1:9"  # discard: nobody listens
        message = served.refused()
        assert "127.0.0.1:9" in message and "--weights DIR" in message

    def test_no_space(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        class Usage(NamedTuple):
            free: int

        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10_000_000))
        message = served.refused()
        assert "10 MB are free" in message
        assert not any("resolve" in path or "lfs" in path for path in served.hub.served)

    def test_offline(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        served.fetch()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert served.fetch().revision == COMMIT
        shutil.rmtree(served.cache)
        assert "HF_HUB_OFFLINE" in served.refused()


def test_files_are_large_and_small() -> None:
    assert len(CONFIG) < SMALL < len(WEIGHTS)


def test_every_hub_model_has_an_entry_in_the_pins() -> None:
    known = json.loads(PINS.read_text())
    specs = [*FACE_BACKBONES.values(), *SPEECH_BACKBONES.values()]
    models = [spec.hub for spec in specs if spec.hub]
    assert {model.repo for model in models} == known.keys()
    for model in models:
        assert known[model.repo]["sha256"].keys() <= set(model.files)


class TestCommand:
    """`mfer-edge export --preset paper --download`."""

    @pytest.fixture
    def paper(self, tmp_path: Path) -> Iterator[ModelHub]:
        folder = published_weights(tmp_path / "weights")
        models = [FACE_BACKBONES["vit"].hub, SPEECH_BACKBONES["emotion2vec"].hub]
        repos = {model.folder: model.repo for model in models if model}
        with model_hub(published_files(folder, repos)) as hub:
            yield hub

    def test_the_model_is_that_of_the_files(self, paper: ModelHub, tmp_path: Path) -> None:
        with small_presets():
            hub = Hub(lambda line: None, endpoint=paper.url, cache=tmp_path / "cache")
            source = open_source("paper", hub=hub)
            by_hand = open_source("paper", weights=tmp_path / "weights")
        state = source.model.state_dict()
        assert all(
            (state[name] == value).all() for name, value in by_hand.model.state_dict().items()
        )
        for part in ("face", "audio (encoder)"):
            (weights,) = [weights for weights in source.weights if weights.part == part]
            assert f"revision {COMMIT}" in weights.source and "sha256" in weights.source

    def test_pins_are_written_and_then_asked_for(self, paper: ModelHub, tmp_path: Path) -> None:
        pins = tmp_path / "pins.json"
        pin_hub(Hub(lambda line: None, endpoint=paper.url, cache=tmp_path / "cache"), pins)
        assert json.loads(pins.read_text()).keys() == json.loads(PINS.read_text()).keys()
        model = FACE_BACKBONES["vit"].hub
        assert model is not None
        pin = Pin.of(model.repo, pins)
        assert pin.revision == COMMIT and pin.sha256.keys() == set(model.files)
        paper.files = {key: data[::-1] for key, data in paper.files.items()}
        other = Hub(lambda line: None, endpoint=paper.url, cache=tmp_path / "another")
        with pytest.raises(DownloadError, match="instead of the pinned"):
            other.fetch(model, pin, LICENCE)

    def test_files_are_put_into_a_folder_of_weights(self, served: Served, tmp_path: Path) -> None:
        found = served.fetch()
        for _ in range(2):
            found.put_into(tmp_path / "weights", MODEL)
            assert (tmp_path / "weights" / "voices" / "model.pt").read_bytes() == WEIGHTS

    def test_weights_that_do_not_fit(self, paper: ModelHub, tmp_path: Path) -> None:
        """The digests are right, and it is another model: the real size is asked for."""
        hub = Hub(lambda line: None, endpoint=paper.url, cache=tmp_path / "cache")
        with pytest.raises(Exception, match="instead of") as caught:
            open_source("paper", hub=hub)
        assert type(caught.value).__name__ == "CheckpointError"

    def test_the_environment_is_respected(self, paper: ModelHub, tmp_path: Path) -> None:
        """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE, in processes of their own."""
        home = tmp_path / "home"
        environment = {**os.environ, "HF_ENDPOINT": paper.url, "HF_HOME": str(home)}
        spec = FACE_BACKBONES["vit"]
        code = (
            "from train.models.base import HubModel; from train.models.hub import Hub, Pin\n"
            f"print(Hub(print).fetch({spec.hub}, Pin(None, {{}}), {spec.licence!r}).folder)"
        )

        def run(**more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", code]
            return subprocess.run(
                command, env=environment | more, capture_output=True, text=True, timeout=120
            )

        done = run()
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert Path(done.stdout.splitlines()[-1]).is_relative_to(home / "hub")
        assert "Apache-2.0" in done.stdout
        done = run(HF_HUB_OFFLINE="1")
        assert done.returncode == 0 and "downloading" not in done.stdout
        done = run(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
        assert "HF_HUB_OFFLINE" in done.stderr.splitlines()[-1]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--download"], "--preset paper"),
            (["--preset", "compact", "--download"], "--preset paper"),
            (["--preset", "paper", "--download", "--random-init"], "exclude each other"),
            (["--preset", "paper", "--download", "--weights", "w"], "exclude each other"),
        ],
    )
    def test_wrong_usage(self, arguments: list[str], said: str) -> None:
        result = click.testing.CliRunner().invoke(main, ["export", *arguments])
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert said in line

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        result = click.testing.CliRunner().invoke(
            main, ["export", "--preset", "paper", "--download"]
        )
        assert result.exit_code == 1
        assert "[export,paper]'" in result.stderr
