"""Face detection in an image by MTCNN (Zhang et al. 2016), as `facenet-pytorch` runs it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from mfer_edge.engines.base import Engine
from mfer_edge.faces.integral_image import IntegralImage, Part

WINDOW = 12  # pixels on a side of P-Net's receptive field
STRIDE = 2  # pixels between its windows
REFINE_SIZE = 24  # pixels on a side of R-Net's candidates
VERIFY_SIZE = 48  # and of O-Net's
BATCH = 64  # candidates in one call, which bounds the memory that a crowded image takes

# Local search around a known face, in shares of its box's longer side. Windows of these sizes and
# places hold every candidate that decides about the box, nearly always: on 1,738 real frames its
# overlap with a whole search's was at least 0.9 on 99.7 %; with 0.5 for 0.3, on 94.8 %.
NEAR_WINDOWS = (0.3, 1.6)
NEAR_MARGIN = 0.75  # around the box: how far a face moves, and its candidates reach

# The smallest face that is searched for by default: facenet-pytorch's, or a share of the image.
MIN_FACE = 20.0  # pixels on a side
MIN_FACE_SHARE = 1 / 15  # of the image's shorter side

# Overlap above which the less probable of two boxes is dropped (facenet-pytorch, detect_face).
SAME_LEVEL_OVERLAP = 0.5
OVERLAP = 0.7

SMALLEST = np.finfo(np.float32).tiny  # square pixels, of areas


@dataclass(frozen=True)
class MtcnnOptions:
    """Options of the detector; thresholds and factor are `facenet-pytorch`'s defaults.

    P-Net's cost grows with 1 / min_face^2, and a face of 20 pixels shows no emotion that could be
    recognised, so by default `min_face` follows the image: about a fifteenth of its shorter side,
    which is the size of FER-2013's faces at 720p. It is one of the levels of `facenet-pytorch`'s
    pyramid, which starts at 20 pixels, because a face's box depends on them: on other levels every
    fifth box overlapped `facenet-pytorch`'s by less than 0.9, on these all are the same.
    """

    min_face: float | None = None  # pixels on a side; None follows the image
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)  # probability, of P-, R- and O-Net
    factor: float = 0.709  # from one level of the pyramid to the next: about half the area

    def smallest(self, height: int, width: int) -> float:
        """Smallest face to search for in an image of this size, in pixels on a side."""
        if self.min_face is not None:
            return self.min_face
        levels = math.log(MIN_FACE / (min(height, width) * MIN_FACE_SHARE), self.factor)
        return MIN_FACE / self.factor ** max(0, round(levels))


@dataclass(frozen=True)
class FaceBox:
    """Bounding box of a face, which goes beyond the image where its border cuts the face off."""

    left: float  # pixels, as are the others
    top: float
    right: float
    bottom: float
    probability: float
    # (5, 2) float32, pixels from the left and the top: the eye on the image's left, the other eye,
    # the nose, the mouth's corner on the image's left, the other corner
    landmarks: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def in_shares(self, height: int, width: int) -> FaceBox:
        """The box in shares of an image's width and height, instead of pixels."""
        left, right = self.left / width, self.right / width
        return FaceBox(left, self.top / height, right, self.bottom / height, self.probability)


@dataclass(frozen=True)
class LevelPart:
    """A level of the image pyramid, or a part of it, as P-Net takes it."""

    pixels: np.ndarray  # (height, width, 3) float32, BGR, 0 to 255
    scale: float  # of the level, relative to the image
    corner: tuple[int, int] = (0, 0)  # left and top of the part, in pixels of the level


