"""URLs: which are opened, how long a server may keep us waiting, and how they are named."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mfer_edge.errors import MediaError

if TYPE_CHECKING:
    from av.container import InputContainer

OPEN_TIMEOUT_S = 15.0  # to connect, and to find out what is sent
READ_TIMEOUT_S = 15.0  # for the next packet

_WEB = "http,https,tcp,tls,crypto"  # crypto: encrypted HLS
_RTSP = "rtsp,rtsps,rtp,rtcp,srtp,udp,tcp,tls"
_RTMP = "rtmp,rtmps,rtmpt,rtmpts,tcp,tls,http,https"
PROTOCOLS = {
    "http": _WEB,
    "https": _WEB,
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "rtp": "rtp,rtcp,srtp,udp",
    "udp": "udp",
    "tcp": "tcp",
    "srt": "srt",
    "rtmp": _RTMP,
    "rtmps": _RTMP,
}
"""The protocols that are opened, each with what FFmpeg may use on the way: a playlist or a redirect
from the network must not read this machine's files."""

# A drive letter is no scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def is_url(source: object) -> bool:
    """Whether a source is a URL, of any protocol; a `Path` never is."""
    return isinstance(source, str) and _SCHEME.match(source) is not None


def shown_url(url: str) -> str:
    """A URL as it is printed and stored: without user, password and query, which hold secrets."""
    scheme, _, rest = url.partition("://")
    rest, query, _ = rest.partition("?")
    host, slash, path = rest.partition("/")
    shown = f"{scheme.lower()}://{host.rpartition('@')[2]}{slash}{path}{query and '?...'}"
    return "".join(letter if letter.isprintable() else "?" for letter in shown)


def shown_source(source: Path | str) -> str:
    """A source as messages name it: a path, or a URL without secrets."""
    return shown_url(source) if isinstance(source, str) and is_url(source) else str(source)


def check_url(url: str) -> None:
    """Refuse a URL that is never opened, before any work is done.

    Raises:
        MediaError: its protocol is not one of `PROTOCOLS`, or it names no host.
    """
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        raise MediaError(f"{shown_url(url)}: give the path of a file, not a URL")
    if scheme not in PROTOCOLS:
        raise MediaError(
            f"{shown_url(url)}: the protocol {scheme} is not opened; those that are: "
            + ", ".join(PROTOCOLS)
        )
    try:
        host = urlsplit(url).netloc
    except ValueError:  # such as an IPv6 address without its bracket
        host = ""
    if not host.rpartition("@")[2]:
        raise MediaError(f"{shown_url(url)}: this URL names no host")


def open_url(
    url: str, *, open_timeout_s: float = OPEN_TIMEOUT_S, read_timeout_s: float = READ_TIMEOUT_S
) -> InputContainer:
    """Open a URL. A read that gets nothing in time raises an `av.error.FFmpegError`.

    Raises:
        MediaError: the URL is not allowed, nothing answers in time, or it sends no video or sound.
    """
    import av
    import av.error

    from mfer_edge.sources.base import DECODER_OPTIONS

    check_url(url)
    scheme = url.partition("://")[0].lower()
    options = {"protocol_whitelist": PROTOCOLS[scheme], **DECODER_OPTIONS}
    if scheme.startswith("rtsp"):
        options["rtsp_flags"] = "prefer_tcp"  # UDP loses packets, and few firewalls let it in
    try:
        return av.open(url, options=options, timeout=(open_timeout_s, read_timeout_s))
    except av.error.ExitError as error:
        raise MediaError(f"{shown_url(url)}: no answer in {open_timeout_s:g} s") from error
    except av.error.ProtocolNotFoundError as error:
        raise MediaError(
            f"{shown_url(url)}: this build of FFmpeg can't open {scheme}, or what it leads to "
            "has a protocol that is not allowed"
        ) from error
    except av.error.InvalidDataError as error:
        raise MediaError(f"{shown_url(url)}: sends no video or sound that is known") from error
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.EIO:  # FFmpeg's word for a name without address
            reason = "can't be reached: there may be no such host"
        raise MediaError(f"{shown_url(url)}: {reason}") from error
