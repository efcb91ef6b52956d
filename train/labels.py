"""The emotions that recordings and pictures are labelled with."""

from __future__ import annotations

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The eight RAVDESS labels, in the order of the codes 01 to 08 in its file names. Every dataset's
own labels are mapped to these."""

FOUR_EMOTIONS = ("neutral", "happy", "sad", "angry")
"""What CREMA-D, ShEMO, URDU and the Saudi Dialect Corpus have in common: the classes of the
paper's first audio stage."""

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