class FaceDetector:
    """MTCNN: P-Net proposes, R-Net refines, O-Net verifies.

    Args:
        pnet, rnet, onet: the bundle's engines of these names.
    """

    def __init__(
        self, pnet: Engine, rnet: Engine, onet: Engine, options: MtcnnOptions | None = None
    ) -> None:
        self.pnet, self.rnet, self.onet = pnet, rnet, onet
        self.options = options or MtcnnOptions()

    @classmethod
    def of(cls, engines: Mapping[str, Engine], options: MtcnnOptions | None = None) -> FaceDetector:
        """Build the detector on a bundle's engines, by name."""
        return cls(engines["pnet"], engines["rnet"], engines["onet"], options)

    def __call__(self, image: np.ndarray, near: Sequence[FaceBox] | None = None) -> list[FaceBox]:
        """Find the faces in an image, the largest first.

        Args:
            image: (height, width, 3) uint8, BGR, of any size; or (height, width), grey.
            near: search only where these faces of the frame before may be by now, and at about
                their size. This finds the same boxes there as a search of the whole image, for a
                fraction of the time.
        """
        if min(image.shape[:2]) < WINDOW:
            return []  # too small for P-Net, and OpenCV takes no empty image
        colour = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
        return self.search(IntegralImage(colour), near)

    def search(self, image: IntegralImage, near: Sequence[FaceBox] | None = None) -> list[FaceBox]:
        """As a call, in an image of 12 pixels on a side at least."""
        proposed = self.propose(list(self._pyramid(image, near)))
        return self.verify(image, self.refine(image, proposed))

    def propose(self, parts: Sequence[LevelPart]) -> np.ndarray:
        """Run P-Net on an image pyramid, or on parts of it.

        Args:
            parts: by level.

        Returns:
            (n, 4) float32, squares where a face may be: left, top, right, bottom in pixels.
        """
        if not parts:
            return np.zeros((0, 4), np.float32)
        part, corners, probability, offsets = self._windows(parts)
        scales = np.array([part.scale for part in parts], np.float32)
        # Counted from 1 as in the paper's Matlab code. Division in float32, whose rounding moves
        # boxes, as theirs.
        first = (corners + 1).astype(np.float32)
        boxes = np.concatenate([first, first + (WINDOW - 1)], axis=1)
        boxes = np.floor(boxes / scales[part][:, None])
        # Moved apart, boxes of different levels don't overlap.
        level = np.cumsum(np.diff(scales, prepend=scales[:1]) != 0)
        apart = boxes + (level[part] * (boxes.max(initial=0) + 1)).astype(np.float32)[:, None]
        kept = non_maximum_suppression(apart, probability, SAME_LEVEL_OVERLAP)
        boxes, probability, offsets = boxes[kept], probability[kept], offsets[kept]
        kept = non_maximum_suppression(boxes, probability, OVERLAP)
        return _squared(_moved(boxes[kept], offsets[kept], 0))

    def refine(self, image: IntegralImage, boxes: np.ndarray) -> np.ndarray:
        """Run R-Net on the squares of `propose`: drop those without a face, and move the others."""
        boxes, spans = _visible(boxes, image)
        if not len(boxes):
            return boxes
        result = self._classify(self.rnet, image, spans, REFINE_SIZE)
        confident = result["probability"] > self.options.thresholds[1]
        boxes, offsets = boxes[confident], result["offsets"][confident]
        kept = non_maximum_suppression(boxes, result["probability"][confident], OVERLAP)
        return _squared(_moved(boxes[kept], offsets[kept], 1))

    def verify(self, image: IntegralImage, boxes: np.ndarray) -> list[FaceBox]:
        """Run O-Net: decide which squares hold a face, and where exactly, the largest first.

        Args:
            boxes: (n, 4) float32 squares, from `refine`, or from another source of candidates.
        """
        boxes, spans = _visible(boxes, image)
        if not len(boxes):
            return []
        result = self._classify(self.onet, image, spans, VERIFY_SIZE)
        confident = result["probability"] > self.options.thresholds[2]
        boxes, probability = boxes[confident], result["probability"][confident]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = result["landmarks"][confident].reshape(-1, 2, 5).transpose(0, 2, 1)
        landmarks = landmarks * size[:, None] + boxes[:, None, :2] - 1
        boxes = _moved(boxes, result["offsets"][confident], 1)
        # Here, and only here, facenet-pytorch measures a box with its last pixels.
        with_last = np.concatenate([boxes[:, :2], boxes[:, 2:] + 1], axis=1)
        kept = non_maximum_suppression(with_last, probability, OVERLAP, of_smaller=True)
        found = zip(boxes[kept].tolist(), probability[kept].tolist(), landmarks[kept], strict=True)
        faces = [
            FaceBox(left, top, right, bottom, score, points)
            for (left, top, right, bottom), score, points in found
        ]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def scales(self, height: int, width: int) -> Iterator[float]:
        """Scales of the pyramid's levels, relative to an image of this size."""
        scale = WINDOW / self.options.smallest(height, width)
        side = min(height, width) * scale
        while side >= WINDOW:
            yield scale
            scale *= self.options.factor
            side *= self.options.factor

    def _pyramid(self, image: IntegralImage, near: Sequence[FaceBox] | None) -> Iterator[LevelPart]:
        """The image's levels, or the parts of them near some faces."""
        for scale in self.scales(image.height, image.width):
            height, width = level_size(image.height, image.width, scale)
            parts = [(0, 0, width, height)]
            if near is not None:
                parts = _parts(near, scale, height, width)
            for part in parts:
                yield LevelPart(image.resized(height, width, part), scale, part[:2])

    def _windows(self, parts: Sequence[LevelPart]) -> tuple[np.ndarray, ...]:
        """Windows that may show a face.

        Returns:
            Index of their part (n,), corners in pixels of its level (n, 2), probability (n,),
            offsets (n, 4).
        """
        grids = [self.pnet(image=part.pixels[None]) for part in parts]
        probability = np.concatenate([grid["probability"].ravel() for grid in grids])
        offsets = np.concatenate([grid["offsets"].reshape(4, -1) for grid in grids], axis=1)
        found = np.flatnonzero(probability >= self.options.thresholds[0])
        ends = np.cumsum([grid["probability"].size for grid in grids])
        part = np.searchsorted(ends, found, side="right")
        # left, top, columns, and the place of its first window, of each part
        layout = [(*p.corner, g["probability"].shape[2]) for p, g in zip(parts, grids, strict=True)]
        left, top, width = np.array(layout)[part].T
        rows, columns = np.divmod(found - np.concatenate([[0], ends])[part], width)
        corners = np.stack([columns * STRIDE + left, rows * STRIDE + top], axis=1)
        return part, corners, probability[found], offsets[:, found].T

    def _classify(
        self, engine: Engine, image: IntegralImage, spans: np.ndarray, size: int
    ) -> dict[str, np.ndarray]:
        """Run R-Net or O-Net on (n, 4) parts of the image, n > 0: its outputs for all of them."""
        results = [
            engine(candidates=image.crops(spans[start : start + BATCH], size))
            for start in range(0, len(spans), BATCH)
        ]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def level_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of a level of an image's pyramid, as facenet-pytorch rounds them."""
    return int(height * scale + 1), int(width * scale + 1)


