"""What training sees and hears of a file is what the runtime would see and hear of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.errors import MediaError
from mfer_edge.manifest import Crop
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.samples import ANGER, FEAR
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SpeechProbability, collect_speech, speech_segments
from tests.support.footage import filmed, images_of
from tests.support.paths import shared_data
from tests.train.synthetic import RATE, entry, voice, write_sound
from train.data.cache import Cache
from train.data.index import DatasetError
from train.data.preprocess import FRAME_RATE, Preprocessor, read_face

WHOLE_S = 9.0  # a window longer than any clip here
HALF_LEVEL = 0.501 / 32767  # of 16 bits, in which speech is kept


@dataclasses.dataclass
class Noting:
    """A network that notes what it is given."""

    network: Engine
    given: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        self.given.append(arrays)
        return self.network(**arrays)


def no_faces(faces: np.ndarray) -> dict[str, np.ndarray]:
    """A face network for crops of any size."""
    return {"embedding": np.zeros((len(faces), 192), np.float32)}


@pytest.fixture(scope="module")
def networks() -> dict[str, Engine]:
    return load_engines(Bundle.open())


def runtime(
    path: Path, networks: dict[str, Engine], size: int = 48, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Give the speech and the faces that the runtime's networks get in one window over a clip."""
    bundle = Bundle.open()
    manifest = dataclasses.replace(bundle.manifest, crop=Crop(size, scale))
    face, audio = Noting(no_faces), Noting(networks["audio"])
    engines = {**networks, "face": face, "audio": audio}
    pipeline = Pipeline(Model.of(dataclasses.replace(bundle, manifest=manifest), engines))
    pipeline.analyze(path, pipeline.options(WHOLE_S))
    waves = [given["wave"][0] for given in audio.given]
    faces = [given["faces"][:, 0] for given in face.given]
    assert len(waves) <= 1
    (speech,) = waves or [np.zeros(0, np.float32)]
    return speech, np.concatenate([np.zeros((0, size, size), np.uint8), *faces])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def preprocessor(cache: Cache) -> Preprocessor:
    return Preprocessor(48, 1.0, cache)


