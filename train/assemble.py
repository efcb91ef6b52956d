"""Put the compact model together: visual arm, fusion, temperatures, checkpoint.

`python -m train.assemble --faces DIR --voices DIR --data FER2013 --whisper WEIGHTS` takes what
`train.faces` and `train.voices` left. No bulk video with labels is at hand, so faces over time are
made from FER-2013 pictures: a few random changes of one to three faces of an emotion, coming from
and going back to neutral ones, as in a clip. Fusion joins the logits of those with the logits of
RAVDESS voices of the same emotion (calm voices with neutral faces), each from networks that have
seen neither the face nor the speaker; a weight for each arm and one bias a label are all it learns.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from train.arms import GruArm
from train.augment_faces import vary_faces
from train.compact import CHECKPOINT, VISUAL_WIDTH, CompactModel, save_compact
from train.datasets import (
    EMOTIONS,
    FACE_EMOTIONS,
    FACE_OF_EMOTION,
    LUNA_JIMENEZ_FOLDS,
    Faces,
    fer2013,
)
from train.face_encoder import FACE_EMBEDDING, FaceEncoder
from train.faces import FaceClassifier, as_batch, predict
from train.fit import (
    Batch,
    FitOptions,
    calibration_error,
    fit,
    fit_temperature,
    softmax,
    unweighted_recall,
)

VIEWS = 4  # random changes of each face
BATCH = 64
STEPS = 1500
LONGEST = 22  # faces in a sequence: a window's, and a little more
MAX_FACES = 3  # different faces in one sequence
NEUTRAL = FACE_EMOTIONS.index("neutral")
SEQUENCES = 4000  # made for calibrating and for testing, each


@dataclass(frozen=True)
class FaceViews:
    """Embeddings of random changes of faces."""

    embeddings: np.ndarray  # (faces, views, 192) float32
    of_label: list[np.ndarray]  # for each of FACE_EMOTIONS, the faces that have it


@torch.inference_mode()
def face_views(encoder: FaceEncoder, faces: Faces, seed: int) -> FaceViews:
    """Embed `VIEWS` random changes of every face."""
    torch.manual_seed(seed)
    encoder.eval()
    views = []
    for _ in range(VIEWS):
        batches = [as_batch(faces.images[i : i + 256]) for i in range(0, len(faces), 256)]
        with torch.autocast("cpu", torch.bfloat16):
            views.append(torch.cat([encoder(vary_faces(batch)).float() for batch in batches]))
    of_label = [np.flatnonzero(faces.labels == label) for label in range(len(FACE_EMOTIONS))]
    return FaceViews(torch.stack(views, 1).numpy(), of_label)


def face_sequence(
    views: FaceViews, emotion: int, random: np.random.Generator, max_faces: int = MAX_FACES
) -> np.ndarray:
    """Make up a face over time that shows one of EMOTIONS: (frames, 192)."""
    label = FACE_EMOTIONS.index(FACE_OF_EMOTION[EMOTIONS[emotion]])
    length = int(random.integers(3, LONGEST + 1))
    shown = random.choice(views.of_label[label], random.integers(1, max_faces + 1))
    order = np.sort(random.integers(0, len(shown), length))  # each in one stretch
    faces = shown[order]
    if label != NEUTRAL and random.random() < 0.5:
        calm = random.choice(views.of_label[NEUTRAL])
        before, after = random.integers(0, length // 4 + 1, 2)
        faces[:before] = calm
        faces[length - after :] = calm
    return views.embeddings[faces, random.integers(0, views.embeddings.shape[1], length)]


def train_visual_arm(views: FaceViews, seed: int) -> GruArm:
    """Train the image arm on made-up sequences, the eight emotions equally often."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    arm = GruArm(FACE_EMBEDDING, VISUAL_WIDTH, len(EMOTIONS))

    def draw() -> Batch:
        emotions = random.integers(0, len(EMOTIONS), BATCH)
        sequences = [face_sequence(views, emotion, random) for emotion in emotions]
        return [torch.from_numpy(s) for s in sequences], torch.from_numpy(emotions)

    fit(arm, draw, FitOptions(STEPS))
    return arm


@torch.inference_mode()
def sequence_logits(arm: GruArm, views: FaceViews, emotions: np.ndarray, seed: int) -> np.ndarray:
    """Give (n, 8) logits of a sequence of one new face for each emotion wanted."""
    random = np.random.default_rng(seed)
    sequences = [face_sequence(views, emotion, random, max_faces=1) for emotion in emotions]
    return arm([torch.from_numpy(s) for s in sequences]).numpy()


