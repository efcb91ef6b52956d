"""Features of training files by frozen backbones, computed once and cached on disk."""

from __future__ import annotations

import functools
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from train.data.acoustics.background import Babble
from train.data.augment_voices import vary_voice
from train.data.cache import Arrays, Cache
from train.data.faces.augment import vary_faces
from train.data.faces.damage import damage_faces
from train.data.index import DatasetError, Entry
from train.data.preprocess import MIN_SPEECH_S, SAMPLE_RATE, Preprocessor
from train.presets import Preset

IMAGES = 256  # in a batch
SAMPLES = 5  # of each view, to estimate time and space
TALKERS = 48  # recordings that babble is mixed from
LONGEST_TALK = 10 * SAMPLE_RATE  # samples of each of them
VERSION = 2  # of the features: a change invalidates the cache

Progress = Callable[[int, int], None]  # done, of how many
Say = Callable[[str], None]


@dataclass(frozen=True)
class Features:
    """Sequences of embeddings by clip and view; empty for clips without the modality."""

    sequences: Sequence[Sequence[np.ndarray]]
    """By clip and view: (steps, width) or (steps, depth, width) float16, or of speech for an arm of
    kind "statistics" its `summary`. View 0 is the clip as it is, the others are augmented."""

    @classmethod
    def none(cls, count: int) -> Features:
        """Those of clips of which none has the modality."""
        nothing = [np.zeros((0, 0), np.float16)]
        return cls([nothing] * count)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def views(self) -> int:
        return max(map(len, self.sequences))

    @property
    def present(self) -> np.ndarray:
        """Clips that have features: (n,) bool."""
        return np.array([len(views[0]) > 0 for views in self.sequences], bool)


