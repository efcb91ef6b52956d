"""The reference in PyTorch, against the runtime's pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.cpu.reference import (
    Reference,
    ReferenceAnalysis,
    sampled_frames,
    summary,
    vit_embedding,
)
from benchmarks.cpu.reference_weights import (
    emotion2vec_features,
    load_emotion2vec,
    write_weights,
)
from mfer_edge.errors import MediaError, MferError
from mfer_edge.samples import ANGER
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip, read_audio
from tests.support.clips import sine, write_clip
from tests.train.synthetic import small_presets, voice
from train.labels import EMOTIONS
from train.models import emotion2vec
from train.models.emotion_model import EmotionModel
from train.presets import PRESETS


@pytest.fixture(scope="module")
def model() -> Iterator[EmotionModel]:
    with small_presets():
        torch.manual_seed(0)
        made = EmotionModel(PRESETS["paper"]).eval()
        with torch.no_grad():  # scores far enough apart to tell one function from another
            made.fusion.weight.mul_(20)
        yield made


@pytest.fixture(scope="module")
def weights(model: EmotionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "weights"
    write_weights(model, folder)
    return folder


@pytest.fixture(scope="module")
def reference(weights: Path) -> Reference:
    threads = torch.get_num_threads()
    try:
        loaded = Reference(weights)
    except MferError as error:
        pytest.skip(f"the reference can't be built: {error}")
    torch.set_num_threads(threads)
    return loaded


@pytest.fixture(scope="module")
def result(reference: Reference) -> ReferenceAnalysis:
    return reference.analyze(ANGER)


def test_it_samples_the_frames_of_the_runtime() -> None:
    with Clip(ANGER) as clip:
        ours = [item.image for item in clip if isinstance(item, Frame)]
    theirs = sampled_frames(ANGER)
    assert len(theirs) == len(ours) == 21
    for mine, other in zip(ours, theirs, strict=True):
        # The two convert colours differently, by a level or two.
        assert np.abs(mine.astype(int) - other).mean() < 3
    assert np.abs(theirs[0].astype(int) - theirs[12]).mean() > 3


def test_backbones_equal_those_of_training(
    model: EmotionModel, reference: Reference, weights: Path
) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    wave = torch.from_numpy(voice(1.0))
    funasr = load_emotion2vec(weights / emotion2vec.FOLDER)
    with torch.inference_mode():
        face = model.face(torch.from_numpy(crop)[None, None])
        torch.testing.assert_close(
            vit_embedding(reference._models.vit, crop), face, atol=1e-5, rtol=0
        )
        features = emotion2vec_features(funasr, wave)
        torch.testing.assert_close(features, model.speech(wave[None]), atol=1e-4, rtol=0)
    assert features.std() > 0.1


def test_it_computes_what_the_runtime_computes(
    model: EmotionModel, result: ReferenceAnalysis
) -> None:
    from export.torch_reference import reference_engines
    from mfer_edge.arms import AudioArm, Fusion, VisualArm
    from mfer_edge.bundle import Bundle
    from mfer_edge.faces.crop import crop_face
    from mfer_edge.faces.mtcnn import FaceDetector
    from mfer_edge.manifest import Crop
    from mfer_edge.speech.vad import SpeechProbability, collect_speech, speech_segments

    networks = reference_engines(model)
    detector = FaceDetector(networks["pnet"], networks["rnet"], networks["onet"])
    crop = Crop(32, Bundle.open().manifest.crop.scale)
    with Clip(ANGER) as clip:
        images = [item.image for item in clip if isinstance(item, Frame)]
    faces = np.stack([crop_face(image, detector(image)[0], crop) for image in images])
    visual_arm = VisualArm(networks["face"], networks["visual"])
    wave = read_audio(ANGER)
    segments = speech_segments(SpeechProbability(networks["vad"])(wave), len(wave))
    audio = AudioArm(networks["audio"])(collect_speech(wave, segments))
    scores = Fusion(networks["fusion"])(visual_arm(visual_arm.embed(faces)), audio)
    assert scores is not None
    theirs = np.array([result.scores[label] for label in EMOTIONS])
    assert theirs.max() - theirs.min() > 0.05
    np.testing.assert_allclose(theirs, scores, atol=5e-3)


def test_an_analysis_and_its_summary(result: ReferenceAnalysis) -> None:
    assert list(result.scores) == list(EMOTIONS)
    assert sum(result.scores.values()) == pytest.approx(1.0)
    assert (result.frames, result.faces) == (21, 21)
    assert all(seconds > 0 for seconds in result.stages_s.values())
    line = summary(ANGER, result)
    assert max(result.scores, key=lambda name: result.scores[name]) in line
    assert "21 faces in 21 frames" in line


def test_short_clips_and_those_without_speech_are_used_whole(reference: Reference) -> None:
    short, silent = torch.from_numpy(voice(2.9)), torch.zeros(4 * 16_000)
    assert reference._speech(short) is short
    assert reference._speech(silent) is silent
    with_pause = torch.cat(
        [torch.zeros(40_000), torch.from_numpy(read_audio(ANGER)[22_400:48_000])]
    )
    assert 4_000 < len(reference._speech(with_pause)) < 30_000


def test_unusable_clips_are_refused(reference: Reference, tmp_path: Path) -> None:
    faceless = write_clip(tmp_path / "faceless.mp4", 0.4, audio=sine(0.4))
    with pytest.raises(MediaError, match=r"faceless.mp4: the reference needs a face and audio"):
        reference.analyze(faceless)
    words = tmp_path / "words.mp4"
    words.write_text("no video at all")
    with pytest.raises(MediaError, match=r"words.mp4: no video that OpenCV can decode"):
        reference.analyze(words)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MferError, match=r"no arms.pt: name a new folder"):
        Reference(tmp_path)
