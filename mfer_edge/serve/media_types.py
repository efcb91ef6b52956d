"""Types of media files by their first bytes.

FFmpeg also reads lists of other files (HLS, concat, DASH, SDP) and renders text: an upload must be
none of these, as it could make the server open its own files, or addresses of its network.
"""

from __future__ import annotations

MPEG_TS_PACKET = 188
MPEG_AUDIO = 0xE0  # of the second byte: eleven bits of synchronisation begin an MPEG audio frame


def is_media(start: bytes) -> bool:
    """Whether a file begins as a video or sound file of a type that people record in.

    Args:
        start: its first 512 bytes, or all if it is shorter.
    """
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return True  # MP4, MOV, M4A, 3GP
    if start.startswith(b"\x1a\x45\xdf\xa3"):  # Matroska, WebM
        return True
    if start[:4] in (b"RIFF", b"RF64") and start[8:12] in (b"AVI ", b"WAVE"):
        return True
    if start.startswith((b"OggS", b"fLaC", b"FLV\x01", b"ID3", b"caff", b"#!AMR", b".snd")):
        return True
    if start.startswith(b"FORM") and start[8:12] in (b"AIFF", b"AIFC"):
        return True
    if start.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):  # WMV, WMA
        return True
    if start.startswith((b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")):  # MPEG program stream, video
        return True
    if start.startswith(b"\x47") and start[MPEG_TS_PACKET : MPEG_TS_PACKET + 1] == b"\x47":
        return True  # MPEG transport stream
    return len(start) > 2 and start[0] == 0xFF and start[1] & MPEG_AUDIO == MPEG_AUDIO  # MP3, AAC
