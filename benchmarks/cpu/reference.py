"""The paper's system as people run it today: PyTorch, one clip in, eight scores out.

`python -m benchmarks.cpu.reference CLIP... [--weights DIR]` prints the scores and the time of each
stage.

| part | here | why |
|---|---|---|
| pictures | `cv2.VideoCapture`, every frame read, 5 a second kept | the paper's rate; usual code |
| sound | `mfer_edge.sources.clip.read_sound`: PyAV | nothing else needs torchaudio or librosa |
| faces | facenet-pytorch's MTCNN as it comes, on every kept frame; the largest | the paper |
| crop | `mfer_edge.arms.crop_face`: a square, grey, 224x224, (x/255 - 0.5)/0.5 | the paper |
| ViT-B/16 | transformers, one face at a time; the class token after the last norm | the paper |
| speech | silero-vad's PyTorch model; clips under 3 s whole, and those without speech | its code |
| emotion2vec | funasr's class, on what is speech, normalised as its `inference` does | the paper |
| arms, fusion | two-layer GRUs, the last state of each, one linear layer over both | the paper |

The authors normalise the sound before they look for speech in it; that would make silero-vad find
another stretch than mfer-edge does, at the same cost, so it is left out. The clip is one sequence,
whatever its length. Nothing is fused, quantised, compiled, batched or skipped; PyTorch gets all
core_count, which silero-vad takes from it when imported, and runs in inference mode.

Weights lie in a folder as they are published. Without `--weights` they are random, and the same as
those of `mfer-edge export --preset paper --random-init`: they cost what trained ones cost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import third_party
from benchmarks.harness.processes import run_script
from export.checkpoint import open_source
from mfer_edge.cpu import core_count
from mfer_edge.errors import MediaError, MferError
from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.manifest import Crop
from mfer_edge.sources.clip import read_sound
from mfer_edge.speech.vad import SAMPLE_RATE
from mfer_edge.stopwatch import Stopwatch
from train.data.preprocess import CROP_SCALE, FRAME_RATE
from train.labels import EMOTIONS
from train.models import emotion2vec, vit
from train.models.emotion_model import EmotionModel

VAD_FROM_S = 3.0  # shorter clips are used whole: the authors' code
MODEL_CONF = "config.json"  # beside emotion2vec's weights: what funasr's class is built from
ARMS = "arms.pt"


@dataclass(frozen=True)
class Result:
    """What the reference says of a clip."""

    scores: dict[str, float]  # of each emotion, summing to 1
    stages_s: dict[str, float]  # by the names of mfer-edge's stages
    frames: int  # looked at
    faces: int  # frames in which there was one


class Reference:
    """All networks, loaded.

    Args:
        weights: a folder as `write_weights` writes it.

    Raises:
        MferError: a package is missing, or there are no such weights.
    """

    def __init__(self, weights: Path) -> None:
        if not (weights / ARMS).is_file():
            raise MferError(f"{weights}: no {ARMS}: name a new folder for random weights instead")
        self._silero = third_party.silero()
        self._vad = self._silero.load_silero_vad()
        self._mtcnn = third_party.facenet().MTCNN()
        folder = weights / vit.FOLDER
        self._vit = (
            third_party.transformers().ViTForImageClassification.from_pretrained(folder).eval()
        )
        self._emotion2vec = load_emotion2vec(weights / emotion2vec.FOLDER)
        arms = torch.load(weights / ARMS, weights_only=True)
        self._visual, self._audio = _gru(arms["visual"]), _gru(arms["audio"])
        self._fusion = nn.Linear(*reversed(arms["fusion"]["weight"].shape))
        self._fusion.load_state_dict(arms["fusion"])
        self._crop = Crop(self._vit.config.image_size, CROP_SCALE)
        torch.set_num_threads(core_count())

    @torch.inference_mode()
    def analyze(self, path: Path | str) -> Result:
        """Read a clip's emotion.

        Raises:
            MediaError: the clip can't be read, or has no face or no sound.
        """
        stopwatch = Stopwatch()
        with stopwatch("decode"):
            images = sampled_pictures(Path(path))
            wave = torch.from_numpy(read_sound(path))
        with stopwatch("detect"):
            crops = [crop for crop in map(self._face, images) if crop is not None]
        if not crops or not len(wave):
            raise MediaError(f"{path}: the reference needs a face and sound")
        with stopwatch("visual"):
            faces = torch.cat([vit_embedding(self._vit, crop) for crop in crops])
            visual = self._visual(faces[None])[1][-1]
        with stopwatch("vad"):
            speech = self._speech(wave)
        with stopwatch("audio"):
            audio = self._audio(emotion2vec_features(self._emotion2vec, speech))[1][-1]
        with stopwatch("fusion"):
            scores = self._fusion(torch.cat([visual, audio], 1)).softmax(1)[0].tolist()
        named = dict(zip(EMOTIONS, scores, strict=True))
        return Result(named, stopwatch.stages_s, len(images), len(crops))

    def _face(self, image: np.ndarray) -> np.ndarray | None:
        boxes, probabilities = self._mtcnn.detect(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if boxes is None:
            return None
        left, top, right, bottom = boxes[0].tolist()
        return crop_face(image, FaceBox(left, top, right, bottom, probabilities[0]), self._crop)

    def _speech(self, wave: Tensor) -> Tensor:
        if len(wave) < VAD_FROM_S * SAMPLE_RATE:
            return wave
        found = self._silero.get_speech_timestamps(wave, self._vad)
        return self._silero.collect_chunks(found, wave) if found else wave


def sampled_pictures(path: Path) -> list[np.ndarray]:
    """Decode a video, and keep 5 pictures a second of it: each (height, width, 3) uint8, BGR.

    Raises:
        MediaError: there is nothing that OpenCV can decode.
    """
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    images: list[np.ndarray] = []
    for index in itertools.count():
        there, image = capture.read()
        if not there:
            break
        if index * FRAME_RATE / rate + 1e-3 >= len(images):
            images.append(image)
    capture.release()
    if not images:
        raise MediaError(f"{path}: no video that OpenCV can decode")
    return images


def vit_embedding(model: Any, crop: np.ndarray) -> Tensor:
    """Embed one (size, size) uint8 grey face by transformers' model: (1, width)."""
    pixels = torch.from_numpy(crop)[None, None].expand(1, 3, -1, -1)
    return model.vit((pixels / 255 - 0.5) / 0.5).last_hidden_state[:, 0]


