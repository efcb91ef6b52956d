"""Bundles on disk: opening, verification, saving."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mfer_edge.bundle import MAX_MANIFEST_BYTES, Bundle, save_bundle
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.errors import BundleError
from mfer_edge.manifest import ENGINES, MANIFEST
from tests.support.analyses import SEVEN
from tests.support.bundles import (
    CONTENTS,
    edit,
    make_manifest,
    manifest_with_plan,
    open_error,
    write_files,
    write_plan,
)

MAX_BUNDLE_BYTES = 16_000_000  # limit of the compact bundle, all files together


class TestShipped:
    """The compact bundle in the package."""

    def test_is_the_default(self) -> None:
        bundle = Bundle.open()
        assert bundle.manifest.name == "compact"
        assert bundle.manifest.labels == SEVEN
        assert bundle.manifest.trained
        text = (bundle.folder / MANIFEST).read_bytes()
        assert bundle.sha256 == hashlib.sha256(text).hexdigest()

    def test_size_is_at_most_16_megabytes(self) -> None:
        files = [path for path in Bundle.open().folder.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= MAX_BUNDLE_BYTES

    @pytest.mark.parametrize("name", ENGINES)
    def test_manifest_matches_the_onnx_files(self, name: str) -> None:
        bundle = Bundle.open()
        entry, path = bundle.manifest.engines[name], bundle.engine_path(name)
        engine = OnnxEngine(path, providers_for("cpu"), threads=1)
        assert (list(entry.inputs), list(entry.outputs)) == (engine.inputs, engine.outputs)
        assert entry.bytes == path.stat().st_size
        assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_every_engine_has_a_source_and_licence(self) -> None:
        entry = " ".join(weights.part for weights in Bundle.open().manifest.weights)
        assert set(ENGINES) <= set(re.findall(r"\w+", entry))
        assert all(w.source and w.licence for w in Bundle.open().manifest.weights)

    @pytest.mark.parametrize("name", ["audio", "fusion"])
    def test_a_flipped_bit_is_detected(self, tmp_path: Path, name: str) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "copy")
        path = Bundle.open(folder).engine_path(name)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert (
            open_error(folder) == f"{path}: altered or damaged (its sha256 is not the manifest's)"
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid bundle of small files, for a test to damage."""
    files = write_files(tmp_path / "files", CONTENTS)
    return save_bundle(tmp_path / "bundle", make_manifest(CONTENTS), files).folder


