"""Options of a cross-validation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CrossvalOptions:
    """Protocol of a cross-validation, and what is trained in each fold."""

    protocol: str  # key of train.evaluate.predictions.PROTOCOLS
    fine_tuned_voice: int = 0  # last layers of the speech backbone to fine-tune with the arm
    fine_tuned_face: int = 0  # of the face backbone
    baseline: bool = False  # also an SVM on the speech features
    only: tuple[str, ...] = ()  # names of the folds to run; empty: all
    faces: bool = True  # False: the audio arm alone
    train_only: tuple[str, ...] = ()  # protocol "corpus": corpora that are never left out
    adapted_to: tuple[int, ...] = ()  # protocol "corpus": recordings that a place is heard for

    @property
    def visual(self) -> bool:
        """Whether there is a visual arm: corpora are left out for the audio arm alone."""
        return self.faces and self.protocol != "corpus"
