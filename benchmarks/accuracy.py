"""Print what the compact model's training measured, as the tables of README and model card.

`python -m benchmarks.accuracy --voices runs/voices/report.json --compact runs/report.json
[--out FILE]` reads what `train.voices` and `train.assemble` wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def accuracy_table(voices: dict[str, Any], compact: dict[str, Any]) -> str:
    """Give a Markdown table of every part's figures, chance and majority class beside them."""
    faces, visual, fusion = compact["faces"], compact["visual_arm"], compact["fusion"]
    return "\n".join(
        [
            "| part | measured on | unweighted recall | accuracy | calibration error |",
            "|---|---|---|---|---|",
            f"| voice arm | RAVDESS speech, five folds of unseen speakers, 8 classes "
            f"| **{voices['unweighted_recall_mean']:.3f} ± {voices['unweighted_recall_std']:.3f}** "
            f"({voices['unweighted_recall_min']:.3f} to {voices['unweighted_recall_max']:.3f}) "
            f"| {voices['accuracy_mean']:.3f} ± {voices['accuracy_std']:.3f} "
            f"(majority class {voices['majority_accuracy']:.3f}) "
            f"| {voices['calibration_error']:.3f} |",
            f"| face network ({faces['parameters'] / 1e6:.2f} M parameters) "
            f"| FER-2013 public test, one picture at a time, 7 classes "
            f"| {faces['unweighted_recall']:.3f} "
            f"| **{faces['accuracy']:.3f}** (majority class {faces['majority_accuracy']:.3f}) | |",
            f"| image arm | made-up sequences of one unseen FER-2013 face, 8 classes "
            f"| {visual['unweighted_recall']:.3f} | {visual['accuracy']:.3f} "
            f"| {visual['calibration_error']:.3f} |",
            f"| both | the same sequences, each with the voice of an unseen speaker "
            f"| {fusion['unweighted_recall']:.3f} | {fusion['accuracy']:.3f} "
            f"| {fusion['calibration_error']:.3f} |",
        ]
    )


def fold_table(voices: dict[str, Any]) -> str:
    """Give a Markdown table of the voice arm's folds."""
    rows = [
        f"| {fold['fold']} | {', '.join(map(str, fold['test_actors']))} | {fold['recordings']} "
        f"| {fold['unweighted_recall']:.3f} | {fold['accuracy']:.3f} |"
        for fold in voices["folds"]
    ]
    head = "| fold | test actors | recordings | unweighted recall | accuracy |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def confusion_table(voices: dict[str, Any]) -> str:
    """Give a Markdown table of the voice arm's confusions, in per cent of each true emotion."""
    labels = voices["labels"]
    rows = [
        f"| {label} | " + " | ".join(f"{100 * n / sum(row):.0f}" for n in row) + " |"
        for label, row in zip(labels, voices["confusion"], strict=True)
    ]
    head = "| true \\ heard | " + " | ".join(labels) + " |"
    return "\n".join([head, "|---" * (len(labels) + 1) + "|", *rows])


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voices", type=Path, required=True)
    parser.add_argument("--compact", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    voices = json.loads(options.voices.read_text())
    compact = json.loads(options.compact.read_text())
    text = "\n\n".join(
        [
            "# Accuracy of the compact model",
            accuracy_table(voices, compact),
            "## Voice arm, fold by fold",
            fold_table(voices),
            "## Voice arm: what is taken for what, per cent, unseen speakers",
            confusion_table(voices),
            "",
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
