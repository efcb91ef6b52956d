"""Cross-validation: options, recordings, and the run over all folds."""

from train.crossval.clips import Clips
from train.crossval.options import CrossvalOptions
from train.crossval.run import CrossValidation

__all__ = ["Clips", "CrossValidation", "CrossvalOptions"]
