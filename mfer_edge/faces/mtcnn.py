"""Where faces are in a picture, by MTCNN (Zhang et al. 2016) as `facenet-pytorch` runs it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from mfer_edge.engines.base import Engine
from mfer_edge.faces.integral_image import IntegralImage, Part

WINDOW = 12  # pixels on a side of what P-Net looks at
STRIDE = 2  # pixels between its windows
REFINE_SIZE = 24  # pixels on a side of R-Net's candidates
VERIFY_SIZE = 48  # and of O-Net's
BATCH = 64  # candidates in one call, which bounds the memory that a busy picture takes

# Where a face that was just seen is looked for, in shares of its box's longer side. Windows of
# these sizes hold every candidate that decides about the box: with all others left out, it was the
# same on 110 of 110 real frames; with 0.35 for 0.25, or 1.2 for 1.6, on 84 % and 91 %.
NEAR_WINDOWS = (0.25, 1.6)
NEAR_MARGIN = 0.75  # around the box: how far a face moves, and its candidates reach

# The smallest face that is looked for by default: facenet-pytorch's, or a share of the picture.
MIN_FACE = 20.0  # pixels on a side
MIN_FACE_SHARE = 1 / 15  # of the picture's shorter side

# Overlap above which the less probable of two boxes is dropped (facenet-pytorch, detect_face).
SAME_LEVEL_OVERLAP = 0.5
OVERLAP = 0.7


@dataclass(frozen=True)
class MtcnnOptions:
    """What counts as a face; thresholds and factor are `facenet-pytorch`'s defaults.

    P-Net's cost grows with 1 / min_face^2, and nobody reads an emotion in a face of 20 pixels, so
    by default `min_face` follows the picture: about a fifteenth of its shorter side, which is the
    size of FER-2013's faces at 720p. It is taken from the levels of `facenet-pytorch`'s pyramid,
    which starts at 20 pixels, because a face's box depends on them: on other levels every fifth
    box overlapped `facenet-pytorch`'s by less than 0.9, on the same ones all are the same.
    """

    min_face: float | None = None  # pixels on a side; None follows the picture
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)  # probability, of P-, R- and O-Net
    factor: float = 0.709  # from one level of the pyramid to the next: about half the area

    def smallest(self, height: int, width: int) -> float:
        """Give the smallest face to look for in a picture, in pixels on a side."""
        if self.min_face is not None:
            return self.min_face
        levels = math.log(MIN_FACE / (min(height, width) * MIN_FACE_SHARE), self.factor)
        return MIN_FACE / self.factor ** max(0, round(levels))


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


Proposals = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes (n, 4), their probability (n,) and offsets (n, 4), all float32."""

_NOTHING: Proposals = (
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.float32),
    np.zeros((0, 4), np.float32),
)


