"""Bundles from strangers: whatever their manifest and graphs hold, an error says what is wrong."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from mfer_edge.bundle import Bundle, file_sha256
from mfer_edge.errors import BundleError, EngineError
from mfer_edge.manifest import MANIFEST, format_manifest, parse_manifest
from mfer_edge.model import Model
from tests.support.bundles import edit
from tests.support.commands import infer, refused

COMPACT = json.loads((Bundle.open().folder / MANIFEST).read_bytes())
GRAPH = helper.make_graph([], "body", [], [])
words = st.text(max_size=9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """The path of every value within a JSON object."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in items:
        found.append((*at, key))
        if isinstance(item, dict | list):
            found += places(item, (*at, key))
    return found


PLACES = places(COMPACT)


def changed(place: tuple, change: Callable[[Any, Any], None]) -> dict[str, Any]:
    """The compact bundle's manifest with a change at one place, given as container and key."""
    data = copy.deepcopy(COMPACT)
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    change(inner, place[-1])
    return data


def is_read_or_refused(data: Any) -> None:
    """A manifest is read, and then written as it was read; or one line says what is wrong."""
    try:
        manifest = parse_manifest(json.dumps(data).encode())
    except ValueError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 300
    else:
        assert parse_manifest(format_manifest(manifest).encode()) == manifest


