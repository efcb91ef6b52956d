"""Features of training files by frozen backbones, computed once and cached on disk."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from train.data.augment_voices import vary_voice
from train.data.cache import Arrays, Cache
from train.data.faces.augment import vary_faces
from train.data.faces.damage import damage_faces
from train.data.index import DatasetError, Entry
from train.data.preprocess import MIN_SPEECH_S, SAMPLE_RATE, Preprocessor
from train.presets import Preset

IMAGES = 256  # in a batch
VERSION = 1  # of the features: a change invalidates the cache

Progress = Callable[[int, int], None]  # done, of how many
Say = Callable[[str], None]


@dataclass(frozen=True)
class Features:
    """Sequences of embeddings by clip and view; empty for clips without the modality."""

    sequences: Sequence[Sequence[np.ndarray]]
    """By clip and view: (steps, width) or (steps, depth, width) float16. View 0 is the clip as it
    is, the others are augmented."""

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
        cache: of features, by content and settings.
        face, speech: the backbone; one of the two.
    """

    def __init__(
        self,
        preset: Preset,
        inputs: Preprocessor,
        cache: Cache,
        *,
        face: nn.Module | None = None,
        speech: nn.Module | None = None,
    ) -> None:
        self._preset, self._inputs, self._cache = preset, inputs, cache
        self._face, self._speech = face, speech
        backbone = face if face is not None else speech
        if backbone is None or (face is not None and speech is not None):
            raise ValueError("one backbone, either of faces or of speech")
        self._backbone = backbone.eval()
        self._width = int(backbone.width)  # type: ignore[arg-type]
        self._views = preset.views if speech is not None else preset.face_views
        changes: object = preset.face_changes
        if preset.face_damage:
            changes = (preset.face_changes, preset.face_damage)
        if speech is not None:
            changes = (preset.voice_changes, preset.longest_s)
        self._settings = repr((VERSION, self._views, changes, fingerprint(backbone)))

    def __call__(
        self,
        entries: Sequence[Entry],
        progress: Progress | None = None,
        say: Say | None = None,
    ) -> Features:
        """Give the features of files; compute those that are not cached.

        Args:
            progress: called after every file.
            say: called with an estimate of disk space and time before the first file, and with the
                number of files without features after the last.

        Raises:
            DatasetError: the disk has no space for them.
            MediaError: a file can't be read.
        """
        units = self._units(entries)
        keys = [self._key(unit) for unit in units]
        missing = [number for number, key in enumerate(keys) if key not in self._cache]
        if missing:
            self._estimate(units, keys, missing, say)
        sequences: list[list[np.ndarray]] = []
        for number, (unit, key) in enumerate(zip(units, keys, strict=True)):
            arrays = self._cache.get(key, lambda unit=unit, key=key: self._make(unit, key))  # type: ignore[misc]
            ends = arrays["ends"].ravel()
            flat = np.split(arrays["states"], ends[:-1])
            sequences += [flat[at : at + self._views] for at in range(0, len(flat), self._views)]
            if progress:
                progress(number + 1, len(units))
        empty = [e for e, views in zip(entries, sequences, strict=True) if not len(views[0])]
        if say and empty:
            what = "no face" if self._speech is None else f"under {MIN_SPEECH_S} s of audio"
            say(f"{len(empty)} files have {what}, such as {empty[0].path}")
        return Features(sequences)

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

    def _key(self, unit: list[Entry]) -> str:
        names = " ".join(self._inputs.key(entry) for entry in unit)
        return hashlib.sha256(f"{names} {self._settings}".encode()).hexdigest()

    def _estimate(
        self, units: list[list[Entry]], keys: list[str], missing: list[int], say: Say | None
    ) -> None:
        """Compute one unit, print an estimate for all, and refuse if the disk has no space."""
        first = missing[len(missing) // 2]
        started = time.perf_counter()
        arrays = self._cache.get(keys[first], lambda: self._make(units[first], keys[first]))
        seconds = (
            (time.perf_counter() - started)
            / len(units[first])
            * sum(len(units[number]) for number in missing)
        )
        count = sum(len(units[number]) for number in missing)
        size = sum(array.nbytes for array in arrays.values()) / len(units[first]) * count
        free = shutil.disk_usage(self._cache.folder).free
        if say:
            say(f"{count} files to go: about {size / 1e6:.0f} MB and {seconds / 60:.0f} min")
        if size > free:
            raise DatasetError(
                f"{self._cache.folder}: the features need about {size / 1e6:.0f} MB, and "
                f"{free / 1e6:.0f} MB are free"
            )

    @torch.inference_mode()
    def _make(self, unit: list[Entry], key: str) -> Arrays:
        if self._speech is not None:
            views = [self._voice_views(self._inputs(unit[0]).speech, key)]
        else:
            faces = [torch.from_numpy(self._inputs(entry).faces)[:, None] for entry in unit]
            views = self._face_views(faces, key)
        flat = [view for clip in views for view in clip]
        ends = np.cumsum([len(view) for view in flat]).reshape(len(views), -1)
        return {"states": np.concatenate(flat), "ends": ends}

    def _voice_views(self, speech: np.ndarray, key: str) -> list[np.ndarray]:
        assert self._speech is not None
        preset, random = self._preset, np.random.default_rng(int(key[:16], 16))
        views = []
        for view in range(self._views):
            if not len(speech):
                views.append(np.zeros((0, self._width), np.float16))
                continue
            voice = vary_voice(speech, random, preset.voice_changes) if view else speech
            wave = torch.from_numpy(voice[: int(preset.longest_s * SAMPLE_RATE)])
            views.append(self._speech(wave[None])[0].half().numpy())
        return views

    def _face_views(self, faces: list[Tensor], key: str) -> list[list[np.ndarray]]:
        """Embed clips' faces; faces of one clip are augmented alike, images one by one."""
        lengths = [len(clip) for clip in faces]
        pixels = torch.cat(faces).float()
        views = []
        with torch.random.fork_rng():
            torch.manual_seed(int(key[:15], 16))
            for view in range(self._views):
                shown = pixels
                if view and len(pixels):
                    shown = vary_faces(pixels, self._preset.face_changes, len(faces) == 1)
                    if self._preset.face_damage and view % 2 == 0:
                        shown = damage_faces(shown, self._preset.face_damage)
                embedded = [self._backbone(part) for part in shown.split(IMAGES) if len(part)]
                embedded = embedded or [torch.zeros(0, self._width)]
                views.append(torch.cat(embedded).half().split(lengths))
        return [[view[number].numpy() for view in views] for number in range(len(faces))]


def fingerprint(module: nn.Module) -> str:
    """Hash of a backbone's name and weights."""
    name = getattr(module, "cache_name", type(module).__name__)
    digest = hashlib.sha256(name.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