def emotion2vec_features(model: Any, speech: Tensor) -> Tensor:
    """Give funasr's features of (samples,) 16 kHz speech: (1, steps, width)."""
    normal = F.layer_norm(speech, speech.shape)
    return model.extract_features(normal[None], padding_mask=None)["x"]


def load_emotion2vec(folder: Path) -> nn.Module:
    """Build funasr's model and load its weights.

    Raises:
        MferError: funasr is missing.
    """
    conf = json.loads((folder / MODEL_CONF).read_text())
    model = third_party.emotion2vec().Emotion2vec(
        model_conf=conf, vocab_size=len(emotion2vec.LABELS)
    )
    state = torch.load(folder / "model.pt", weights_only=True)["model"]
    model.load_state_dict({name.removeprefix("d2v_model."): v for name, v in state.items()})
    return model.eval()


def write_weights(model: EmotionModel, folder: Path) -> None:
    """Write a model of the preset `paper` as the parts of it are published, and its arms."""
    face, voice = folder / vit.FOLDER, folder / emotion2vec.FOLDER
    for path in (face, voice):
        path.mkdir(parents=True)
    vit_config: Any = model.face.config
    labels = dict(enumerate(vit.LABELS))
    published = {**vit_config.published(), "model_type": "vit", "id2label": labels}
    (face / "config.json").write_text(json.dumps(published))
    save_file(model.face.state_dict(), face / "model.safetensors")
    conf = third_party.emotion2vec_conf(model.speech.config)  # type: ignore[arg-type]
    (voice / MODEL_CONF).write_text(json.dumps(conf))
    torch.save({"model": model.speech.state_dict()}, voice / "model.pt")
    arms = {
        "visual": model.visual.gru.state_dict(),
        "audio": model.audio.gru.state_dict(),  # type: ignore[union-attr]
        "fusion": model.fusion.state_dict(),
    }
    torch.save(arms, folder / ARMS)


def _gru(state: dict[str, Tensor]) -> nn.GRU:
    gates, width_in = state["weight_ih_l0"].shape
    gru = nn.GRU(width_in, gates // 3, num_layers=2, batch_first=True)
    gru.load_state_dict(state)
    return gru


def show(clip: Path, result: Result) -> str:
    """Say in a line what a clip shows and where the time went."""
    label = max(result.scores, key=lambda name: result.scores[name])
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in result.stages_s.items())
    return (
        f"{clip}: {label} {result.scores[label]:.3f}; {result.faces} faces in {result.frames} "
        f"frames; {sum(result.stages_s.values()):.2f} s: {stages}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read clips, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP")
    parser.add_argument(
        "--weights", type=Path, help="folder of weights; random ones are written where it is new"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or Path(folder) / "weights"
        if not weights.exists():
            write_weights(open_source("paper", random_init=True).model, weights)
        if options.clips:
            reference = Reference(weights)
        for clip in options.clips:
            print(show(clip, reference.analyze(clip)))


if __name__ == "__main__":
    run_script(main)
