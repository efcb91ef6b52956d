"""Settings of training the speech backbone and the audio arm on several corpora together."""

from __future__ import annotations

from dataclasses import dataclass, field

from train.data.acoustics.batched import BatchedVoiceChanges
from train.errors import TrainError
from train.options import TrainOptions


@dataclass(frozen=True)
class PlaceShares:
    """What the observations of an example are standardised by, as weights of a random choice."""

    training: float  # the statistics of all corpora
    corpus: float  # those of its corpus
    person: float  # those of its speaker
    subset: float  # those of a few recordings of its corpus, as in adaptation

    @property
    def weights(self) -> tuple[float, ...]:
        return self.training, self.corpus, self.person, self.subset


@dataclass(frozen=True)
class VoiceRecipe:
    """Balance, augmentation and loss of training on several corpora.

    Raises:
        TrainError: a share is out of range.
    """

    heads: int = 1  # classifiers over parts of the hidden layer, whose mean the arm gives
    draws: int = 6_400  # examples in an epoch, however many recordings there are
    clean: float = 0.5  # share of the draws that are recordings as they are; others are augmented
    corpus_power: float = 0.0  # 0: corpora equally often, 1: by their number of recordings
    ordinary: float = 1.0  # frequency of ordinary talk, relative to a corpus
    ordinary_smoothing: float = 0.1  # of its labels, in place of the options' label smoothing
    places: PlaceShares = PlaceShares(1.0, 0.0, 0.0, 0.0)
    moved: float = 0.0  # share of the draws shifted by a random difference of two speakers' means
    prior_adjustment: float = 0.0  # of the logits by the log of the classes' frequencies
    closed: float = 0.0  # share of the loss that is over the labels of the example's corpus alone
    contrast: float = 0.0  # weight of the supervised contrastive loss across corpora
    contrast_temperature: float = 0.1
    neutral_prior: float = 0.0  # nats added to neutral when calibrated, for more talk than acting

    def __post_init__(self) -> None:
        for name in ("clean", "moved", "closed", "ordinary_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainError(f"{name} is {getattr(self, name)}; it is a share from 0 to 1")
        if min(self.places.weights) < 0 or not sum(self.places.weights):
            raise TrainError(f"places {self.places.weights} are no weights of a choice")


@dataclass(frozen=True)
class BackboneTuning:
    """How a speech backbone is fine-tuned on several corpora."""

    options: TrainOptions  # of the arm; its epochs and batches are of `recipe.draws` examples
    recipe: VoiceRecipe
    changes: BatchedVoiceChanges = field(default_factory=BatchedVoiceChanges)
    layer_rate: float = 0.2  # of the last layer's learning rate, beside the arm's
    layer_decay: float = 0.8  # of every earlier layer's, beside the next one's
    width: int = 384  # of the arm's hidden layer
    dropout: float = 0.5
    longest_s: float = 4.0
    published: float = 0.0  # share of the published weights in the mean that is kept
