"""Bundles: whole or refused, with one line that names what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfer_edge.bundle import MAX_MANIFEST_BYTES, Bundle, save_bundle
from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.errors import BundleError
from mfer_edge.manifest import (
    ENGINES,
    MANIFEST,
    TYPES,
    Crop,
    EngineFile,
    Manifest,
    Plan,
    ShapeRange,
    Weights,
)
from tests.support.analyses import LABELS

MAX_BUNDLE_BYTES = 16_000_000  # what the compact bundle may weigh, all its files together


def made_of_work(**work: dict[str, int]) -> Manifest:
    manifest = made_of(CONTENTS)
    engines = {
        name: replace(engine, work=work.get(name, {"fp32": 100}))
        for name, engine in manifest.engines.items()
    }
    return replace(manifest, engines=engines)


@pytest.mark.parametrize(
    ("work", "precision"),
    [
        ({}, "fp32"),
        ({"audio": {"int8": 900}, "face": {"fp32": 800}}, "int8+fp32"),
        ({"audio": {"fp16": 100_000, "fp32": 9}}, "fp16"),
        ({"audio": {"int8": 30}, "face": {"fp16": 1000}}, "fp16+fp32"),
        ({"vad": {"fp32": 10**9}, "audio": {"int8": 10**5}, "face": {"fp16": 10**5}}, "int8+fp16"),
    ],
)
def test_precision_is_what_does_a_tenth_of_the_work(
    work: dict[str, dict[str, int]], precision: str
) -> None:
    manifest = made_of_work(**work)
    assert manifest.precision == precision
    assert sum(manifest.shares.values()) == pytest.approx(1)


class TestShipped:
    """The compact bundle in the package."""

    def test_opens_without_a_name(self) -> None:
        bundle = Bundle.open()
        assert bundle.manifest.name == "compact"
        assert bundle.manifest.labels == LABELS
        assert bundle.manifest.trained
        text = (bundle.folder / MANIFEST).read_bytes()
        assert bundle.sha256 == hashlib.sha256(text).hexdigest()

    def test_weighs_at_most_16_megabytes(self) -> None:
        files = [path for path in Bundle.open().folder.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= MAX_BUNDLE_BYTES

    @pytest.mark.parametrize("name", ENGINES)
    def test_manifest_tells_what_onnx_runtime_sees(self, name: str) -> None:
        bundle = Bundle.open()
        told, path = bundle.manifest.engines[name], bundle.engine_path(name)
        engine = OnnxEngine(path, providers_for("cpu"), threads=1)
        assert (list(told.inputs), list(told.outputs)) == (engine.inputs, engine.outputs)
        assert told.bytes == path.stat().st_size
        assert told.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_every_part_names_its_source_and_licence(self) -> None:
        told = " ".join(weights.part for weights in Bundle.open().manifest.weights)
        assert set(ENGINES) <= set(re.findall(r"\w+", told))
        assert all(w.source and w.licence for w in Bundle.open().manifest.weights)

    @pytest.mark.parametrize("name", ["audio", "fusion"])
    def test_one_flipped_bit_is_found(self, tmp_path: Path, name: str) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "copy")
        path = Bundle.open(folder).engine_path(name)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert refusal(folder) == f"{path}: altered or damaged (its sha256 is not the manifest's)"


def engine_file(name: str, data: bytes) -> EngineFile:
    scores = (TensorSpec("scores", "float32", (1, len(LABELS))),)
    inputs = (TensorSpec("faces", "uint8", ("n", 1, 48, 48)),)
    sha256 = hashlib.sha256(data).hexdigest()
    return EngineFile(f"{name}.onnx", sha256, len(data), 7, 18, {"fp32": 100}, inputs, scores)


def plan(name: str, data: bytes, graph: bytes) -> Plan:
    profiles = ({"faces": ShapeRange((1, 1, 48, 48), (1, 1, 48, 48), (20, 1, 48, 48))},)
    sha256, graph_sha256 = (hashlib.sha256(part).hexdigest() for part in (data, graph))
    return Plan(
        f"{name}-sm87.plan", sha256, len(data), graph_sha256, "10.3.0", "Orin", "8.7", profiles
    )


def made_of(contents: dict[str, bytes]) -> Manifest:
    """A manifest for engine files that hold these bytes."""
    return Manifest(
        name="small",
        labels=LABELS,
        trained=True,
        window_s=4.0,
        hop_s=1.0,
        max_window_s=10.0,
        frame_rate=5.0,
        min_speech_s=0.4,
        crop=Crop(48, 1.0),
        engines={name: engine_file(name, data) for name, data in contents.items()},
        plans={},
        weights=(Weights("all", "made for a test", "Apache-2.0"),),
        parity={"scores.max_abs": 0.001},
        notes=("a note",),
    )


CONTENTS = {name: name.encode() * 10 for name in ENGINES}


def write_files(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    """Put engine files beside each other, for `save_bundle` to copy."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / f"{name}.onnx").write_bytes(data)
    return {f"{name}.onnx": folder / f"{name}.onnx" for name in contents}


