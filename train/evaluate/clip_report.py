"""The table of `mfer-edge train clips`."""

from __future__ import annotations

from pathlib import Path

from train.data.cache import Cache
from train.data.preprocess import CROP_SCALE, Preprocessor
from train.evaluate.av_clips import ClipFigures, clip_logits, measure_clips, read_clips
from train.evaluate.metrics import Spread
from train.evaluate.predictions import Predictions
from train.evaluate.strangers import TalkFigures
from train.models.emotion_model import MODEL_FILE, load_model
from train.models.registry import FACE_BACKBONES
from train.train_arms import TALK_FILE


def report_clips(folder: Path, checkpoint: Path, cache: Path) -> str:
    """Measure a model on a folder of clips, and on the talk that its visual arm was not trained on.

    Args:
        checkpoint: a model's file, or its folder.
        cache: folder of preprocessed clips.

    Raises:
        DatasetError: the folder holds no such clips.
        CheckpointError: there is no such model.
        MediaError: a clip can't be read.
    """
    file = checkpoint / MODEL_FILE if checkpoint.is_dir() else checkpoint
    entries, model = read_clips(folder), load_model(file)
    size = FACE_BACKBONES[model.preset.face].size
    inputs = Preprocessor(size, CROP_SCALE, Cache(cache))
    text = clip_table(measure_clips(clip_logits(model, entries, inputs)))
    if (talk := file.parent / TALK_FILE).is_file():
        figures = TalkFigures.of(Predictions.load(talk), float(model.temperature[0]))
        text += "\n" + talk_line(figures)
    return text


def clip_table(figures: ClipFigures) -> str:
    """One row for each arm and one for both: mean and deviation over people."""

    def row(name: str, spread: Spread) -> str:
        return f"| {name} | {spread.mean:.3f} | {spread.std or 0.0:.3f} |"

    return "\n".join(
        [
            f"{figures.clips} clips of {figures.people} people, one left out at a time; recall "
            "unweighted, among the labels that occur",
            "",
            "| clips | mean | deviation |",
            "|---|---|---|",
            row("face", figures.face),
            row("voice", figures.voice),
            row("both", figures.both),
            "",
            f"calibration error of both: {figures.calibration_error:.3f}",
        ]
    )


def talk_line(figures: TalkFigures) -> str:
    """The figures of ordinary talk."""
    return (
        f"ordinary talking faces, {figures.recordings} recordings of {figures.people} people left "
        f"out: neutral {figures.neutral:.3f}, a strong emotion {figures.false_alarms:.3f}"
    )
