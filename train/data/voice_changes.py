"""Options of the augmentation of speech, without its signal processing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VoiceChanges:
    """Ranges of the augmentation, and the share of recordings that each step applies to.

    The order of the steps is that of sound: talker, room, background, microphone, line.
    """

    speed: float  # highest change, as a share
    keep: float  # lowest share of the recording after a cut
    colour_db: float  # of a random equaliser: another microphone
    noise_db: tuple[float, float]  # signal to noise ratio, lowest and highest
    noisy: float  # share of the recordings that get noise
    masks: int = 0  # silenced spans
    longest_mask_s: float = 0.1
    coloured: float = 1.0  # share that gets the equaliser
    reverberant: float = 0.0  # share in a synthetic room
    babbling: float = 0.0  # share with other talkers behind
    babble_db: tuple[float, float] = (5.0, 30.0)  # signal to babble ratio
    humming: float = 0.0  # share of the noises that hold mains hum
    clipped: float = 0.0  # share that is overdriven
    telephoned: float = 0.0  # share over a telephone line
    coded: float = 0.0  # share through Opus, MP3 or AAC
    quietest_db: float = 0.0  # lowest peak level of 16-bit samples; 0: the level is kept


STRONG = VoiceChanges(
    speed=0.08,
    keep=0.75,
    colour_db=8.0,
    noise_db=(8.0, 40.0),
    noisy=0.6,
    coloured=0.7,
    reverberant=0.5,
    babbling=0.3,
    humming=0.3,
    clipped=0.1,
    telephoned=0.15,
    coded=0.35,
    quietest_db=-30.0,
)
"""For models that are used in other rooms, with other microphones and over other lines."""

PAPER = VoiceChanges(speed=0.05, keep=1.0, colour_db=0.0, noise_db=(20.0, 30.0), noisy=0.5, masks=2)
"""As in the paper's research code: mild noise, short masks, speed."""