class FeatureExtractor:
    """Runs one backbone over files, as they are and augmented.

    Args:
        preset: number of views, and augmentation.
        inputs: the runtime's preprocessing.
        cache: of features, by content, settings and view.
        face, speech: the backbone; one of the two.
        background: recordings of talkers for babble behind augmented voices.
    """

    def __init__(
        self,
        preset: Preset,
        inputs: Preprocessor,
        cache: Cache,
        *,
        face: nn.Module | None = None,
        speech: nn.Module | None = None,
        background: Sequence[Entry] = (),
    ) -> None:
        self._preset, self._inputs, self._cache = preset, inputs, cache
        self._speech = speech
        backbone = face if face is not None else speech
        if backbone is None or (face is not None and speech is not None):
            raise ValueError("one backbone, either of faces or of speech")
        self._backbone = backbone.eval()
        self._width = int(backbone.width)  # type: ignore[arg-type]
        self._views = preset.views if speech is not None else preset.face_views
        self._background = background
        self._changes: object = preset.face_changes
        if preset.face_damage:
            self._changes = preset.face_changes, preset.face_damage
        self._form: object = ""
        if speech is not None:
            self._changes = preset.voice_changes
            self._form = preset.longest_s, preset.audio_arm == "statistics"
        self._fingerprint = fingerprint(backbone)

    def __call__(
        self,
        entries: Sequence[Entry],
        progress: Progress | None = None,
        say: Say | None = None,
    ) -> Features:
        """Give the features of files; compute those that are not cached, one view after another.

        Args:
            progress: called after every file and view.
            say: called with an estimate of disk space and time before the first file, and with the
                number of files without features after the last.

        Raises:
            DatasetError: the disk has no space for them.
            MediaError: a file can't be read.
        """
        units = self._units(entries)
        jobs = [self._job(unit, view) for view in range(self._views) for unit in units]
        if missing := [job for job in jobs if job.key not in self._cache]:
            self._estimate(missing, say)
        by_view: list[list[np.ndarray]] = [[] for _ in range(self._views)]
        for number, job in enumerate(jobs, 1):
            arrays = self._cache.get(job.key, functools.partial(self._make, job))
            by_view[job.view] += np.split(arrays["states"], arrays["ends"][:-1])
            if progress:
                progress(number, len(jobs))
        empty = [entry for entry, view in zip(entries, by_view[0], strict=True) if not len(view)]
        if say and empty:
            what = "no face" if self._speech is None else f"under {MIN_SPEECH_S} s of audio"
            say(f"{len(empty)} files have {what}, such as {empty[0].path}")
        return Features(list(zip(*by_view, strict=True)))

    def _units(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """Batches: a clip, or consecutive images."""
        units: list[list[Entry]] = []
        for entry in entries:
            images = entry.kind == "image" and units and units[-1][-1].kind == "image"
            if images and len(units[-1]) < IMAGES:
                units[-1].append(entry)
            else:
                units.append([entry])
        return units

    def _job(self, unit: list[Entry], view: int) -> _Job:
        names = " ".join(self._inputs.key(entry) for entry in unit)
        # The clean view does not depend on the augmentation. The recordings of the background are
        # no part of the key: one more of them does not make all views anew.
        changes = repr((view, self._changes)) if view else ""
        settings = f"{VERSION} {self._form} {self._fingerprint} {changes}"
        return _Job(unit, view, hashlib.sha256(f"{names} {settings}".encode()).hexdigest())

    def _estimate(self, missing: Sequence[_Job], say: Say | None) -> None:
        """Compute a few jobs of each view, and tell what all need; refuse on a full disk."""
        seconds = size = 0.0
        for view in sorted({job.view for job in missing}):
            jobs = [job for job in missing if job.view == view]
            times, sizes = [], []
            for job in jobs[:: -(-len(jobs) // SAMPLES)]:
                started = time.perf_counter()
                arrays = self._cache.get(job.key, functools.partial(self._make, job))
                times.append((time.perf_counter() - started) / len(job.unit))
                sizes.append(sum(array.nbytes for array in arrays.values()) / len(job.unit))
            count = sum(len(job.unit) for job in jobs)
            seconds += float(np.median(times)) * count  # the first of them loads libraries
            size += float(np.mean(sizes)) * count
        count = sum(len(job.unit) for job in missing)
        free = shutil.disk_usage(self._cache.folder).free
        if say:
            say(f"{count} views to go: about {size / 1e6:.0f} MB and {seconds / 60:.0f} min")
        if size > free:
            raise DatasetError(
                f"{self._cache.folder}: the features need about {size / 1e6:.0f} MB, and "
                f"{free / 1e6:.0f} MB are free"
            )

    @torch.inference_mode()
    def _make(self, job: _Job) -> Arrays:
        if self._speech is not None:
            views = [self._voice_view(self._inputs(job.unit[0]).speech, job)]
        else:
            faces = [torch.from_numpy(self._inputs(entry).faces)[:, None] for entry in job.unit]
            views = self._face_view(faces, job)
        return {"states": np.concatenate(views), "ends": np.cumsum([len(view) for view in views])}

    def _voice_view(self, speech: np.ndarray, job: _Job) -> np.ndarray:
        preset = self._preset
        if not len(speech):
            return np.zeros((0, self._width), np.float16)
        if job.view:
            speech = vary_voice(
                speech,
                np.random.default_rng(int(job.key[:16], 16)),
                preset.voice_changes,
                babble=self._babble,
                longest_s=preset.longest_s,
            )
        wave = torch.from_numpy(speech[: int(preset.longest_s * SAMPLE_RATE)])
        steps = self._backbone(wave[None])[0]
        if preset.audio_arm == "statistics":
            return summary(steps).numpy()
        return steps.half().numpy()

    @functools.cached_property
    def _babble(self) -> Babble | None:
        """Babble of some of the background's recordings, the same whatever their order."""
        chosen = sorted(self._background, key=lambda entry: entry.content)[:TALKERS]
        voices = [self._inputs(entry).speech[:LONGEST_TALK] for entry in chosen]
        heard = [voice for voice in voices if len(voice)]
        return Babble(heard) if heard else None

    def _face_view(self, faces: list[Tensor], job: _Job) -> list[np.ndarray]:
        """Embed clips' faces; faces of one clip are augmented alike, images one by one."""
        lengths = [len(clip) for clip in faces]
        pixels = torch.cat(faces).float()
        if job.view and len(pixels):
            with torch.random.fork_rng():
                torch.manual_seed(int(job.key[:15], 16))
                pixels = vary_faces(pixels, self._preset.face_changes, len(faces) == 1)
                if self._preset.face_damage and job.view % 2 == 0:
                    pixels = damage_faces(pixels, self._preset.face_damage)
        embedded = [self._backbone(part) for part in pixels.split(IMAGES) if len(part)]
        embedded = embedded or [torch.zeros(0, self._width)]
        return [view.numpy() for view in torch.cat(embedded).half().split(lengths)]


@dataclass(frozen=True)
class _Job:
    """One view of one unit."""

    unit: Sequence[Entry]
    view: int  # 0: as it is
    key: str  # in the cache; the seed of the augmentation too


def summary(steps: Tensor) -> Tensor:
    """Give two steps with the mean and the deviation over time of many: (2, ...) float32.

    They are all that an arm of kind "statistics" takes of a recording, in a fiftieth of the space.
    """
    deviation = steps.var(0, correction=0).sqrt()
    return torch.stack([steps.mean(0) - deviation, steps.mean(0) + deviation])


def fingerprint(module: nn.Module) -> str:
    """Hash of a backbone's name and weights."""
    name = getattr(module, "cache_name", type(module).__name__)
    digest = hashlib.sha256(name.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
