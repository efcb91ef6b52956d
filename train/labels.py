"""The emotions that recordings and images are labelled with."""

from __future__ import annotations

from collections.abc import Sequence

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The eight RAVDESS labels, in the order of the codes 01 to 08 in its file names. Every dataset's
own labels are mapped to these in the index; a preset's `labels` are the classes of its model."""

SEVEN_EMOTIONS = tuple(emotion for emotion in EMOTIONS if emotion != "calm")
"""Calm is folded into neutral: no dataset but RAVDESS labels it."""

FOUR_EMOTIONS = ("neutral", "happy", "sad", "angry")
"""Labels common to CREMA-D, ShEMO, URDU and the Saudi Dialect Corpus: the classes of the paper's
first audio stage."""

LABEL_SETS = {len(labels): labels for labels in (EMOTIONS, SEVEN_EMOTIONS, FOUR_EMOTIONS)}
"""Sets of labels by their number."""

FACE_EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The seven FER-2013 labels, in the order of the codes 0 to 6 in its csv."""

FACE_OF_EMOTION = {
    "neutral": "neutral",
    "calm": "neutral",  # FER-2013 has no calm faces; neutral is the nearest
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fearful": "fear",
    "disgust": "disgust",
    "surprised": "surprise",
}


def class_index(emotion: str, labels: Sequence[str]) -> int:
    """Index of an emotion's class: calm counts as neutral where calm is no class.

    Raises:
        ValueError: there is no such class.
    """
    folded = "neutral" if emotion == "calm" and "calm" not in labels else emotion
    return labels.index(folded)