class FaceDetector:
    """MTCNN: P-Net proposes, R-Net refines, O-Net verifies.

    Args:
        pnet, rnet, onet: the networks that `export.mtcnn` writes.
    """

    def __init__(
        self, pnet: Engine, rnet: Engine, onet: Engine, options: MtcnnOptions | None = None
    ) -> None:
        self.pnet, self.rnet, self.onet = pnet, rnet, onet
        self.options = options or MtcnnOptions()

    def __call__(self, image: np.ndarray, near: Sequence[FaceBox] | None = None) -> list[FaceBox]:
        """Find the faces in a picture, the largest first.

        Args:
            image: (height, width, 3) uint8, BGR, of any size; or (height, width), grey.
            near: look only where these faces of the frame before may be by now, and at about their
                size. What is found there is what the whole picture would give, for a fraction of
                the time.
        """
        if min(image.shape[:2]) < WINDOW:
            return []  # P-Net sees nothing, and OpenCV takes no empty picture
        picture = IntegralImage(
            cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
        )
        return self.verify(picture, self.refine(picture, self.propose(picture, near)))

    def propose(self, picture: IntegralImage, near: Sequence[FaceBox] | None = None) -> np.ndarray:
        """Let P-Net look at the picture, or near some faces in it, in ever smaller sizes.

        Returns:
            (n, 4) float32, squares where a face may be: left, top, right, bottom in pixels.
        """
        levels = [self._propose_at(picture, scale, near) for scale in self._scales(picture)]
        boxes, probability, offsets = (
            np.concatenate(part) for part in zip(_NOTHING, *levels, strict=True)
        )
        kept = non_maximum_suppression(boxes, probability, OVERLAP)
        return _squared(_moved(boxes[kept], offsets[kept], 0))

    def refine(self, picture: IntegralImage, boxes: np.ndarray) -> np.ndarray:
        """Let R-Net drop what is no face, and move the rest: as `propose` gives, to the same."""
        boxes, spans = _visible(boxes, picture)
        if not len(boxes):
            return boxes
        result = self._judge(self.rnet, picture, spans, REFINE_SIZE)
        sure = result["probability"] > self.options.thresholds[1]
        boxes, offsets = boxes[sure], result["offsets"][sure]
        kept = non_maximum_suppression(boxes, result["probability"][sure], OVERLAP)
        return _squared(_moved(boxes[kept], offsets[kept], 1))

    def verify(self, picture: IntegralImage, boxes: np.ndarray) -> list[FaceBox]:
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

    def _scales(self, picture: IntegralImage) -> Iterator[float]:
        """Sizes of the pyramid's levels, in shares of the picture's."""
        scale = WINDOW / self.options.smallest(picture.height, picture.width)
        side = min(picture.height, picture.width) * scale
        while side >= WINDOW:
            yield scale
            scale *= self.options.factor
            side *= self.options.factor

    def _propose_at(
        self, picture: IntegralImage, scale: float, near: Sequence[FaceBox] | None
    ) -> Proposals:
        """P-Net at one level, or at the parts of it where a face may be."""
        height, width = int(picture.height * scale + 1), int(picture.width * scale + 1)
        parts = [(0, 0, width, height)] if near is None else _parts(near, scale, height, width)
        found = [_NOTHING]
        for part in parts:
            result = self.pnet(image=picture.resized(height, width, part)[None])
            rows, columns = np.nonzero(result["probability"][0] >= self.options.thresholds[0])
            probability = result["probability"][0, rows, columns]
            offsets = result["offsets"][0, :, rows, columns]
            # Where a window's first pixel lies is counted from 1, as in the paper's Matlab code.
            first = np.stack([columns * STRIDE + part[0], rows * STRIDE + part[1]], axis=1) + 1
            first = first.astype(np.float32)  # as theirs: the division's rounding moves boxes
            boxes = np.floor(np.concatenate([first, first + (WINDOW - 1)], axis=1) / scale)
            found.append((boxes, probability, offsets))
        boxes, probability, offsets = (np.concatenate(part) for part in zip(*found, strict=True))
        kept = non_maximum_suppression(boxes, probability, SAME_LEVEL_OVERLAP)
        return boxes[kept], probability[kept], offsets[kept]

    def _judge(
        self, engine: Engine, picture: IntegralImage, spans: np.ndarray, size: int
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
    if len(order) < 2:
        return order
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
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    common = _area(np.maximum(sides, 0))
    area, other_area = _area(one[..., 2:] - one[..., :2]), _area(other[..., 2:] - other[..., :2])
    whole = np.minimum(area, other_area) if of_smaller else area + other_area - common
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def _area(sides: np.ndarray) -> np.ndarray:
    return sides[..., 0] * sides[..., 1]  # `prod` takes several times as long


def _visible(boxes: np.ndarray, picture: IntegralImage) -> tuple[np.ndarray, np.ndarray]:
    """Those of (n, 4) boxes that lie in the picture, and the (n, 4) parts of it in them."""
    # Boxes count pixels from 1 and name the last; spans count from 0 and name the one after it.
    spans = boxes.astype(np.int64)
    spans[:, :2] = np.maximum(spans[:, :2], 1) - 1
    spans[:, 2:] = np.minimum(spans[:, 2:], (picture.width, picture.height))
    visible = (spans[:, 2:] > spans[:, :2]).all(axis=1)
    return boxes[visible], spans[visible]


def _parts(near: Sequence[FaceBox], scale: float, height: int, width: int) -> list[Part]:
    """The parts of a level where P-Net's windows are about as large as a face that is near."""
    parts = []
    for face in near:
        side = max(face.right - face.left, face.bottom - face.top)
        if not NEAR_WINDOWS[0] * side <= WINDOW / scale <= NEAR_WINDOWS[1] * side:
            continue
        margin = NEAR_MARGIN * side
        # From where the whole level's windows are, so that they are the same here.
        left = max(0, int((face.left - margin) * scale) // STRIDE * STRIDE)
        top = max(0, int((face.top - margin) * scale) // STRIDE * STRIDE)
        right = min(width, math.ceil((face.right + margin) * scale) // STRIDE * STRIDE)
        bottom = min(height, math.ceil((face.bottom + margin) * scale) // STRIDE * STRIDE)
        if right - left >= WINDOW and bottom - top >= WINDOW:
            parts.append((left, top, right, bottom))
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in parts)
    return parts if area < height * width else [(0, 0, width, height)]  # in a crowd


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