@pytest.fixture(scope="module")
def moment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of the clip around its face, with sound."""
    images = [np.ascontiguousarray(image[:, 160:520]) for image in images_of(ANGER)[8:13]]
    path = tmp_path_factory.mktemp("moment") / "moment.mp4"
    return filmed(path, images, read_audio(ANGER)[25_600:41_600])


@pytest.mark.parametrize("name", ["03-01-05-01-01-01-01.flac", "03-01-01-01-02-02-01.flac"])
def test_training_hears_what_the_runtime_hears(
    name: str, networks: dict[str, Engine], preprocessor: Preprocessor
) -> None:
    path = shared_data("RAVDESS", "Actor_01", name)
    heard, _ = runtime(path, networks)
    inputs = preprocessor(entry(path))
    assert 0.5 * RATE < len(heard) < len(read_audio(path))
    assert inputs.speech.dtype == np.float32
    assert inputs.speech_s == len(heard) / RATE
    np.testing.assert_allclose(inputs.speech, heard, rtol=0, atol=HALF_LEVEL)
    assert inputs.faces.shape == (0, 48, 48)


@pytest.mark.parametrize(("size", "scale"), [(48, 1.0), (224, 1.3)])
def test_training_sees_what_the_runtime_sees(
    size: int, scale: float, networks: dict[str, Engine], cache: Cache
) -> None:
    heard, seen = runtime(FEAR, networks, size, scale)
    inputs = Preprocessor(size, scale, cache)(entry(FEAR, "av"))
    assert len(seen) == len(images_of(FEAR)) and seen.std() > 10
    np.testing.assert_array_equal(inputs.faces, seen)
    np.testing.assert_allclose(inputs.speech, heard, rtol=0, atol=HALF_LEVEL)


def test_of_two_faces_training_takes_the_one_that_the_runtime_takes(
    tmp_path: Path, networks: dict[str, Engine], preprocessor: Preprocessor
) -> None:
    """Not the first, nor the one seen more often, but the one that takes more of the picture."""
    large = [image[:, 160:520] for image in images_of(ANGER)[8:18]]
    small = [cv2.resize(image[30:330, 190:490], (240, 240)) for image in images_of(FEAR)[5:15]]
    small = [np.pad(image, ((60, 60), (60, 60), (0, 0))) for image in small]
    both = [np.hstack(pair) for pair in zip(small, large, strict=True)]
    first = np.hstack([small[0], np.zeros_like(large[0])])
    path = filmed(tmp_path / "pair.mp4", [first, *both], None)
    one = filmed(tmp_path / "one.mp4", [np.ascontiguousarray(i) for i in large], None)
    _, seen = runtime(path, networks)
    faces = preprocessor(entry(path, "av")).faces
    alone = preprocessor(entry(one, "av")).faces
    np.testing.assert_array_equal(faces, seen)
    assert 8 <= len(faces) <= 10  # it is found within 0.5 s
    assert np.abs(faces.astype(float) - alone[-len(faces) :]).mean() < 25


def test_a_recording_without_speech_is_used_whole(
    tmp_path: Path, preprocessor: Preprocessor
) -> None:
    quiet = np.random.default_rng(0).normal(0, 1e-3, RATE).astype(np.float32)
    inputs = preprocessor(entry(write_sound(tmp_path / "quiet.wav", quiet)))
    np.testing.assert_allclose(inputs.speech, quiet, rtol=0, atol=2 * HALF_LEVEL)


def test_a_recording_with_a_scrap_of_speech_is_used_whole(
    tmp_path: Path, networks: dict[str, Engine], preprocessor: Preprocessor
) -> None:
    wave = np.zeros(2 * RATE, np.float32)
    wave[RATE : RATE + 4300] = read_audio(ANGER)[28_000:32_300]
    segments = speech_segments(SpeechProbability(networks["vad"])(wave), len(wave))
    assert 0 < len(collect_speech(wave, segments)) < 0.4 * RATE
    path = write_sound(tmp_path / "scrap.wav", wave)
    assert len(runtime(path, networks)[0]) == 0  # the runtime would say that nobody speaks
    assert preprocessor(entry(path)).speech_s == 2.0


@pytest.mark.parametrize("samples", [1, 160, 480, 0.4 * RATE - 1, 0.4 * RATE])
def test_what_is_too_short_for_the_runtime_has_no_speech(
    tmp_path: Path, preprocessor: Preprocessor, samples: float
) -> None:
    hum = voice(1.0)[: int(samples)]
    inputs = preprocessor(entry(write_sound(tmp_path / "short.wav", hum)))
    assert len(inputs.speech) == (samples if samples >= 0.4 * RATE else 0)


def test_only_what_the_index_tells_of_is_used(
    moment: Path, tmp_path: Path, preprocessor: Preprocessor
) -> None:
    both = preprocessor(entry(moment, "av"))
    assert len(both.faces) == 5 and both.speech_s > 0.4
    silent, unseen = preprocessor(entry(moment, "video")), preprocessor(entry(moment, "audio"))
    assert len(silent.speech) == len(unseen.faces) == 0
    np.testing.assert_array_equal(silent.faces, both.faces)
    np.testing.assert_array_equal(unseen.speech, both.speech)


def test_a_film_without_a_sound_track_gives_faces_alone(
    moment: Path, tmp_path: Path, preprocessor: Preprocessor
) -> None:
    silent = filmed(tmp_path / "silent.mp4", images_of(moment)[:2], None)
    inputs = preprocessor(entry(silent, "av"))
    assert inputs.speech.shape == (0,) and inputs.speech_s == 0
    assert inputs.faces.shape == (2, 48, 48)


def test_a_film_without_a_face_gives_none(tmp_path: Path, preprocessor: Preprocessor) -> None:
    blank = [np.full((80, 80, 3), 90, np.uint8)] * 3
    inputs = preprocessor(entry(filmed(tmp_path / "blank.mp4", blank, voice(0.6)), "av"))
    assert inputs.faces.shape == (0, 48, 48) and inputs.faces.dtype == np.uint8
    assert inputs.speech_s > 0.4


def test_training_takes_as_many_pictures_a_second_as_the_runtime() -> None:
    assert Bundle.open().manifest.frame_rate == FRAME_RATE


def test_a_second_time_the_file_is_not_read(
    moment: Path, tmp_path: Path, preprocessor: Preprocessor
) -> None:
    path = tmp_path / "moment.mp4"
    path.write_bytes(moment.read_bytes())
    listed = entry(path, "av")
    first = preprocessor(listed)
    path.unlink()
    again = preprocessor(listed)
    np.testing.assert_array_equal(again.faces, first.faces)
    np.testing.assert_array_equal(again.speech, first.speech)


def test_a_file_that_is_gone_is_a_clear_error(moment: Path, preprocessor: Preprocessor) -> None:
    gone = dataclasses.replace(entry(moment, "av", content="00"), path=Path("/nowhere/clip.mp4"))
    with pytest.raises(MediaError, match=r"/nowhere/clip\.mp4"):
        preprocessor(gone)


def write_picture(path: Path, picture: np.ndarray) -> Path:
    cv2.imwrite(str(path), picture)
    return path


def test_a_picture_is_one_face_as_it_is(tmp_path: Path, preprocessor: Preprocessor) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    listed = entry(write_picture(tmp_path / "face.png", grey), "image")
    inputs = preprocessor(listed)
    np.testing.assert_array_equal(inputs.faces, grey[None])
    assert inputs.speech.shape == (0,)


def test_a_row_of_a_csv_is_one_face(tmp_path: Path, preprocessor: Preprocessor) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (48, 48)).astype(np.uint8)
    rows = [f"0,{' '.join(map(str, p.ravel()))},Training\n" for p in (255 - grey, grey)]
    path = tmp_path / "fer2013.csv"
    path.write_text("emotion,pixels,Usage\n" + "".join(rows))
    np.testing.assert_array_equal(preprocessor(entry(path, "image", row=1)).faces, grey[None])


def test_a_larger_picture_is_averaged_and_a_smaller_one_interpolated(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    large = random.integers(0, 256, (96, 96)).astype(np.uint8)
    path = write_picture(tmp_path / "large.png", large)
    means = large.reshape(48, 2, 48, 2).astype(float).mean((1, 3))
    assert np.abs(read_face(entry(path, "image"), 48) - means).max() <= 0.5
    slope = np.tile(np.arange(0, 240, 5, np.uint8), (48, 1))
    path = write_picture(tmp_path / "small.png", slope)
    seen = read_face(entry(path, "image"), 224).astype(int)
    assert seen.shape == (224, 224)
    assert set(np.diff(seen[0])) <= {0, 1, 2}  # in steps of 5 if pixels were only repeated


def test_a_broken_picture_is_a_clear_error(tmp_path: Path, preprocessor: Preprocessor) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"broken\.png: not a picture"):
        preprocessor(entry(tmp_path / "broken.png", "image"))


@pytest.fixture
def keys(moment: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives the key of a clip under other circumstances."""
    bundle = Bundle.open()

    def key(
        kind: str = "av", size: int = 48, scale: float = 1.0, other: str = "", **fields: Any
    ) -> str:
        engines = dict(bundle.manifest.engines)
        if other:
            engines[other] = dataclasses.replace(engines[other], sha256="00" * 32)
        manifest = dataclasses.replace(bundle.manifest, engines=engines)
        opened = dataclasses.replace(bundle, manifest=manifest)
        monkeypatch.setattr(Bundle, "open", lambda folder=None: opened)
        listed = dataclasses.replace(entry(moment, kind), **fields)
        return Preprocessor(size, scale, cache).key(listed)

    yield key


def test_the_key_changes_with_all_that_changes_the_inputs(keys: Any) -> None:
    made = [
        keys(),
        keys(content="ab" * 32),
        keys("video"),
        keys(size=224),
        keys(scale=1.3),
        *(keys(other=name) for name in ("vad", "pnet", "rnet", "onet")),
    ]
    assert len(set(made)) == len(made)


def test_the_key_does_not_change_with_what_does_not_change_the_inputs(keys: Any) -> None:
    expected = keys()
    assert keys(path=Path("/elsewhere/clip.mp4"), label="sad", actor="own/x") == expected
    assert keys(other="audio") == keys(other="face") == expected
