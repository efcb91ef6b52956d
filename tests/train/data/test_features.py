"""Features are what the backbones make of the inputs, the same however they were come by."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mfer_edge.samples import ANGER
from mfer_edge.sources.clip import read_audio
from tests.support.footage import filmed, images_of
from tests.train.data.extraction import (
    DEPTH,
    PRESET,
    chosen,
    face_network,
    same,
    speech_network,
)
from tests.train.synthetic import RATE, entry, face_image, voice, write_sound
from train.data import features
from train.data.cache import Cache
from train.data.features import FeatureExtractor, Features, fingerprint
from train.data.index import DatasetError, Entry
from train.data.preprocess import Preprocessor
from train.models.fer_resnet import FerResnet


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """A face with a voice; a silent face; a voice without a face."""
    folder, clip = tmp_path_factory.mktemp("films"), ANGER
    images = [np.ascontiguousarray(image[:, 160:520]) for image in images_of(clip)[8:11]]
    sound = read_audio(clip)[25_600:35_200]
    blank = [np.full((80, 80, 3), 90, np.uint8)] * 3
    return [
        entry(filmed(folder / "both.mp4", images, sound), "av"),
        entry(filmed(folder / "silent.mp4", images[:2], None), "av"),
        entry(filmed(folder / "faceless.mp4", blank, sound), "av"),
    ]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Ten pictures, of which the first two are the same."""
    folder, random = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    for number in range(10):
        cv2.imwrite(str(folder / f"{number}.png"), face_image(number % 7, random))
    shutil.copy(folder / "0.png", folder / "1.png")
    return [entry(folder / f"{number}.png", "image") for number in range(10)]


class TestVoices:
    @pytest.fixture
    def extract(self, inputs: Preprocessor, cache: Cache) -> FeatureExtractor:
        return FeatureExtractor(PRESET, inputs, cache, speech=speech_network())

    def test_the_first_view_is_what_the_backbone_makes_of_the_recording(
        self, extract: FeatureExtractor, inputs: Preprocessor, voices: list[Entry]
    ) -> None:
        found, backbone = extract(voices), speech_network()
        assert len(found) == 4 and found.views == 3
        assert found.present.tolist() == [True] * 4
        for listed, views in zip(voices, found.sequences, strict=True):
            wave = torch.from_numpy(inputs(listed).speech[: round(1.2 * RATE)])
            with torch.inference_mode():
                expected = backbone(wave[None])[0]
            assert views[0].dtype == np.float16
            assert views[0].shape == (len(wave) // 640, DEPTH, 384)
            np.testing.assert_allclose(views[0], expected.half(), rtol=1e-2, atol=1e-3)

    def test_the_other_views_are_different_voices(
        self, extract: FeatureExtractor, voices: list[Entry]
    ) -> None:
        for one, other in ((0, 1), (0, 2), (1, 2)):
            changes = []
            for views in extract(voices).sequences:
                steps = min(map(len, views))
                change = views[one][:steps].astype(float) - views[other][:steps]
                assert change.any()
                changes.append(np.abs(change).mean())  # now and then the draws are small
            assert np.mean(changes) > 0.01

    def test_they_come_out_the_same_again_and_with_any_others(
        self, inputs: Preprocessor, voices: list[Entry], tmp_path: Path
    ) -> None:
        def extract(listed: Sequence[Entry], folder: str) -> Features:
            torch.manual_seed(len(folder))  # whatever the state of randomness
            np.random.seed(len(folder))
            cache = Cache(tmp_path / folder)
            return FeatureExtractor(PRESET, inputs, cache, speech=speech_network())(listed)

        cold = extract(voices, "one")
        assert same(extract(voices, "one"), cold)  # warm
        assert same(extract(voices, "another"), cold)
        assert same(extract(voices[2:3], "alone"), chosen(cold, 2))
        assert same(extract([voices[3], voices[0]], "turned round"), chosen(cold, 3, 0))

    @pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.03, 0.39])
    def test_a_recording_too_short_for_the_runtime_is_left_out_and_told(
        self, extract: FeatureExtractor, voices: list[Entry], tmp_path: Path, seconds: float
    ) -> None:
        told: list[str] = []
        short = entry(write_sound(tmp_path / "short.wav", voice(seconds)))
        found = extract([voices[0], short], say=told.append)
        assert found.present.tolist() == [True, False]
        assert [len(view) for view in found.sequences[1]] == [0, 0, 0]
        assert told[-1] == f"1 files have under 0.4 s of audio, such as {short.path}"
        assert extract([short]).present.tolist() == [False]

    def test_the_shortest_that_the_runtime_takes_has_features(
        self, extract: FeatureExtractor, tmp_path: Path
    ) -> None:
        told: list[str] = []
        found = extract([entry(write_sound(tmp_path / "a.wav", voice(0.4)))], say=told.append)
        assert [len(view) > 5 for view in found.sequences[0]] == [True] * 3
        assert len(told) == 1

    def test_a_silent_film_has_no_voice(
        self, extract: FeatureExtractor, films: list[Entry]
    ) -> None:
        assert extract(films).present.tolist() == [True, False, True]


