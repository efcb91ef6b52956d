"""Manifests: precision, warnings, schema 2, and a round trip of arbitrary ones."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfer_edge.bundle import Bundle, save_bundle
from mfer_edge.engines.base import TensorSpec
from mfer_edge.manifest import (
    ENGINES,
    MANIFEST,
    SCHEMA,
    TYPES,
    Arm,
    Crop,
    Manifest,
    ShapeRange,
    Weights,
    format_manifest,
    parse_manifest,
)
from mfer_edge.pipeline import Pipeline
from tests.support.bundles import (
    CONTENTS,
    engine_file,
    make_manifest,
    manifest_with_plan,
    plan,
    write_files,
    write_plan,
)
from tests.support.paths import ROOT

SCHEMA_2 = ROOT / "tests" / "support" / "manifest_schema_2.json"  # of the compact bundle


def manifest_with_macs(**macs: dict[str, int]) -> Manifest:
    manifest = make_manifest(CONTENTS)
    engines = {
        name: replace(engine, macs=macs.get(name, {"fp32": 100}))
        for name, engine in manifest.engines.items()
    }
    return replace(manifest, engines=engines)


@pytest.mark.parametrize(
    ("macs", "precision"),
    [
        ({}, "fp32"),
        ({"audio": {"int8": 900}, "face": {"fp32": 800}}, "int8+fp32"),
        ({"audio": {"fp16": 100_000, "fp32": 9}}, "fp16"),
        ({"audio": {"int8": 30}, "face": {"fp16": 1000}}, "fp16+fp32"),
        ({"vad": {"fp32": 10**9}, "audio": {"int8": 10**5}, "face": {"fp16": 10**5}}, "int8+fp16"),
    ],
)
def test_precision_has_the_types_with_a_tenth_of_the_macs(
    macs: dict[str, dict[str, int]], precision: str
) -> None:
    manifest = manifest_with_macs(**macs)
    assert manifest.precision == precision
    assert sum(manifest.shares.values()) == pytest.approx(1)


def test_warnings_are_the_approximations_and_that_it_is_untrained() -> None:
    manifest = make_manifest(CONTENTS)
    assert manifest.warnings == ("Approximate: tokens are merged",)
    assert replace(manifest, approximations=(), trained=False).warnings == (
        "a note The scores mean nothing.",
    )


def schema_2(manifest: Manifest) -> dict[str, Any]:
    """A manifest as version 2 of the schema had it."""
    data = json.loads(format_manifest(manifest)) | {"schema": 2}
    del data["model"], data["crop"]["mirror"]
    texts = [f"Approximate: {text}" for text in data.pop("approximations")]
    data["notes"] += texts
    for engine in data["engines"].values():
        engine["work"] = engine.pop("macs")
    for entry in data["plans"].values():
        entry["profiles"] = [
            {
                name: {"least": r["min"], "usual": r["opt"], "most": r["max"]}
                for name, r in profile.items()
            }
            for profile in entry["profiles"]
        ]
    return data


@pytest.mark.parametrize("arm", ["audio", "visual"])
def test_the_width_of_observations_is_that_of_the_arms_inputs(arm: Arm) -> None:
    manifest = make_manifest(CONTENTS)
    assert manifest.observed(arm) == 0
    engine = replace(
        manifest.engines[arm],
        inputs=tuple(TensorSpec(name, "float32", (7,)) for name in ("wave", "shift", "scale")),
    )
    assert replace(manifest, engines={**manifest.engines, arm: engine}).observed(arm) == 7


class TestSchema2:
    def test_an_earlier_compact_bundle_s_is_read_as_today_s(self) -> None:
        old = json.loads(SCHEMA_2.read_bytes())
        assert old["schema"] == 2
        assert json.loads((Bundle.open().folder / MANIFEST).read_bytes())["schema"] == SCHEMA == 4
        made = parse_manifest(SCHEMA_2.read_bytes())
        assert (made.name, made.labels, made.parity) == (
            "compact",
            tuple(old["labels"]),
            old["parity"],
        )
        for name, engine in made.engines.items():
            assert engine.macs == old["engines"][name]["work"]
        assert (made.model, made.observed("audio"), made.observed("visual")) == (
            "",
            0,
            0,
        )  # it can't be adapted
        assert not made.crop.mirror  # its face engine does it itself

    def test_a_bundle_gives_the_same_readings(
        self, pipeline: Pipeline, moment: Path, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(Bundle.open().folder, tmp_path / "bundle")
        manifest = Bundle.open().manifest
        as_they_are = replace(manifest, crop=replace(manifest.crop, mirror=False))
        (folder / MANIFEST).write_text(format_manifest(as_they_are))
        expected = Pipeline.open(folder, "cpu", threads=1).analyze(moment)
        assert expected.windows != pipeline.analyze(moment).windows
        (folder / MANIFEST).write_text(json.dumps(schema_2(manifest)))
        analysis = Pipeline.open(folder, "cpu", threads=1).analyze(moment)
        assert analysis.windows == expected.windows
        assert analysis.overall == expected.overall
        assert analysis.warnings == expected.warnings

    def test_a_bundle_may_be_replaced(self, tmp_path: Path) -> None:
        files = write_files(tmp_path / "files", CONTENTS)
        folder = save_bundle(tmp_path / "bundle", make_manifest(CONTENTS), files).folder
        (folder / MANIFEST).write_text(json.dumps(schema_2(make_manifest(CONTENTS))))
        old = Bundle.open(folder)
        saved = save_bundle(folder, old.manifest, files)
        assert saved.manifest == old.manifest
        assert json.loads((folder / MANIFEST).read_bytes())["schema"] == SCHEMA

    def test_plans_and_approximations(self) -> None:
        manifest = manifest_with_plan(CONTENTS)
        parsed = parse_manifest(json.dumps(schema_2(manifest)).encode())
        assert parsed == replace(manifest, model="")
        assert manifest.plans["face"].profiles[0]["faces"] == ShapeRange(
            min=(1, 1, 48, 48), opt=(1, 1, 48, 48), max=(20, 1, 48, 48)
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"engines": None}, "engines is null, not an object"),
            ({"engines": {"vad": 1}}, "engines.vad is 1, not an object"),
            ({"plans": [1]}, r"plans is \[1\], not an object"),
            ({"plans": {"face": {"profiles": 1}}}, "it has no plans.face.file"),
            ({"notes": "a note"}, 'notes is "a note", not a list'),
            ({"notes": [1, "Approximate: x"]}, r"notes\[0\] is 1, not a text"),
        ],
    )
    def test_invalid_values_are_named(self, change: dict[str, Any], message: str) -> None:
        data = schema_2(make_manifest(CONTENTS)) | change
        with pytest.raises(ValueError, match=message):
            parse_manifest(json.dumps(data).encode())

    def test_missing_fields_are_named(self) -> None:
        for name in ("engines", "plans", "notes", "labels"):
            data = schema_2(make_manifest(CONTENTS))
            del data[name]
            with pytest.raises(ValueError, match=f"it has no {name}"):
                parse_manifest(json.dumps(data).encode())


def test_schema_3_mirrors_no_crops() -> None:
    made = make_manifest(CONTENTS)
    data = json.loads(format_manifest(replace(made, crop=replace(made.crop, mirror=True))))
    assert parse_manifest(json.dumps(data).encode()).crop.mirror
    del data["crop"]["mirror"]
    assert parse_manifest(json.dumps(data | {"schema": 3}).encode()) == made
    with pytest.raises(ValueError, match=r"it has no crop\.mirror"):
        parse_manifest(json.dumps(data).encode())
    with pytest.raises(ValueError, match="crop is 7, not an object"):
        parse_manifest(json.dumps(data | {"schema": 3, "crop": 7}).encode())


printable = st.characters(max_codepoint=0x24F, exclude_categories=("C", "Z")) | st.just(" ")
words = st.text(printable, max_size=20)
numbers = st.floats(0.1, 10)


@st.composite
def manifests(draw: st.DrawFn) -> tuple[Manifest, dict[str, bytes]]:
    contents = {name: draw(st.binary(max_size=8)) for name in ENGINES}
    labels = tuple(draw(st.lists(words.filter(bool), min_size=1, max_size=9, unique=True)))
    hop_s, more_s, rest_s = draw(numbers), draw(numbers), draw(numbers)
    shape = st.lists(st.integers(1, 2**24) | words, max_size=4).map(tuple)
    tensors = st.lists(st.builds(TensorSpec, words, words, shape), max_size=2).map(tuple)
    scores = (TensorSpec("scores", "float32", (1, len(labels))),)
    engines = {
        name: replace(
            engine_file(name, data),
            parameters=draw(st.integers(0, 2**60)),
            opset=draw(st.integers(1, 30)),
            macs=draw(st.dictionaries(st.sampled_from(TYPES), st.integers(1, 2**60), min_size=1)),
            inputs=draw(tensors),
            outputs=scores,
        )
        for name, data in contents.items()
    }
    manifest = Manifest(
        name=draw(words),
        model=draw(words),
        labels=labels,
        trained=draw(st.booleans()),
        window_s=hop_s + more_s,
        hop_s=hop_s,
        max_window_s=hop_s + more_s + hop_s + rest_s,
        frame_rate=draw(numbers),
        min_speech_s=draw(st.floats(0, hop_s)),
        crop=Crop(draw(st.integers(8, 1024)), draw(numbers), draw(st.booleans())),
        engines=engines,
        plans={"face": plan("face", contents["face"][::-1], contents["face"])},
        weights=tuple(draw(st.lists(st.builds(Weights, words, words, words), max_size=3))),
        parity=draw(st.dictionaries(words, st.floats(allow_nan=False), max_size=3)),
        approximations=tuple(draw(st.lists(words, max_size=3))),
        notes=tuple(draw(st.lists(words, max_size=3))),
    )
    return manifest, contents


@given(generated=manifests())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_saved_bundle_opens_unchanged(
    tmp_path: Path, generated: tuple[Manifest, dict[str, bytes]]
) -> None:
    manifest, contents = generated
    files = write_files(tmp_path / "files", contents)
    files |= write_plan(tmp_path / "files", contents)
    bundle = save_bundle(tmp_path / "bundle", manifest, files)
    assert bundle.manifest == manifest
    assert {path.name for path in bundle.folder.iterdir()} == {MANIFEST, *files}
    assert Bundle.open(tmp_path / "bundle") == bundle
    for name, data in contents.items():
        assert bundle.engine_path(name).read_bytes() == data
