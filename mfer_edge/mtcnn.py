"""Where faces are in a picture, by MTCNN (Zhang et al. 2016) as `facenet-pytorch` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from mfer_edge.engine import Network

WINDOW = 12  # pixels on a side of what P-Net looks at
STRIDE = 2  # pixels between its windows
REFINE_SIZE = 24  # pixels on a side of R-Net's candidates
VERIFY_SIZE = 48  # and of O-Net's
BATCH = 256  # candidates in one call, which bounds the memory that a busy picture takes

# Overlap above which the less probable of two boxes is dropped (facenet-pytorch, detect_face).
SAME_LEVEL_OVERLAP = 0.5
OVERLAP = 0.7


@dataclass(frozen=True)
class MtcnnOptions:
    """What counts as a face; thresholds and factor are `facenet-pytorch`'s defaults.

    P-Net's cost grows with 1 / min_face^2, and nobody reads an emotion in a face of 20 pixels, so
    by default `min_face` follows the picture: a fifteenth of its shorter side, which is 48 pixels
    (the size of FER-2013's faces) at 720p, and never under `facenet-pytorch`'s 20.
    """

    min_face: float | None = None  # pixels on a side; None follows the picture
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)  # probability, of P-, R- and O-Net
    factor: float = 0.709  # from one level of the pyramid to the next: about half the area

    def smallest(self, height: int, width: int) -> float:
        """Give the smallest face to look for in a picture, in pixels on a side."""
        return max(20.0, min(height, width) / 15) if self.min_face is None else self.min_face


@dataclass(frozen=True)
class FaceBox:
    """A face in a picture; where it is cut off by the border the box goes beyond it."""

    left: float  # pixels, as are the others
    top: float
    right: float
    bottom: float
    probability: float
    # (5, 2) float32, pixels from the left and the top: the eye on the picture's left, the other
    # eye, the nose, the mouth's corner on the picture's left, the other corner
    landmarks: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def area(self) -> float:
        """Its size, in square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)


