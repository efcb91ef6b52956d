"""Options of the server, and the limits that it holds visitors to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from ipaddress import ip_address

STREAMS_PER_CORE = 7  # two cores of an EPYC hold 16 to 18 beside their clients, at p99
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What the server takes at most, of one visitor and of all together."""

    sessions: int  # live ones at once; further ones are refused with 503
    uploads: int = 8  # clips that are received, wait or are analysed; further ones get 503
    upload_bytes: int = 200 * MEGABYTE  # of one clip
    clip_s: float = 600.0  # length of a clip
    frame_pixels: int = 4096 * 2304  # of a clip's frames
    analysis_s: float = 600.0  # for one clip, waiting not counted
    body_s: float = 600.0  # from the first to the last byte of an upload
    pause_s: float = 15.0  # without a byte of an upload, or a request that has not come whole
    idle_s: float = 60.0  # without a message in a live session
    send_s: float = 20.0  # for a reader of results to take what is sent
    connections: int = 512  # past these the one that has idled longest is closed


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens, and to whom it answers."""

    host: str = "127.0.0.1"
    port: int = 8040  # 0: any free one
    token: str | None = None  # that every request has to bring; None: none
    allow_hosts: tuple[str, ...] = ()  # names of this server beside its addresses
    tls_cert: str | None = None
    tls_key: str | None = None
    limits: Limits = field(default_factory=lambda: Limits(sessions=1))

    @property
    def scheme(self) -> str:
        """`https` with a certificate."""
        return "https" if self.tls_cert else "http"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def default_sessions(cores: int) -> int:
    """Live sessions that the CPU holds, if no benchmark of this machine is given."""
    return max(1, math.floor(STREAMS_PER_CORE * cores))