class TestFaces:
    @pytest.fixture
    def extract(self, inputs: Preprocessor, cache: Cache) -> FeatureExtractor:
        return FeatureExtractor(PRESET, inputs, cache, face=face_network())

    def test_the_first_view_is_what_the_backbone_makes_of_the_faces(
        self, extract: FeatureExtractor, inputs: Preprocessor, films: list[Entry]
    ) -> None:
        told: list[str] = []
        found = extract(films, say=told.append)
        assert found.present.tolist() == [True, True, False]
        assert told[-1] == f"1 files have no face, such as {films[2].path}"
        for listed, views in zip(films, found.sequences, strict=True):
            crops = torch.from_numpy(inputs(listed).faces)[:, None].float()
            with torch.inference_mode():
                expected = face_network()(crops)
            assert [view.shape for view in views] == [(len(crops), 192)] * 3
            np.testing.assert_allclose(views[0], expected.half(), rtol=2e-3, atol=2e-5)
            if len(crops):
                assert np.abs(views[1].astype(float) - views[0]).max() > 0.002
                assert np.abs(views[1].astype(float) - views[2]).max() > 0.002

    def test_they_come_out_the_same_again_and_with_any_others(
        self, inputs: Preprocessor, films: list[Entry], tmp_path: Path
    ) -> None:
        def extract(listed: Sequence[Entry], folder: str) -> Features:
            torch.manual_seed(len(folder))
            cache = Cache(tmp_path / folder)
            return FeatureExtractor(PRESET, inputs, cache, face=face_network())(listed)

        cold = extract(films, "one")
        assert same(extract(films, "one"), cold)
        assert same(extract(films[::-1], "turned round"), chosen(cold, 2, 1, 0))
        assert same(extract(films[1:2], "alone"), chosen(cold, 1))

    def test_a_film_s_faces_are_varied_alike(
        self, inputs: Preprocessor, cache: Cache, tmp_path: Path
    ) -> None:
        """Over many views, as some draws change little beside the noise of every frame."""
        many = replace(PRESET, face_views=17)
        extract = FeatureExtractor(many, inputs, cache, face=face_network())
        image = np.ascontiguousarray(images_of(ANGER)[8][:, 160:520])
        (views,) = extract([entry(filmed(tmp_path / "a.mp4", [image] * 4, None), "av")]).sequences
        varied = np.stack(views[1:]).astype(float)
        spread = np.abs(varied - varied.mean(1, keepdims=True)).mean()
        change = np.abs(varied - views[0]).mean()
        assert spread < 0.3 * change

    def test_randomness_elsewhere_goes_on_as_if_nothing_had_been(
        self, extract: FeatureExtractor, films: list[Entry]
    ) -> None:
        before = torch.get_rng_state()
        extract(films)
        assert torch.equal(torch.get_rng_state(), before)

    def test_pictures_are_embedded_many_at_a_time_and_varied_each_by_itself(
        self,
        extract: FeatureExtractor,
        films: list[Entry],
        faces: list[Entry],
        inputs: Preprocessor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(features, "IMAGES", 4)
        done: list[tuple[int, int]] = []
        listed = [*faces[:6], films[1], *faces[6:]]
        found = extract(listed, lambda *counts: done.append(counts))
        assert done == [(number, 12) for number in range(1, 13)]  # views of 4 faces, 2, the film, 4
        crops = torch.from_numpy(np.concatenate([inputs(e).faces for e in faces]))
        with torch.inference_mode():
            expected = face_network()(crops[:, None])
        alone = chosen(found, *range(6), *range(7, 11))
        first = np.concatenate([views[0] for views in alone.sequences])
        np.testing.assert_allclose(first, expected.half(), rtol=2e-3, atol=2e-5)
        twin, other = found.sequences[:2]
        np.testing.assert_array_equal(twin[0], other[0])
        assert np.abs(twin[1].astype(float) - other[1]).max() > 0.003
        assert same(extract(listed), found)


def free_room(size: float) -> Callable[[Path], Any]:
    return lambda folder: SimpleNamespace(free=size)


class TestEstimate:
    @pytest.fixture
    def hums(self, tmp_path: Path) -> list[Entry]:
        """Four recordings whose features are of one size: whatever VAD says, all are used whole."""
        random = np.random.default_rng(0)
        waves = random.normal(0, 1e-3, (4, RATE)).astype(np.float32)
        return [entry(write_sound(tmp_path / f"{n}.wav", wave)) for n, wave in enumerate(waves)]

    @pytest.fixture
    def extract(self, inputs: Preprocessor, cache: Cache) -> FeatureExtractor:
        alike = replace(PRESET, views=1, face_views=1)
        return FeatureExtractor(alike, inputs, cache, speech=speech_network())

    def test_size_and_time_are_told_before_the_work(
        self, extract: FeatureExtractor, hums: list[Entry]
    ) -> None:
        events: list[str] = []
        extract(hums, lambda done, count: events.append(f"{done} of {count}"), events.append)
        assert events[0].startswith("4 views to go: about 0 MB and 0 min")
        assert events[1:] == [f"{done} of 4" for done in (1, 2, 3, 4)]
        events.clear()
        extract([*hums, *hums[:1]], say=events.append)
        assert not events  # nothing is left to do

    def test_without_room_the_work_is_refused_before_it_starts(
        self,
        extract: FeatureExtractor,
        cache: Cache,
        hums: list[Entry],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(features, "SAMPLES", 1)
        step = DEPTH * 384 * 2  # bytes
        needed = len(hums) * (RATE // 640 * step + 8)
        monkeypatch.setattr(shutil, "disk_usage", free_room(needed - 1))
        message = r"the features need about 0 MB, and 0 MB are free"
        with pytest.raises(DatasetError, match=f"{cache.folder}: {message}"):
            extract(hums)
        assert len(list(cache.folder.rglob("*.npz"))) == 1  # the one that was measured
        monkeypatch.setattr(shutil, "disk_usage", free_room(needed))
        assert len(extract(hums)) == 4

    def test_what_is_there_already_needs_no_room(
        self, extract: FeatureExtractor, hums: list[Entry], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = extract(hums)
        monkeypatch.setattr(shutil, "disk_usage", free_room(0))
        assert same(extract(hums), found)


def test_other_weights_and_settings_give_other_features(
    inputs: Preprocessor, cache: Cache, voices: list[Entry], films: list[Entry]
) -> None:
    def voice_of(seed: int = 0, **changes: Any) -> np.ndarray:
        preset = replace(PRESET, **changes)
        extract = FeatureExtractor(preset, inputs, cache, speech=speech_network(seed))
        return extract(voices[3:]).sequences[0][-1]

    def face_of(seed: int = 0, **changes: Any) -> np.ndarray:
        preset = replace(PRESET, **changes)
        return FeatureExtractor(preset, inputs, cache, face=face_network(seed))(
            films[:1]
        ).sequences[0][-1]

    quiet = replace(PRESET.voice_changes, noisy=0.0)
    made = [
        voice_of(),
        voice_of(1),
        voice_of(longest_s=0.9),
        voice_of(views=2),
        voice_of(voice_changes=quiet),
        face_of(),
        face_of(1),
        face_of(face_changes=0.3),
        face_of(face_views=2),
    ]
    count = Counter(made_by.tobytes() for made_by in made)
    assert len(count) == len(made)
    assert voice_of().tobytes() in count and voice_of(face_changes=0.3).tobytes() in count
    assert face_of().tobytes() in count and face_of(longest_s=0.9).tobytes() in count


def test_a_fingerprint_is_of_weights_and_names_and_kind() -> None:
    class Other(FerResnet):
        pass

    torch.manual_seed(0)
    network, other = face_network(), Other()
    other.load_state_dict(network.state_dict())
    prints = [fingerprint(network), fingerprint(other)]
    assert fingerprint(face_network()) == prints[0]
    with torch.no_grad():
        network.blocks[5].second[0].weight[3, 1, 0, 0] += 1e-6  # type: ignore[index,union-attr]
    prints.append(fingerprint(network))
    assert len(set(prints)) == 3


def test_an_extractor_has_one_backbone(inputs: Preprocessor, cache: Cache) -> None:
    with pytest.raises(ValueError, match="one backbone"):
        FeatureExtractor(PRESET, inputs, cache)
    with pytest.raises(ValueError, match="one backbone"):
        FeatureExtractor(PRESET, inputs, cache, face=face_network(), speech=speech_network())


def copy_of(module: nn.Module, kind: type) -> nn.Module:
    """The same weights in a class of another name."""
    copied = copy.copy(module)
    copied.__class__ = kind
    return copied


def test_renamed_backbones_keep_their_caches() -> None:
    for module, name in ((face_network(), "FaceEncoder"), (speech_network(), "SpeechEncoder")):
        earlier = type(name, (type(module),), {})
        assert fingerprint(module) == fingerprint(copy_of(module, earlier))