class SummedArea:
    """A picture that can be shrunk, whole or in parts, at the cost of four look-ups a pixel.

    Pixels are means over the bins of PyTorch's `interpolate(mode="area")`, as in facenet-pytorch;
    OpenCV's INTER_AREA weighs what lies at a bin's border, and interpolates to enlarge. They stay
    fractions: rounded to whole levels of brightness they tip the choice between boxes of the same
    face, which then overlaps facenet-pytorch's by as little as 0.82. With a summed-area table
    (Crow 1984) the eight levels of a 720p picture take 4 ms; with `cv2.resize` they took 23.

    Args:
        image: (height, width, 3) uint8.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.height, self.width = image.shape[:2]
        # (height + 1, width + 1, 3) int32. Above 8 megapixels the sums wrap around, and so do
        # their differences: back to the right value.
        self._sums = cv2.integral(image)

    def resized(self, height: int, width: int) -> np.ndarray:
        """Shrink the picture: (height, width, 3) float32, 0 to 255."""
        top, bottom = _bins(0, self.height, height)
        left, right = _bins(0, self.width, width)
        rows = np.take(self._sums, bottom, axis=0)
        rows -= np.take(self._sums, top, axis=0)
        sums = np.take(rows, right, axis=1)
        sums -= np.take(rows, left, axis=1)
        return _means(sums, (bottom - top)[:, None] * (right - left))

    def crops(self, spans: np.ndarray, size: int) -> np.ndarray:
        """Cut out parts and bring them to one size.

        Args:
            spans: (n, 4) int, left, top, right and bottom of each part, inside the picture; the
                last two are one past the part's last pixel.

        Returns:
            (n, size, size, 3) float32, 0 to 255.
        """
        left, right = _bins(spans[:, 0], spans[:, 2] - spans[:, 0], size)
        top, bottom = _bins(spans[:, 1], spans[:, 3] - spans[:, 1], size)
        table = self._sums.reshape(-1, 3)
        stride = self.width + 1
        top_row, bottom_row = top[:, :, None] * stride, bottom[:, :, None] * stride
        sums = np.take(table, bottom_row + right[:, None], axis=0)
        sums -= np.take(table, bottom_row + left[:, None], axis=0)
        sums -= np.take(table, top_row + right[:, None], axis=0)
        sums += np.take(table, top_row + left[:, None], axis=0)
        return _means(sums, (bottom - top)[:, :, None] * (right - left)[:, None])


class FaceDetector:
    """MTCNN: P-Net proposes, R-Net refines, O-Net verifies.

    Args:
        pnet, rnet, onet: the networks that `export.mtcnn` writes.
    """

    def __init__(
        self, pnet: Network, rnet: Network, onet: Network, options: MtcnnOptions | None = None
    ) -> None:
        self.pnet, self.rnet, self.onet = pnet, rnet, onet
        self.options = options or MtcnnOptions()

    def __call__(self, image: np.ndarray) -> list[FaceBox]:
        """Find the faces in a picture, the largest first.

        Args:
            image: (height, width, 3) uint8, BGR, of any size; or (height, width), grey.
        """
        if min(image.shape[:2]) < WINDOW:
            return []  # P-Net sees nothing, and OpenCV takes no empty picture
        picture = SummedArea(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image)
        return self.verify(picture, self.refine(picture, self.propose(picture)))

    def propose(self, picture: SummedArea) -> np.ndarray:
        """Let P-Net look at the picture in ever smaller sizes.

        Returns:
            (n, 4) float32, squares where a face may be: left, top, right, bottom in pixels.
        """
        levels = [self._propose_at(picture, scale) for scale in self._scales(picture)]
        if not levels:
            return np.zeros((0, 4), np.float32)
        boxes, probability, offsets = (np.concatenate(part) for part in zip(*levels, strict=True))
        kept = non_maximum_suppression(boxes, probability, OVERLAP)
        return _squared(_moved(boxes[kept], offsets[kept], 0))

    def refine(self, picture: SummedArea, boxes: np.ndarray) -> np.ndarray:
        """Let R-Net drop what is no face, and move the rest: as `propose` gives, to the same."""
        boxes, spans = _visible(boxes, picture)
        if not len(boxes):
            return boxes
        result = self._judge(self.rnet, picture, spans, REFINE_SIZE)
        sure = result["probability"] > self.options.thresholds[1]
        boxes, offsets = boxes[sure], result["offsets"][sure]
        kept = non_maximum_suppression(boxes, result["probability"][sure], OVERLAP)
        return _squared(_moved(boxes[kept], offsets[kept], 1))

    def verify(self, picture: SummedArea, boxes: np.ndarray) -> list[FaceBox]:
        """Let O-Net decide which are faces, and where exactly they are, the largest first.

        Args:
            boxes: (n, 4) float32 squares, from `refine` or from anything else that expects a face.
        """
        boxes, spans = _visible(boxes, picture)
        if not len(boxes):
            return []
        result = self._judge(self.onet, picture, spans, VERIFY_SIZE)
        sure = result["probability"] > self.options.thresholds[2]
        boxes, probability = boxes[sure], result["probability"][sure]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = result["landmarks"][sure].reshape(-1, 2, 5).transpose(0, 2, 1)
        landmarks = landmarks * size[:, None] + boxes[:, None, :2] - 1
        boxes = _moved(boxes, result["offsets"][sure], 1)
        # Here, and only here, facenet-pytorch measures a box with its last pixels.
        with_last = np.concatenate([boxes[:, :2], boxes[:, 2:] + 1], axis=1)
        kept = non_maximum_suppression(with_last, probability, OVERLAP, of_smaller=True)
        found = zip(boxes[kept].tolist(), probability[kept].tolist(), landmarks[kept], strict=True)
        faces = [
            FaceBox(left, top, right, bottom, sureness, points)
            for (left, top, right, bottom), sureness, points in found
        ]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def _scales(self, picture: SummedArea) -> Iterator[float]:
        """Sizes of the pyramid's levels, in shares of the picture's."""
        scale = WINDOW / self.options.smallest(picture.height, picture.width)
        side = min(picture.height, picture.width) * scale
        while side >= WINDOW:
            yield scale
            scale *= self.options.factor
            side *= self.options.factor

    def _propose_at(
        self, picture: SummedArea, scale: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """P-Net at one level: boxes (n, 4), their probability (n,) and offsets (n, 4)."""
        level = picture.resized(int(picture.height * scale + 1), int(picture.width * scale + 1))
        result = self.pnet(image=level[None])
        rows, columns = np.nonzero(result["probability"][0] >= self.options.thresholds[0])
        probability = result["probability"][0, rows, columns]
        offsets = result["offsets"][0, :, rows, columns]
        # Where a window's first pixel lies is counted from 1, as in the paper's Matlab code.
        first = np.stack([columns, rows], axis=1).astype(np.float32) * STRIDE + 1
        boxes = np.floor(np.concatenate([first, first + (WINDOW - 1)], axis=1) / scale)
        kept = non_maximum_suppression(boxes, probability, SAME_LEVEL_OVERLAP)
        return boxes[kept], probability[kept], offsets[kept]

    def _judge(
        self, engine: Network, picture: SummedArea, spans: np.ndarray, size: int
    ) -> dict[str, np.ndarray]:
        """Run R- or O-Net on (n, 4) parts of the picture, n > 0: its outputs for all of them."""
        results = [
            engine(candidates=picture.crops(spans[start : start + BATCH], size))
            for start in range(0, len(spans), BATCH)
        ]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def non_maximum_suppression(
    boxes: np.ndarray, probability: np.ndarray, threshold: float, of_smaller: bool = False
) -> np.ndarray:
    """Keep the most probable box of each heap of overlapping ones.

    Args:
        boxes: (n, 4) left, top, right, bottom.
        probability: (n,).
        threshold: overlap above which the less probable of two boxes is dropped.
        of_smaller: measure the overlap by the smaller box, not by what both cover together, so
            that a box within a larger one is dropped too.

    Returns:
        (k,) int, the kept boxes' indices, the most probable first.
    """
    order = np.argsort(-probability, kind="stable")
    boxes = boxes[order]
    open_ = np.ones(len(boxes), bool)
    kept = []
    for start in range(0, len(boxes), BATCH):
        candidates = start + np.flatnonzero(open_[start : start + BATCH])
        clashes = _overlap(boxes[candidates], boxes[start:], of_smaller) > threshold
        for candidate, clash in zip(candidates, clashes, strict=True):
            if open_[candidate]:
                kept.append(candidate)
                open_[start:] &= ~clash
    return order[kept]


def _overlap(boxes: np.ndarray, others: np.ndarray, of_smaller: bool) -> np.ndarray:
    """Overlap of each of (n, 4) boxes with each of (m, 4) others, in shares: (n, m)."""
    one, other = boxes[:, None], others[None]
    common = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    common = np.maximum(common, 0).prod(axis=-1)
    area = (one[..., 2:] - one[..., :2]).prod(axis=-1)
    other_area = (other[..., 2:] - other[..., :2]).prod(axis=-1)
    whole = np.minimum(area, other_area) if of_smaller else area + other_area - common
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def _visible(boxes: np.ndarray, picture: SummedArea) -> tuple[np.ndarray, np.ndarray]:
    """Those of (n, 4) boxes that lie in the picture, and the (n, 4) parts of it in them."""
    # Boxes count pixels from 1 and name the last; spans count from 0 and name the one after it.
    spans = boxes.astype(np.int64)
    spans[:, :2] = np.maximum(spans[:, :2], 1) - 1
    spans[:, 2:] = np.minimum(spans[:, 2:], (picture.width, picture.height))
    visible = (spans[:, 2:] > spans[:, :2]).all(axis=1)
    return boxes[visible], spans[visible]


def _bins(
    start: np.ndarray | int, length: np.ndarray | int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut stretches of pixels into `count` bins: each one's first pixel, and one past its last.

    Bins hold whole pixels: neighbours share one where the length does not divide.
    """
    start, length = np.asarray(start)[..., None], np.asarray(length)[..., None]
    index = np.arange(count)
    return start + index * length // count, start - (-(index + 1) * length // count)


def _means(sums: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Divide sums (..., 3) by how many pixels they hold (...): float32."""
    share = (1 / pixels).astype(np.float32)
    return np.multiply(sums, share[..., None], dtype=np.float32)


def _moved(boxes: np.ndarray, offsets: np.ndarray, extra: int) -> np.ndarray:
    """Move the sides of (n, 4) boxes by (n, 4) offsets, in shares of their size plus `extra`."""
    size = boxes[:, 2:] - boxes[:, :2] + extra
    return boxes + offsets * np.tile(size, 2)


def _squared(boxes: np.ndarray) -> np.ndarray:
    """Widen (n, 4) boxes to squares around the same centres."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + size * 0.5 - side * 0.5
    return np.concatenate([corner, corner + side], axis=1)
