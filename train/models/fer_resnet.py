"""The face backbone of `compact`: a small residual network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from train.models.base import last_blocks

FACE_SIZE = 48  # pixels on a side, as in FER-2013
FACE_EMBEDDING = 192  # numbers per face


def convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2015)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(channels_in, channels_out, stride)
        self.second = convolution(channels_out, channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class FerResnet(nn.Module):
    """A small residual network over 48x48 grey faces: 1.6 M parameters."""

    size = FACE_SIZE
    width = FACE_EMBEDDING

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(1, 24), nn.ReLU(), convolution(24, 48, 2), nn.ReLU())
        self.blocks = nn.Sequential(
            ResidualBlock(48, 48),
            ResidualBlock(48, 48),
            ResidualBlock(48, 96, 2),
            ResidualBlock(96, 96),
            ResidualBlock(96, FACE_EMBEDDING, 2),
            ResidualBlock(FACE_EMBEDDING, FACE_EMBEDDING),
        )

    def forward(self, faces: Tensor) -> Tensor:
        """Embed faces.

        Args:
            faces: (n, 1, 48, 48) grey, 0 to 255, any type. Each is normalised to zero mean and
                unit variance, against lighting and contrast. In evaluation mode the embedding is
                the mean of the face's and its mirror image's: accuracy on FER-2013's test images
                is 0.7 to 1.0 per cent higher.

        Returns:
            (n, 192) float.
        """
        if self.training:
            return self.one_view(faces)
        return (self.one_view(faces) + self.one_view(faces.flip(3))) / 2

    def one_view(self, faces: Tensor) -> Tensor:
        """Embed faces without their mirror images, as the exported engine does.

        The runtime mirrors every second crop of a video, whose mean over time is about the same.
        """
        x = faces.float()
        x = x - x.mean((2, 3), keepdim=True)
        x = x / ((x * x).mean((2, 3), keepdim=True) + 1.0).sqrt()
        return self.blocks(self.stem(x)).mean((2, 3))

    def trainable(self, last: int) -> list[nn.Module]:
        """Select the last of the stem and the residual blocks.

        Raises:
            ValueError: there are not so many.
        """
        return last_blocks([self.stem, *self.blocks], last)