@dataclass(frozen=True)
class FusionWeights:
    """How much each arm's logits count, and what is added to each label."""

    visual: float
    audio: float
    bias: np.ndarray  # (8,)

    def logits(self, visual: np.ndarray, audio: np.ndarray) -> np.ndarray:
        """Join (n, 8) logits of both arms."""
        return (self.visual * visual + self.audio * audio + self.bias).astype(np.float32)


def fit_fusion(visual: np.ndarray, audio: np.ndarray, labels: np.ndarray) -> FusionWeights:
    """Find the weights under which the joint logits are likeliest, the bias held near zero."""
    weight, bias = torch.full((2,), 0.5, requires_grad=True), torch.zeros(8, requires_grad=True)
    v, a, target = (torch.from_numpy(x) for x in (visual, audio, labels))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = weight[0] * v + weight[1] * a + bias
        value = nn.functional.cross_entropy(logits, target) + 1e-2 * (bias**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    visual_weight, audio_weight = weight.tolist()
    return FusionWeights(visual_weight, audio_weight, bias.detach().numpy())


def figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and calibration of calibrated logits."""
    return {
        "unweighted_recall": unweighted_recall(logits.argmax(1), labels),
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "calibration_error": calibration_error(softmax(logits), labels),
    }


def split_in_halves(faces: Faces) -> tuple[Faces, Faces]:
    """Every other face, and the rest: one half calibrates, the other tests."""
    return (
        Faces(faces.images[0::2], faces.labels[0::2]),
        Faces(faces.images[1::2], faces.labels[1::2]),
    )


@click.command()
@click.option("--faces", "face_run", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--voices", "voice_run", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--whisper", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=CHECKPOINT, show_default=True)
@click.option("--report", type=click.Path(path_type=Path), required=True)
@click.option("--seed", default=0, show_default=True)
def main(
    face_run: Path, voice_run: Path, data: Path, whisper: Path, out: Path, report: Path, seed: int
) -> None:
    """Train what is missing, write the checkpoint to OUT and the figures to REPORT."""
    valid = fer2013(data / "valid")
    train = fer2013(data / "train").without(valid)
    classifier = FaceClassifier()
    classifier.load_state_dict(torch.load(face_run / "face.pt", weights_only=True))
    model = CompactModel()
    model.face = classifier.encoder
    model.visual = train_visual_arm(face_views(model.face, train, seed), seed)
    calibrating, testing = (
        face_views(model.face, half, seed) for half in split_in_halves(valid.unique())
    )

    unseen = np.load(voice_run / "unseen.npz")
    voices, labels, actors = unseen["logits"], unseen["labels"].astype(np.int64), unseen["actors"]
    fold = np.array([next(k for k, f in enumerate(LUNA_JIMENEZ_FOLDS) if a in f) for a in actors])
    drawn = np.random.default_rng(seed).integers(0, len(labels), SEQUENCES)
    fitting = sequence_logits(model.visual, calibrating, labels[drawn], seed)
    held_out = sequence_logits(model.visual, testing, labels[drawn], seed + 1)

    model.temperature[0] = fit_temperature(fitting, labels[drawn])
    model.temperature[1] = fit_temperature(voices, labels)
    fused = np.zeros_like(held_out)
    for number in range(len(LUNA_JIMENEZ_FOLDS)):  # fitted on other speakers and other faces
        test = fold[drawn] == number
        others = drawn[~test]
        weights = fit_fusion(fitting[~test], voices[others], labels[others])
        fused[test] = weights.logits(held_out[test], voices[drawn[test]])
    weights = fit_fusion(fitting, voices[drawn], labels[drawn])

    model.load_voice(torch.load(voice_run / "voice.pt", weights_only=True), load_file(whisper))
    model.set_fusion(weights.visual, weights.audio, torch.from_numpy(weights.bias))
    save_compact(model, out)

    predicted = predict(classifier, valid).argmax(1)
    results = {
        "faces": {
            "data": "FER-2013 public test (folder valid), one picture at a time, 7 classes",
            "accuracy": float((predicted == valid.labels).mean()),
            "unweighted_recall": unweighted_recall(predicted, valid.labels),
            "majority_accuracy": float(np.bincount(valid.labels).max() / len(valid)),
            "parameters": sum(p.numel() for p in model.face.parameters()),
        },
        "visual_arm": {
            "data": "made-up sequences of one unseen FER-2013 face, 8 classes (calm = neutral)",
            **figures(held_out / float(model.temperature[0]), labels[drawn]),
        },
        "fusion": {
            "data": "the same sequences with voices of unseen RAVDESS speakers",
            "visual_weight": weights.visual,
            "audio_weight": weights.audio,
            **figures(fused, labels[drawn]),
        },
        "temperature": [float(t) for t in model.temperature],
    }
    report.write_text(json.dumps(results, indent=1) + "\n")
    click.echo(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
