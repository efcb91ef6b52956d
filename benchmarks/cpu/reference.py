"""The paper's system as people run it today: PyTorch, one clip in, eight scores out.

`python -m benchmarks.cpu.reference CLIP... [--weights DIR]` prints the scores and the time of each
stage.

| part | here | why |
|---|---|---|
| frames | `cv2.VideoCapture`, every frame read, 5 a second kept | the paper's rate; usual code |
| audio | `mfer_edge.sources.clip.read_audio`: PyAV | nothing else needs torchaudio or librosa |
| faces | facenet-pytorch's MTCNN by default, on every kept frame; the largest | the paper |
| crop | `mfer_edge.faces.crop.crop_face`: a square, grey, 224x224, (x/255 - 0.5)/0.5 | the paper |
| ViT-B/16 | transformers, one face at a time; the class token after the last norm | the paper |
| speech | silero-vad's PyTorch model; clips under 3 s whole, and those without speech | its code |
| emotion2vec | funasr's class, on the speech, normalised as its `inference` does | the paper |
| arms, fusion | two-layer GRUs, the last state of each, one linear layer over both | the paper |

The authors normalise the audio before VAD; silero-vad would then find other segments than mfer-edge
does, at the same cost, so that is left out. The clip is one sequence, whatever its length. Nothing
is fused, quantised, compiled, batched or skipped; PyTorch uses all cores (silero-vad sets it to one
thread when imported, which is undone) and runs in inference mode.

Weights lie in a folder as they are published. Without `--weights` they are random, and the same as
those of `mfer-edge export --preset paper --random-init`: they cost what trained ones cost.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.cpu.reference_weights import (
    ReferenceModels,
    emotion2vec_features,
    write_weights,
)
from benchmarks.harness import script
from benchmarks.harness.processes import PassResult
from benchmarks.harness.systems import sum_stages
from export.checkpoint import open_source
from mfer_edge.cpu import core_count
from mfer_edge.errors import MediaError
from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.manifest import Crop
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from mfer_edge.stopwatch import Stopwatch
from train.data.preprocess import CROP_SCALE, FRAME_RATE
from train.labels import EMOTIONS

VAD_FROM_S = 3.0  # shorter clips are used whole: the authors' code


@dataclass(frozen=True)
class ReferenceAnalysis:
    """The reference's result for a clip."""

    scores: dict[str, float]  # of each emotion, summing to 1
    stages_s: dict[str, float]  # by the names of mfer-edge's stages
    frames: int  # sampled ones
    faces: int  # frames with a face


class Reference:
    """The reference, ready to analyse clips.

    Args:
        weights: a folder as `write_weights` writes it.

    Raises:
        MferError: a package is missing, or there are no such weights.
    """

    def __init__(self, weights: Path) -> None:
        self._models = ReferenceModels.load(weights)
        self._crop = Crop(self._models.vit.config.image_size, CROP_SCALE)
        torch.set_num_threads(core_count())

    @torch.inference_mode()
    def analyze(self, path: Path | str) -> ReferenceAnalysis:
        """Compute a clip's scores.

        Raises:
            MediaError: the clip can't be read, or has no face or no audio.
        """
        models, stopwatch = self._models, Stopwatch()
        with stopwatch("decode"):
            images = sampled_frames(Path(path))
            wave = torch.from_numpy(read_audio(path))
        with stopwatch("detect"):
            crops = [crop for crop in map(self._face, images) if crop is not None]
        if not crops or not len(wave):
            raise MediaError(f"{path}: the reference needs a face and audio")
        with stopwatch("visual"):
            faces = torch.cat([vit_embedding(models.vit, crop) for crop in crops])
            visual = models.visual(faces[None])[1][-1]
        with stopwatch("vad"):
            speech = self._speech(wave)
        with stopwatch("audio"):
            audio = models.audio(emotion2vec_features(models.emotion2vec, speech))[1][-1]
        with stopwatch("fusion"):
            scores = models.fusion(torch.cat([visual, audio], 1)).softmax(1)[0].tolist()
        named = dict(zip(EMOTIONS, scores, strict=True))
        return ReferenceAnalysis(named, stopwatch.stages_s, len(images), len(crops))

    def _face(self, image: np.ndarray) -> np.ndarray | None:
        boxes, probabilities = self._models.mtcnn.detect(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if boxes is None:
            return None
        left, top, right, bottom = boxes[0].tolist()
        return crop_face(image, FaceBox(left, top, right, bottom, probabilities[0]), self._crop)

    def _speech(self, wave: Tensor) -> Tensor:
        if len(wave) < VAD_FROM_S * SAMPLE_RATE:
            return wave
        segments = self._models.silero.get_speech_timestamps(wave, self._models.vad)
        return self._models.silero.collect_chunks(segments, wave) if segments else wave


def analyze_with_reference(weights: str, *clips: str) -> Callable[[], PassResult]:
    """Load the reference; a pass analyses the clips."""
    reference = Reference(Path(weights))

    def one_pass() -> PassResult:
        analyses = [reference.analyze(clip) for clip in clips]
        return PassResult(sum_stages([a.stages_s for a in analyses]), [a.scores for a in analyses])

    return one_pass


def sampled_frames(path: Path) -> list[np.ndarray]:
    """Decode a video, and keep 5 frames a second: each (height, width, 3) uint8, BGR.

    Raises:
        MediaError: OpenCV can't decode it.
    """
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    images: list[np.ndarray] = []
    for index in itertools.count():
        decoded, image = capture.read()
        if not decoded:
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


def summary(clip: Path, analysis: ReferenceAnalysis) -> str:
    """Format a clip's label, score and stage times in a line."""
    label = max(analysis.scores, key=lambda name: analysis.scores[name])
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in analysis.stages_s.items())
    return (
        f"{clip}: {label} {analysis.scores[label]:.3f}; {analysis.faces} faces in "
        f"{analysis.frames} frames; {sum(analysis.stages_s.values()):.2f} s: {stages}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Analyse clips, or only write weights."""
    parser = script.parser_of(__doc__)
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
            print(summary(clip, reference.analyze(clip)))


if __name__ == "__main__":
    script.run(main)
