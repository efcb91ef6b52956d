"""What every backbone provides, and how the registry describes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class FaceBackbone(Protocol):
    """From (n, 1, size, size) grey faces, 0 to 255, to (n, width) embeddings.

    One that looks at mirror images too has a function `one_view`, see `FerResnet`.
    """

    size: int  # pixels on a side
    width: int

    def __call__(self, faces: Tensor) -> Tensor: ...
    def trainable(self, last: int) -> list[nn.Module]: ...


class SpeechBackbone(Protocol):
    """From (1, samples) of a 16 kHz recording to (1, steps, width) embeddings.

    With a depth above 1 they are (1, steps, depth, width): the arm mixes the layers. `embed` takes
    several recordings of any lengths.
    """

    depth: int
    width: int

    def __call__(self, wave: Tensor) -> Tensor: ...
    def embed(self, waves: Sequence[Tensor]) -> list[Tensor]: ...
    def trainable(self, last: int) -> list[nn.Module]: ...


@dataclass(frozen=True)
class HubModel:
    """A model on the model hub, and its files that are needed."""

    repo: str
    folder: str  # for the files, below a folder of published weights
    files: tuple[str, ...]


@dataclass(frozen=True)
class BackboneSpec:
    """One entry of the registry."""

    make: Callable[[], nn.Module]  # with random weights
    load: Callable[[Path], nn.Module]
    """From the folder of its files; CheckpointError if they are missing or don't fit."""
    source: str  # of the weights
    licence: str  # of the weights
    wanted: str  # files in the folder of published weights, and where to get them
    size: int = 0  # of a face: pixels on a side
    hub: HubModel | None = None  # None: the weights are not on the model hub as they are needed

    def folder(self, weights: Path) -> Path:
        """Folder of this backbone's files in one of published weights."""
        return weights / self.hub.folder if self.hub else weights

    def load_from(self, weights: Path) -> nn.Module:
        """Load from a folder of published weights of several backbones."""
        return self.load(self.folder(weights))


def one_view(face: nn.Module) -> Callable[..., Tensor]:
    """A face backbone as an engine, which looks at crops as they are given."""
    return getattr(face, "one_view", face)


def has_two_views(face: nn.Module) -> bool:
    """Whether a face backbone's embeddings are means over a face and its mirror image."""
    return hasattr(face, "one_view")


def last_blocks(blocks: Sequence[nn.Module], last: int) -> list[nn.Module]:
    """Select the last blocks of a backbone, in their order, for fine-tuning.

    Raises:
        ValueError: there are not so many.
    """
    if not 0 <= last <= len(blocks):
        raise ValueError(f"{last} of {len(blocks)} blocks")
    return list(blocks[len(blocks) - last :])