class TestInvalid:
    def test_no_folder(self, tmp_path: Path) -> None:
        assert open_error(tmp_path / "nowhere").endswith("no such folder")

    def test_no_manifest(self, folder: Path) -> None:
        (folder / MANIFEST).unlink()
        assert open_error(folder).endswith("not a bundle (it has no manifest.json)")

    def test_a_file(self, folder: Path) -> None:
        open_error(folder / MANIFEST)

    def test_missing_file(self, folder: Path) -> None:
        (folder / "face.onnx").unlink()
        assert open_error(folder) == f"{folder / 'face.onnx'}: missing from the bundle"

    def test_folder_instead_of_a_file(self, folder: Path) -> None:
        (folder / "face.onnx").unlink()
        (folder / "face.onnx").mkdir()
        assert str(folder / "face.onnx") in open_error(folder)

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
        assert open_error(folder).startswith(f"{path}: altered or damaged")

    @pytest.mark.parametrize("schema", [0, 1, 5, "3", None, 2.5])
    def test_another_schema(self, folder: Path, schema: Any) -> None:
        edit(folder, lambda data: data.update(schema=schema))
        assert open_error(folder).endswith(
            f"schema {schema}, but this version of mfer-edge reads schemas 2 to 4"
        )

    @pytest.mark.parametrize("name", list(asdict(make_manifest(CONTENTS))))
    def test_missing_key(self, folder: Path, name: str) -> None:
        edit(folder, lambda data: data.pop(name))
        assert open_error(folder).endswith(f"not a valid manifest: it has no {name}")

    @pytest.mark.parametrize("name", ENGINES)
    def test_missing_engine(self, folder: Path, name: str) -> None:
        edit(folder, lambda data: data["engines"].pop(name))
        assert open_error(folder).endswith(f"it has no engines.{name}")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda d: d.update(labels="angry"), 'labels is "angry", not a list'),
            (lambda d: d.update(labels=[1, 2]), "labels[0] is 1, not a text"),
            (lambda d: d.update(labels=[]), "the labels are empty or not distinct"),
            (lambda d: d.update(labels=["sad", "sad"]), "the labels are empty or not distinct"),
            (lambda d: d["labels"].pop(), "it has 7 labels, and the engine visual not as many"),
            (lambda d: d.update(window_s="4"), 'window_s is "4", not a number'),
            (lambda d: d.update(window_s=True), "window_s is true, not a number"),
            (lambda d: d.update(window_s=-4.0), "window_s is -4.0, not from 0.1 to 60"),
            (lambda d: d.update(hop_s=float("nan")), "hop_s is NaN, not from 0.1 to 60"),
            (lambda d: d.update(hop_s=5), "window_s, hop_s and max_window_s"),
            (lambda d: d.update(max_window_s=4.2), "window_s, hop_s and max_window_s"),
            (lambda d: d.update(frame_rate=0), "frame_rate is 0.0, not from 0.1 to 240"),
            (lambda d: d.update(frame_rate=10**400), "too large"),
            (lambda d: d.update(min_speech_s=-1), "min_speech_s is -1.0, not from 0 to 10"),
            (lambda d: d.update(trained="no"), 'trained is "no", not true or false'),
            (lambda d: d.update(name=None), "name is null, not a text"),
            (lambda d: d.update(crop=48), "crop is 48, not an object"),
            (lambda d: d["crop"].update(colour="grey"), "crop.colour is unknown"),
            (lambda d: d["crop"].pop("size"), "it has no crop.size"),
            (lambda d: d["crop"].update(size=48.5), "crop.size is 48.5, not a whole number"),
            (lambda d: d["crop"].update(size=0), "crop.size is 0, not from 8 to 1024"),
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
                lambda d: d["engines"]["vad"].update(macs={"fp8": 1}),
                'engines.vad.macs is "fp8", not one of int8, fp16, fp32',
            ),
            (
                lambda d: d["engines"]["face"].update(macs={}),
                "engines.face.macs has no count over 0",
            ),
            (
                lambda d: d["engines"]["face"].update(macs={"fp32": -1}),
                "engines.face.macs.fp32 is -1, not 0 or more",
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
        message = open_error(folder)
        assert message.startswith(f"{folder / MANIFEST}: not a valid manifest: ")
        assert told in message

    @pytest.mark.parametrize("name", ["../outside.onnx", "sub/x.onnx", "..", ".", ""])
    def test_path_outside(self, folder: Path, name: str) -> None:
        (folder.parent / "outside.onnx").write_bytes(CONTENTS["vad"])
        edit(folder, lambda data: data["engines"]["vad"].update(file=name))
        open_error(folder)

    @pytest.mark.parametrize("kind", ["engines", "plans"])
    def test_too_large_files(self, tmp_path: Path, kind: str) -> None:
        """By their size in the manifest, without reading them."""
        files = write_files(tmp_path / "files", CONTENTS) | write_plan(tmp_path / "files", CONTENTS)
        folder = save_bundle(tmp_path / "bundle", manifest_with_plan(CONTENTS), files).folder
        edit(folder, lambda data: data[kind]["face"].update(bytes=1 << 34))
        assert open_error(folder).endswith("17.2 GB is too large for an engine")

    @pytest.mark.parametrize("damage", ["missing", "altered"])
    def test_damaged_plan(self, tmp_path: Path, damage: str) -> None:
        files = write_files(tmp_path / "files", CONTENTS) | write_plan(tmp_path / "files", CONTENTS)
        folder = save_bundle(tmp_path / "bundle", manifest_with_plan(CONTENTS), files).folder
        path = folder / "face-sm87.plan"
        path.unlink() if damage == "missing" else path.write_bytes(b"other")
        assert open_error(folder).startswith(f"{path}: {damage}")
        # A damaged bundle with plans may be replaced.
        save_bundle(folder, make_manifest(CONTENTS), files)
        assert not path.exists()

    def test_plan_of_no_engine(self, tmp_path: Path) -> None:
        files = write_files(tmp_path / "files", CONTENTS) | write_plan(tmp_path / "files", CONTENTS)
        folder = save_bundle(tmp_path / "bundle", manifest_with_plan(CONTENTS), files).folder
        edit(folder, lambda data: data["plans"].update(ear=data["plans"].pop("face")))
        assert open_error(folder).endswith("plans.ear belongs to no engine")

    def test_absolute_path(self, folder: Path) -> None:
        outside = folder.parent / "outside.onnx"
        outside.write_bytes(CONTENTS["vad"])
        edit(folder, lambda data: data["engines"]["vad"].update(file=str(outside)))
        assert "names a file outside the bundle" in open_error(folder)

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
        assert open_error(folder).startswith(f"{folder / MANIFEST}: ")


class TestSave:
    def test_no_temporary_files_are_left(self, folder: Path) -> None:
        assert {path.name for path in folder.parent.iterdir()} == {"files", "bundle"}
        expected = {MANIFEST, *(f"{name}.onnx" for name in ENGINES)}
        assert {path.name for path in folder.iterdir()} == expected
        assert (folder / "vad.onnx").read_bytes() == CONTENTS["vad"]
        assert folder.stat().st_mode & 0o777 == 0o755  # others may read it

    def test_parent_folders_are_created(self, tmp_path: Path) -> None:
        files = write_files(tmp_path / "files", CONTENTS)
        bundle = save_bundle(tmp_path / "a" / "b" / "bundle", make_manifest(CONTENTS), files)
        assert bundle == Bundle.open(tmp_path / "a" / "b" / "bundle")

    def test_a_bundle_is_replaced(self, folder: Path) -> None:
        other = CONTENTS | {"face": b"a better network"}
        bundle = save_bundle(
            folder, make_manifest(other), write_files(folder.parent / "files", other)
        )
        assert bundle.manifest.engines["face"].bytes == len(b"a better network")
        assert bundle == Bundle.open(folder)
        assert {path.name for path in folder.parent.iterdir()} == {"files", "bundle"}

    def test_a_damaged_bundle_is_replaced(self, folder: Path) -> None:
        (folder / "vad.onnx").write_bytes(b"")
        (folder / "face.onnx").unlink()
        save_bundle(folder, make_manifest(CONTENTS), write_files(folder.parent / "files", CONTENTS))
        Bundle.open(folder)

    def test_an_empty_folder_is_used(self, tmp_path: Path) -> None:
        (tmp_path / "bundle").mkdir()
        files = write_files(tmp_path / "files", CONTENTS)
        save_bundle(tmp_path / "bundle", make_manifest(CONTENTS), files)

    @pytest.mark.parametrize("bad", ["other bytes", "no file", "no labels"])
    def test_an_invalid_bundle_does_not_replace_another(self, folder: Path, bad: str) -> None:
        before = Bundle.open(folder)
        files = write_files(folder.parent / "files", CONTENTS)
        manifest = make_manifest(CONTENTS)
        if bad == "other bytes":
            files["audio.onnx"].write_bytes(b"other content")
        elif bad == "no file":
            files["audio.onnx"].unlink()
        else:
            manifest = replace(manifest, labels=())
        with pytest.raises(BundleError):
            save_bundle(folder, manifest, files)
        assert Bundle.open(folder) == before
        assert {path.name for path in folder.parent.iterdir()} == {"files", "bundle"}

    def test_the_old_bundle_is_restored_if_the_rename_fails(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, rename = Bundle.open(folder), os.rename

        def failing_rename(source: Path, target: Path) -> None:
            if target == folder and source.name != "old":
                raise OSError("disk error")
            rename(source, target)

        # Not every system can exchange folders.
        monkeypatch.setattr("mfer_edge.outputs.temporary.exchange", lambda *_: False)
        monkeypatch.setattr(os, "rename", failing_rename)
        files = write_files(folder.parent / "files", CONTENTS)
        with pytest.raises(BundleError, match="disk error"):
            save_bundle(folder, make_manifest(CONTENTS), files)
        assert Bundle.open(folder) == before
        assert {path.name for path in folder.parent.iterdir()} == {"files", "bundle"}

    @pytest.mark.parametrize(
        "content",
        [
            {"notes.txt": "a text"},
            {MANIFEST: '{"name": "a web app"}', "index.html": "<html>"},
            {MANIFEST: '{"name": "a web app"}'},
            {MANIFEST: "[]"},
        ],
        ids=["text", "web app", "its manifest", "a list"],
    )
    def test_other_folders_are_not_replaced(self, tmp_path: Path, content: dict[str, str]) -> None:
        (tmp_path / "out").mkdir()
        for name, text in content.items():
            (tmp_path / "out" / name).write_text(text)
        files = write_files(tmp_path / "files", CONTENTS)
        with pytest.raises(BundleError, match="is not only a bundle"):
            save_bundle(tmp_path / "out", make_manifest(CONTENTS), files)
        found = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
        assert found == content

    def test_a_bundle_with_other_files_is_not_replaced(self, folder: Path) -> None:
        (folder / "notes.txt").write_text("mine")
        files = write_files(folder.parent / "files", CONTENTS)
        with pytest.raises(BundleError, match="is not only a bundle"):
            save_bundle(folder, make_manifest(CONTENTS), files)
        assert (folder / "notes.txt").read_text() == "mine"

    def test_file_instead_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        files = write_files(tmp_path / "files", CONTENTS)
        for out in (tmp_path / "out", tmp_path / "out" / "bundle"):
            with pytest.raises(BundleError):
                save_bundle(out, make_manifest(CONTENTS), files)
        assert (tmp_path / "out").read_text() == "mine"

    def test_folder_that_can_not_be_created(self, tmp_path: Path) -> None:
        files = write_files(tmp_path / "files", CONTENTS)
        with pytest.raises(BundleError, match="can't be written"):
            save_bundle(Path("/proc/mfer-edge/bundle"), make_manifest(CONTENTS), files)