def write_plan(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    """Put a plan of the face network beside the engine files."""
    path = folder / "face-sm87.plan"
    path.write_bytes(contents["face"][::-1])
    return {path.name: path}


def with_plan(contents: dict[str, bytes]) -> Manifest:
    face = contents["face"]
    return replace(made_of(contents), plans={"face": plan("face", face[::-1], face)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of tiny files, good until a test damages it."""
    files = write_files(tmp_path / "files", CONTENTS)
    return save_bundle(tmp_path / "bundle", made_of(CONTENTS), files).folder


def refusal(folder: Path | str) -> str:
    """Open a bundle that can't be opened; give the one line that says why."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    assert str(folder) in message
    return message


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a bundle's manifest."""
    path = folder / MANIFEST
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


class TestRefused:
    def test_no_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "nowhere").endswith("no such folder")

    def test_no_manifest(self, folder: Path) -> None:
        (folder / MANIFEST).unlink()
        assert refusal(folder).endswith("not a bundle (it has no manifest.json)")

    def test_a_file(self, folder: Path) -> None:
        refusal(folder / MANIFEST)

    def test_missing_file(self, folder: Path) -> None:
        (folder / "face.onnx").unlink()
        assert refusal(folder) == f"{folder / 'face.onnx'}: missing from the bundle"

    def test_folder_in_the_place_of_a_file(self, folder: Path) -> None:
        (folder / "face.onnx").unlink()
        (folder / "face.onnx").mkdir()
        assert str(folder / "face.onnx") in refusal(folder)

    @pytest.mark.parametrize("engine", ["vad", "fusion"])
    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[:-1],
            lambda data: b"",
            lambda data: data + b"\0",
            lambda data: bytes([data[0] ^ 1]) + data[1:],
        ],
        ids=["cut off", "empty", "longer", "flipped bit"],
    )
    def test_damaged_file(
        self, folder: Path, engine: str, damage: Callable[[bytes], bytes]
    ) -> None:
        path = folder / f"{engine}.onnx"
        path.write_bytes(damage(path.read_bytes()))
        assert refusal(folder).startswith(f"{path}: altered or damaged")

    @pytest.mark.parametrize("schema", [0, 1, 3, "2", None, 2.5])
    def test_another_schema(self, folder: Path, schema: Any) -> None:
        edit(folder, lambda data: data.update(schema=schema))
        assert refusal(folder).endswith(
            f"schema {schema}, but this version of mfer-edge reads schema 2"
        )

    @pytest.mark.parametrize("name", list(asdict(made_of(CONTENTS))))
    def test_missing_key(self, folder: Path, name: str) -> None:
        edit(folder, lambda data: data.pop(name))
        assert refusal(folder).endswith(f"not a valid manifest: it has no {name}")

    @pytest.mark.parametrize("name", ENGINES)
    def test_missing_engine(self, folder: Path, name: str) -> None:
        edit(folder, lambda data: data["engines"].pop(name))
        assert refusal(folder).endswith(f"it has no engines.{name}")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda d: d.update(labels="angry"), 'labels is "angry", not a list'),
            (lambda d: d.update(labels=[1, 2]), "labels[0] is 1, not a text"),
            (lambda d: d.update(labels=[]), "the labels are not several different ones"),
            (lambda d: d.update(labels=["sad", "sad"]), "the labels are not several"),
            (lambda d: d["labels"].pop(), "it has 7 labels, and the engine visual not as many"),
            (lambda d: d.update(window_s="4"), 'window_s is "4", not a number'),
            (lambda d: d.update(window_s=True), "window_s is true, not a number"),
            (lambda d: d.update(window_s=-4.0), "window_s is -4.0, not over 0"),
            (lambda d: d.update(hop_s=float("nan")), "hop_s is NaN, not over 0"),
            (lambda d: d.update(hop_s=5), "window_s, hop_s and max_window_s"),
            (lambda d: d.update(max_window_s=4.2), "window_s, hop_s and max_window_s"),
            (lambda d: d.update(frame_rate=0), "frame_rate is 0.0, not over 0"),
            (lambda d: d.update(frame_rate=10**400), "too large"),
            (lambda d: d.update(min_speech_s=-1), "min_speech_s is -1.0, not 0 or more"),
            (lambda d: d.update(trained="no"), 'trained is "no", not true or false'),
            (lambda d: d.update(name=None), "name is null, not a text"),
            (lambda d: d.update(crop=48), "crop is 48, not an object"),
            (lambda d: d["crop"].update(colour="grey"), "crop.colour is unknown"),
            (lambda d: d["crop"].pop("size"), "it has no crop.size"),
            (lambda d: d["crop"].update(size=48.5), "crop.size is 48.5, not a whole number"),
            (lambda d: d["crop"].update(size=0), "crop.size is 0, not over 0"),
            (lambda d: d.update(engines=[]), "engines is [], not an object"),
            (lambda d: d["engines"].update(vad=None), "engines.vad is null, not an object"),
            (lambda d: d["engines"]["vad"].pop("sha256"), "it has no engines.vad.sha256"),
            (lambda d: d["engines"]["vad"].update(bytes="9"), 'engines.vad.bytes is "9", not'),
            (
                lambda d: d["engines"]["vad"]["inputs"][0]["shape"].append(1.5),
                "engines.vad.inputs[0].shape[4] is 1.5, not a whole number or a text",
            ),
            (
                lambda d: d["engines"]["vad"].update(file="onet.onnx"),
                "it names onet.onnx twice",
            ),
            (
                lambda d: d["engines"]["vad"].update(file=MANIFEST),
                f"it names {MANIFEST} twice",
            ),
            (
                lambda d: d["engines"]["vad"].update(work={"fp8": 1}),
                'engines.vad.work is "fp8", not one of int8, fp16, fp32',
            ),
            (lambda d: d["engines"]["face"].update(work={}), "engines.face.work is nothing"),
            (
                lambda d: d["engines"]["face"].update(work={"fp32": -1}),
                "engines.face.work.fp32 is -1, not 0 or more",
            ),
            (lambda d: d.update(weights=[{"part": "all"}]), "it has no weights[0].source"),
            (lambda d: d.update(parity={"scores": "good"}), 'parity.scores is "good", not'),
            (lambda d: d.update(later=1), "later is unknown to this version of mfer-edge"),
        ],
    )
    def test_wrong_value(
        self, folder: Path, change: Callable[[dict[str, Any]], Any], told: str
    ) -> None:
        edit(folder, change)
        message = refusal(folder)
        assert message.startswith(f"{folder / MANIFEST}: not a valid manifest: ")
        assert told in message

    @pytest.mark.parametrize("name", ["../outside.onnx", "sub/x.onnx", "..", ".", ""])
    def test_path_outside(self, folder: Path, name: str) -> None:
        (folder.parent / "outside.onnx").write_bytes(CONTENTS["vad"])
        edit(folder, lambda data: data["engines"]["vad"].update(file=name))
        refusal(folder)

    @pytest.mark.parametrize("kind", ["engines", "plans"])
    def test_a_network_that_is_too_large(self, tmp_path: Path, kind: str) -> None:
        """Refused by what the manifest says: nobody reads gigabytes to find out."""
        files = write_files(tmp_path / "files", CONTENTS) | write_plan(tmp_path / "files", CONTENTS)
        folder = save_bundle(tmp_path / "bundle", with_plan(CONTENTS), files).folder
        edit(folder, lambda data: data[kind]["face"].update(bytes=1 << 34))
        assert refusal(folder).endswith("of 17.2 GB, too large for a network")

    @pytest.mark.parametrize("damage", ["missing", "altered"])
    def test_a_plan_is_checked_too(self, tmp_path: Path, damage: str) -> None:
        files = write_files(tmp_path / "files", CONTENTS) | write_plan(tmp_path / "files", CONTENTS)
        folder = save_bundle(tmp_path / "bundle", with_plan(CONTENTS), files).folder
        path = folder / "face-sm87.plan"
        path.unlink() if damage == "missing" else path.write_bytes(b"other")
        assert refusal(folder).startswith(f"{path}: {damage}")
        # A damaged bundle, plans and all, may be replaced.
        save_bundle(folder, made_of(CONTENTS), files)
        assert not path.exists()

    def test_a_plan_of_no_network(self, tmp_path: Path) -> None:
        files = write_files(tmp_path / "files", CONTENTS) | write_plan(tmp_path / "files", CONTENTS)
        folder = save_bundle(tmp_path / "bundle", with_plan(CONTENTS), files).folder
        edit(folder, lambda data: data["plans"].update(ear=data["plans"].pop("face")))
        assert refusal(folder).endswith("plans.ear is of no engine")

    def test_absolute_path(self, folder: Path) -> None:
        outside = folder.parent / "outside.onnx"
        outside.write_bytes(CONTENTS["vad"])
        edit(folder, lambda data: data["engines"]["vad"].update(file=str(outside)))
        assert "names a file outside the bundle" in refusal(folder)

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{",
            b"not json",
            b"[]",
            b"null",
            b'"text"',
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b'{"schema": 1' + b" " * MAX_MANIFEST_BYTES,
        ],
        ids=["empty", "cut off", "words", "list", "null", "text", "bytes", "deep", "large"],
    )
    def test_not_a_manifest(self, folder: Path, text: bytes) -> None:
        (folder / MANIFEST).write_bytes(text)
        assert refusal(folder).startswith(f"{folder / MANIFEST}: ")


