"""Published accuracies, for comparison."""

from __future__ import annotations

from dataclasses import dataclass

INDEPENDENT, DEPENDENT = "speaker-independent", "speaker-dependent"
UNKNOWN = "speakers not known"


@dataclass(frozen=True)
class Published:
    """One published accuracy."""

    dataset: str
    system: str
    modality: str
    accuracy: float  # per cent
    speakers: str  # INDEPENDENT, DEPENDENT, or UNKNOWN
    protocol: str
    source: str


COMPARED = {"ravdess": 8, "saudi": 4}  # dataset -> classes that the published figures are for

_PAPER = (DEPENDENT, "random folds", "the paper, Table IV")
_LUNA = (INDEPENDENT, "5 subject-wise folds", "Luna-Jimenez et al. 2022, doi 10.3390/app12010327")
_IBRAHIM = "Ibrahim et al., abstract"

PUBLISHED = (
    Published("ravdess", "MFER", "visual", 88.70, *_PAPER),
    Published("ravdess", "MFER", "audio", 89.20, *_PAPER),
    Published("ravdess", "MFER", "combined", 96.94, *_PAPER),
    Published("ravdess", "xlsr-wav2vec2", "audio", 81.82, *_LUNA),
    Published("ravdess", "aural transformers, action units", "combined", 86.70, *_LUNA),
    Published("ravdess", "CFN-SR", "combined", 75.76,
              INDEPENDENT, "subject-wise", "arXiv 2111.02172"),
    Published("ravdess", "intermediate attention", "combined", 81.58,
              INDEPENDENT, "subject-wise", "arXiv 2201.11095"),
    Published("ravdess", "deep feature fusion", "combined", 95.83,
              DEPENDENT, "random split", _IBRAHIM),
    Published("ravdess", "deep feature fusion", "combined", 48.06,
              INDEPENDENT, "leave one speaker out", _IBRAHIM),
    Published("ravdess", "joint fusion", "combined", 89.00,
              UNKNOWN, "not known", "the paper, Table VI"),
    Published("ravdess", "bi-layer LSTM, attention", "combined", 82.42,
              UNKNOWN, "5 folds", "the paper, Table VI; doi 10.1007/s11227-024-06582-z"),
    Published("ravdess", "common information", "combined", 97.57,
              UNKNOWN, "no cross-validation", "the paper, Table VI and section VI-B"),
    Published("saudi", "MFER", "audio", 67.88, DEPENDENT, "random folds", "the paper, Table III"),
    Published("saudi", "SVM", "svm", 77.00, UNKNOWN, "not known", "the paper, Table III"),
)  # fmt: skip
