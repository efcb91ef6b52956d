"""Stereo whose sides are in opposite phase: a mix of the two would lose what both hold."""

from __future__ import annotations

import numpy as np
from av.audio.frame import AudioFrame

MIN_SHARE = 0.05  # of the energy: if less is common to both sides, they are opposite
HALF_LIFE_S = 0.025  # of what was heard before, in the choice
AUDIBLE = 0.003  # RMS of full scale: the noise of a quiet room
ENOUGH_RATE = 12_000  # Hz, to estimate energies: hardly any energy of speech is above
NO_ARRAY = ("s64", "s64p")  # formats that PyAV has no array for
OFFSETS = {"u8": 128, "u8p": 128}  # level of silence, where it is not 0


class PhaseCorrection:
    """Inverts the right side of stereo for as long as it cancels the left one.

    Attributes:
        inverted_s: for how long it did, where there was something to hear.
    """

    def __init__(self) -> None:
        self.inverted_s = 0.0
        self._common = self._opposite = 0.0  # energies of late

    def __call__(self, frame: AudioFrame) -> AudioFrame:
        """Correct the next frame; a frame that needs none, or is no stereo, comes back itself."""
        if frame.layout.nb_channels != 2 or not frame.samples or frame.format.name in NO_ARRAY:
            return frame
        stored = frame.to_ndarray()
        offset = OFFSETS.get(frame.format.name, 0)
        common, opposite = self._energies(stored, offset, frame)
        seconds = frame.samples / frame.sample_rate
        kept = 0.5 ** (seconds / HALF_LIFE_S)
        self._common = kept * self._common + common
        self._opposite = kept * self._opposite + opposite
        if self._common >= MIN_SHARE * (self._common + self._opposite):
            return frame
        if opposite > 4 * seconds * AUDIBLE**2:
            self.inverted_s += seconds
        return _with_right_inverted(frame, stored, offset)

    def _energies(self, stored: np.ndarray, offset: int, frame: AudioFrame) -> tuple[float, float]:
        """Energy of the sum and of the difference of both sides, estimated from some samples."""
        step = max(1, frame.sample_rate // ENOUGH_RATE)
        sides = stored[:, ::step] if frame.format.is_planar else stored.reshape(-1, 2)[::step].T
        full = 1.0 if sides.dtype.kind == "f" else np.iinfo(sides.dtype).max - offset
        left, right = (sides.astype(np.float64) - offset) / full
        common, opposite = left + right, left - right
        energies = float(common @ common), float(opposite @ opposite)
        if not np.isfinite(energies).all():  # damaged: the resampler looks at every sample
            return 0.0, 0.0
        return energies[0] * step / frame.sample_rate, energies[1] * step / frame.sample_rate


def _with_right_inverted(frame: AudioFrame, stored: np.ndarray, offset: int) -> AudioFrame:
    inverted = stored.copy()
    right = inverted[1] if frame.format.is_planar else inverted[0, 1::2]
    if stored.dtype.kind == "f":
        right[:] = -right
    else:
        limits = np.iinfo(stored.dtype)
        right[:] = np.clip(2 * offset - right.astype(np.int64), limits.min, limits.max)
    made = AudioFrame.from_ndarray(inverted, frame.format.name, frame.layout.name)
    made.sample_rate, made.pts, made.time_base = frame.sample_rate, frame.pts, frame.time_base
    return made