class TestSave:
    def test_leaves_the_bundle_and_nothing_else(self, folder: Path) -> None:
        assert {path.name for path in folder.parent.iterdir()} == {"files", "bundle"}
        expected = {MANIFEST, *(f"{name}.onnx" for name in ENGINES)}
        assert {path.name for path in folder.iterdir()} == expected
        assert (folder / "vad.onnx").read_bytes() == CONTENTS["vad"]
        assert folder.stat().st_mode & 0o777 == 0o755  # others may read it

    def test_makes_the_folders_above(self, tmp_path: Path) -> None:
        files = write_files(tmp_path / "files", CONTENTS)
        bundle = save_bundle(tmp_path / "a" / "b" / "bundle", made_of(CONTENTS), files)
        assert bundle == Bundle.open(tmp_path / "a" / "b" / "bundle")

    def test_replaces_a_bundle(self, folder: Path) -> None:
        other = CONTENTS | {"face": b"a better network"}
        bundle = save_bundle(folder, made_of(other), write_files(folder.parent / "files", other))
        assert bundle.manifest.engines["face"].bytes == len(b"a better network")
        assert bundle == Bundle.open(folder)
        assert {path.name for path in folder.parent.iterdir()} == {"files", "bundle"}

    def test_replaces_a_damaged_bundle(self, folder: Path) -> None:
        (folder / "vad.onnx").write_bytes(b"")
        (folder / "face.onnx").unlink()
        save_bundle(folder, made_of(CONTENTS), write_files(folder.parent / "files", CONTENTS))
        Bundle.open(folder)

    def test_empty_folder_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "bundle").mkdir()
        files = write_files(tmp_path / "files", CONTENTS)
        save_bundle(tmp_path / "bundle", made_of(CONTENTS), files)

    @pytest.mark.parametrize("bad", ["other bytes", "no file", "no labels"])
    def test_a_bad_one_leaves_the_old_one(self, folder: Path, bad: str) -> None:
        before = Bundle.open(folder)
        files = write_files(folder.parent / "files", CONTENTS)
        manifest = made_of(CONTENTS)
        if bad == "other bytes":
            files["audio.onnx"].write_bytes(b"not what the manifest tells of")
        elif bad == "no file":
            files["audio.onnx"].unlink()
        else:
            manifest = replace(manifest, labels=())
        with pytest.raises(BundleError):
            save_bundle(folder, manifest, files)
        assert Bundle.open(folder) == before
        assert {path.name for path in folder.parent.iterdir()} == {"files", "bundle"}

    def test_a_move_that_fails_brings_the_old_one_back(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, rename = Bundle.open(folder), os.rename

        def fails_for_the_new_one(source: Path, target: Path) -> None:
            if target == folder and source.name != "old":
                raise OSError("the disk was pulled out")
            rename(source, target)

        monkeypatch.setattr(os, "rename", fails_for_the_new_one)
        files = write_files(folder.parent / "files", CONTENTS)
        with pytest.raises(BundleError, match="the disk was pulled out"):
            save_bundle(folder, made_of(CONTENTS), files)
        assert Bundle.open(folder) == before
        assert {path.name for path in folder.parent.iterdir()} == {"files", "bundle"}

    @pytest.mark.parametrize(
        "theirs",
        [
            {"thesis.txt": "years of work"},
            {MANIFEST: '{"name": "a web app"}', "index.html": "<html>"},
            {MANIFEST: '{"name": "a web app"}'},
            {MANIFEST: "[]"},
        ],
        ids=["text", "web app", "its manifest", "a list"],
    )
    def test_what_is_no_bundle_is_left_alone(self, tmp_path: Path, theirs: dict[str, str]) -> None:
        (tmp_path / "out").mkdir()
        for name, text in theirs.items():
            (tmp_path / "out" / name).write_text(text)
        files = write_files(tmp_path / "files", CONTENTS)
        with pytest.raises(BundleError, match="in the way"):
            save_bundle(tmp_path / "out", made_of(CONTENTS), files)
        found = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
        assert found == theirs

    def test_notes_beside_a_bundle_are_left_alone(self, folder: Path) -> None:
        (folder / "notes.txt").write_text("mine")
        files = write_files(folder.parent / "files", CONTENTS)
        with pytest.raises(BundleError, match="in the way"):
            save_bundle(folder, made_of(CONTENTS), files)
        assert (folder / "notes.txt").read_text() == "mine"

    def test_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        files = write_files(tmp_path / "files", CONTENTS)
        for out in (tmp_path / "out", tmp_path / "out" / "bundle"):
            with pytest.raises(BundleError):
                save_bundle(out, made_of(CONTENTS), files)
        assert (tmp_path / "out").read_text() == "mine"

    def test_place_that_takes_no_folders(self, tmp_path: Path) -> None:
        files = write_files(tmp_path / "files", CONTENTS)
        with pytest.raises(BundleError, match="can't be written"):
            save_bundle(Path("/proc/mfer-edge/bundle"), made_of(CONTENTS), files)


words = st.text(max_size=20)
numbers = st.floats(0.001, 1000)


@st.composite
def manifests(draw: st.DrawFn) -> tuple[Manifest, dict[str, bytes]]:
    contents = {name: draw(st.binary(max_size=8)) for name in ENGINES}
    labels = tuple(draw(st.lists(words, min_size=1, max_size=9, unique=True)))
    hop_s, more_s, rest_s = draw(numbers), draw(numbers), draw(numbers)
    shape = st.lists(st.integers(0, 2**40) | words, max_size=4).map(tuple)
    tensors = st.lists(st.builds(TensorSpec, words, words, shape), max_size=2).map(tuple)
    scores = (TensorSpec("scores", "float32", (1, len(labels))),)
    engines = {
        name: replace(
            engine_file(name, data),
            parameters=draw(st.integers(0, 2**60)),
            opset=draw(st.integers(1, 30)),
            work=draw(st.dictionaries(st.sampled_from(TYPES), st.integers(1, 2**60), min_size=1)),
            inputs=draw(tensors),
            outputs=scores,
        )
        for name, data in contents.items()
    }
    manifest = Manifest(
        name=draw(words),
        labels=labels,
        trained=draw(st.booleans()),
        window_s=hop_s + more_s,
        hop_s=hop_s,
        max_window_s=hop_s + more_s + hop_s + rest_s,
        frame_rate=draw(numbers),
        min_speech_s=draw(st.floats(0, 10)),
        crop=Crop(draw(st.integers(1, 1000)), draw(numbers)),
        engines=engines,
        plans={"face": plan("face", contents["face"][::-1], contents["face"])},
        weights=tuple(draw(st.lists(st.builds(Weights, words, words, words), max_size=3))),
        parity=draw(st.dictionaries(words, st.floats(allow_nan=False), max_size=3)),
        notes=tuple(draw(st.lists(words, max_size=3))),
    )
    return manifest, contents


@given(made=manifests())
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_saved_is_what_is_opened(
    tmp_path: Path, made: tuple[Manifest, dict[str, bytes]]
) -> None:
    manifest, contents = made
    files = write_files(tmp_path / "files", contents)
    files |= write_plan(tmp_path / "files", contents)
    bundle = save_bundle(tmp_path / "bundle", manifest, files)
    assert bundle.manifest == manifest
    assert {path.name for path in bundle.folder.iterdir()} == {MANIFEST, *files}
    assert Bundle.open(tmp_path / "bundle") == bundle
    for name, data in contents.items():
        assert bundle.engine_path(name).read_bytes() == data