class TestManifest:
    @given(st.sampled_from(PLACES), json_values)
    @settings(max_examples=150)
    def test_any_value_at_any_place(self, place: tuple, value: Any) -> None:
        is_read_or_refused(changed(place, lambda inner, key: inner.__setitem__(key, value)))

    @given(st.sampled_from(PLACES))
    @settings(max_examples=50)
    def test_anything_missing(self, place: tuple) -> None:
        is_read_or_refused(changed(place, lambda inner, key: inner.__delitem__(key)))

    @given(st.binary(max_size=200))
    @settings(max_examples=50)
    def test_any_bytes(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            parse_manifest(data)

    @pytest.mark.parametrize("schema", [None, 0, 1, 5, "3", [3], True])
    def test_other_schemas(self, schema: Any) -> None:
        with pytest.raises(ValueError, match="this version of mfer-edge reads schemas 2 to 4"):
            parse_manifest(json.dumps({**COMPACT, "schema": schema}).encode())

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("window_s", 1e-9), ("window_s", 1e9), ("hop_s", 1e-9), ("max_window_s", 1e6),
            ("frame_rate", 1e9), ("frame_rate", 1e-9), ("min_speech_s", 1e9), ("min_speech_s", -1),
            ("crop", {"size": 10**9, "scale": 1.0}), ("crop", {"size": 48, "scale": 1e9}),
            ("labels", ["a" * 1000] * 2), ("labels", [f"{n}" for n in range(10_000)]),
            ("labels", ["\x1b[2J", *COMPACT["labels"][1:]]), ("name", "a\nb"), ("name", "\ud800"),
            ("notes", ["\x1b]0;title\x07"]),
        ],
    )  # fmt: skip
    def test_what_would_take_all_memory_or_take_over_the_terminal(
        self, field: str, value: Any
    ) -> None:
        with pytest.raises(ValueError):
            parse_manifest(json.dumps({**COMPACT, field: value}).encode())

    def test_impossible_shapes(self) -> None:
        for size in (10**9, 0, -1):
            data = copy.deepcopy(COMPACT)
            data["engines"]["face"]["inputs"][0]["shape"][-1] = size
            with pytest.raises(ValueError, match=r"engines\.face: the shape of faces"):
                parse_manifest(json.dumps(data).encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the compact bundle, to tamper with."""
    shutil.copytree(Bundle.open().folder, tmp_path / "bundle")
    return tmp_path / "bundle"


def described(folder: Path, name: str, **fields: Any) -> None:
    """Make the manifest fit an engine that was altered: what a tamperer would do."""
    path = folder / COMPACT["engines"][name]["file"]
    size, digest = path.stat().st_size, file_sha256(path)
    edit(folder, lambda m: m["engines"][name].update(bytes=size, sha256=digest, **fields))


def write_fusion(folder: Path, node: onnx.NodeProto) -> None:
    """Replace the fusion engine by one node."""
    inputs, outputs = (
        [
            helper.make_tensor_value_info(t["name"], onnx.TensorProto.FLOAT, t["shape"])
            for t in COMPACT["engines"]["fusion"][kind]
        ]
        for kind in ("inputs", "outputs")
    )
    graph = helper.make_graph([node], "fusion", inputs, outputs)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.me", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (folder / COMPACT["engines"]["fusion"]["file"]).write_bytes(model.SerializeToString())
    described(folder, "fusion")


def engine_error(folder: Path) -> str:
    with pytest.raises(EngineError) as caught:
        Model.load(folder, "cpu", 1)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


class TestEngines:
    def test_that_are_others_than_the_manifest_says(self, folder: Path) -> None:
        edit(folder, lambda m: m["engines"]["audio"]["inputs"][0].update(dtype="int8"))
        assert "the inputs of audio are wave float32" in engine_error(folder)

    def test_of_another_shape_than_the_manifest_says(self, folder: Path) -> None:
        edit(folder, lambda m: m["engines"]["audio"]["outputs"][1].update(shape=[1, 383]))
        assert "audio's embedding has 383 numbers, but fusion's audio 384" in engine_error(folder)

    def test_that_lack_what_the_runtime_uses(self, folder: Path) -> None:
        edit(folder, lambda m: m["engines"]["face"]["inputs"][0].update(name="pictures"))
        assert "the engine face has no faces" in engine_error(folder)

    def test_for_faces_of_another_size(self, folder: Path) -> None:
        edit(folder, lambda m: m["crop"].update(size=224))
        assert "faces of 48 pixels, but the manifest says 224" in engine_error(folder)

    def test_that_were_swapped(self, folder: Path) -> None:
        shutil.copy(folder / COMPACT["engines"]["rnet"]["file"], folder / "onet.onnx")
        described(folder, "onet")
        assert "the inputs of onet are" in engine_error(folder)

    @pytest.mark.parametrize(
        ("node", "message"),
        [
            (helper.make_node("Loop", ["", "", "visual"], ["scores"], body=GRAPH), "operator Loop"),
            (helper.make_node("Mine", ["visual"], ["scores"], domain="com.me"), "of 'com.me'"),
        ],
    )
    def test_with_operators_that_may_do_anything(
        self, folder: Path, node: onnx.NodeProto, message: str
    ) -> None:
        write_fusion(folder, node)
        assert message in engine_error(folder)

    @pytest.mark.parametrize("scores", [[np.nan] * 7, [1.0] * 7, [3.0, -2.0, 0, 0, 0, 0, 0]])
    def test_whose_scores_are_no_probabilities(
        self, folder: Path, moment: Path, scores: list[float]
    ) -> None:
        values = numpy_helper.from_array(np.array([scores], np.float32), "values")
        write_fusion(folder, helper.make_node("Constant", [], ["scores"], value=values))
        assert "no probabilities" in refused(infer(moment, "--bundle", folder), 1)

    def test_the_command_line_prints_one_line(self, folder: Path, moment: Path) -> None:
        edit(folder, lambda m: m["crop"].update(size=224))
        assert "faces of 48 pixels" in refused(infer(moment, "--bundle", folder), 1)


class TestPlaces:
    @pytest.mark.parametrize(
        "name", ["../pnet.onnx", "/etc/passwd", "sub/pnet.onnx", "", ".", ".."]
    )
    def test_files_outside_the_bundle(self, folder: Path, name: str) -> None:
        edit(folder, lambda m: m["engines"]["pnet"].update(file=name))
        with pytest.raises(BundleError):
            Bundle.open(folder)

    def test_a_link_out_of_the_bundle_has_to_have_the_right_content(self, folder: Path) -> None:
        path = folder / COMPACT["engines"]["pnet"]["file"]
        path.unlink()
        path.symlink_to("/etc/passwd")
        with pytest.raises(BundleError, match="altered or damaged"):
            Bundle.open(folder)

    def test_an_intact_copy_loads(self, folder: Path) -> None:
        model = Model.load(folder, "cpu", 1)
        assert replace(model.bundle, folder=Bundle.open().folder) == Bundle.open()