def non_maximum_suppression(
    boxes: np.ndarray, probability: np.ndarray, threshold: float, of_smaller: bool = False
) -> np.ndarray:
    """Keep the most probable box of each group of overlapping ones.

    Args:
        boxes: (n, 4) left, top, right, bottom.
        probability: (n,).
        threshold: overlap above which the less probable of two boxes is dropped.
        of_smaller: divide the overlap by the smaller box instead of the union, so that a box
            within a larger one is dropped too.

    Returns:
        (k,) int, the kept boxes' indices, the most probable first.
    """
    order = np.argsort(-probability, kind="stable")
    if len(order) < 2:
        return order
    boxes = boxes[order]
    dropped = 0  # bit i: box i
    kept: list[int] = []
    for start in range(0, len(boxes), BATCH):
        batch = range(start, min(start + BATCH, len(boxes)))
        candidates = [i for i in batch if not dropped >> i & 1]
        clashes = box_overlap(boxes[candidates], boxes[start:], of_smaller) > threshold
        bits = np.packbits(clashes, axis=1, bitorder="little")
        for candidate, row in zip(candidates, bits, strict=True):
            if not dropped >> candidate & 1:
                kept.append(candidate)
                dropped |= int.from_bytes(row.tobytes(), "little") << start
    return order[kept]


def box_overlap(boxes: np.ndarray, others: np.ndarray, of_smaller: bool) -> np.ndarray:
    """Overlap of each of (n, 4) boxes with each of (m, 4) others, in shares: (n, m)."""
    # By columns: NumPy takes much longer over a last axis of two.
    (left, top, right, bottom), (lefts, tops, rights, bottoms) = boxes.T[..., None], others.T
    across = np.minimum(right, rights)
    across -= np.maximum(left, lefts)
    down = np.minimum(bottom, bottoms)
    down -= np.maximum(top, tops)
    common = np.maximum(across, 0) * np.maximum(down, 0)
    area, areas = (right - left) * (bottom - top), (rights - lefts) * (bottoms - tops)
    whole = np.minimum(area, areas) if of_smaller else area + areas - common
    return common / np.maximum(whole, SMALLEST)  # without an area they have nothing in common


def _visible(boxes: np.ndarray, image: IntegralImage) -> tuple[np.ndarray, np.ndarray]:
    """The boxes, of (n, 4), that overlap the image, and the (n, 4) parts of it inside them."""
    # Boxes count pixels from 1 and include the last; spans count from 0 and end one past it.
    spans = boxes.astype(np.int64)
    spans[:, :2] = np.maximum(spans[:, :2], 1) - 1
    spans[:, 2:] = np.minimum(spans[:, 2:], (image.width, image.height))
    visible = (spans[:, 2:] > spans[:, :2]).all(axis=1)
    return boxes[visible], spans[visible]


def _parts(near: Sequence[FaceBox], scale: float, height: int, width: int) -> list[Part]:
    """Parts of a level around the faces that are about as large as P-Net's windows there."""
    parts = []
    for face in near:
        side = max(face.right - face.left, face.bottom - face.top)
        if not NEAR_WINDOWS[0] * side <= WINDOW / scale <= NEAR_WINDOWS[1] * side:
            continue
        margin = NEAR_MARGIN * side
        # Aligned with the windows of the whole level, so that these are the same.
        left = max(0, int((face.left - margin) * scale) // STRIDE * STRIDE)
        top = max(0, int((face.top - margin) * scale) // STRIDE * STRIDE)
        right = min(width, math.ceil((face.right + margin) * scale) // STRIDE * STRIDE)
        bottom = min(height, math.ceil((face.bottom + margin) * scale) // STRIDE * STRIDE)
        if right - left >= WINDOW and bottom - top >= WINDOW:
            parts.append((left, top, right, bottom))
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in parts)
    if area < height * width:
        return parts
    return [(0, 0, width, height)]  # with many faces the whole level is less


def _moved(boxes: np.ndarray, offsets: np.ndarray, extra: int) -> np.ndarray:
    """Move the sides of (n, 4) boxes by (n, 4) offsets, in shares of their size plus `extra`."""
    size = boxes[:, 2:] - boxes[:, :2] + extra
    return boxes + offsets * np.concatenate([size, size], axis=1)


def _squared(boxes: np.ndarray) -> np.ndarray:
    """Widen (n, 4) boxes to squares around the same centres."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + size * 0.5 - side * 0.5
    return np.concatenate([corner, corner + side], axis=1)
