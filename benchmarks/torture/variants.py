"""Clips of every kind that FFmpeg writes here, each with the twin that it has to be read like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from av.codec import Codec, codecs_available
from av.format import ContainerFormat, formats_available

from benchmarks.torture.material import Writing, clean_twin, write

PLAIN = Writing()
CONTAINERS = (".mkv", ".mov", ".avi", ".nut", ".mp4")  # tried in turn for each encoder
HARDWARE = ("_qsv", "_nvenc", "_amf", "_v4l2m2m", "_vaapi")
NO_FILES = {  # of these formats: they write no single file that holds pictures or sound
    *("crc", "framecrc", "framehash", "framemd5", "hash", "md5", "streamhash", "uncodedframecrc"),
    *("null", "tee", "fifo", "data", "rtp", "rtp_mpegts", "rtsp", "sap", "whip", "alsa", "oss"),
    *("fbdev", "segment", "stream_segment,ssegment", "hls", "dash", "hds", "smoothstreaming"),
    *("ffmetadata", "image2", "mkvtimestamp_v2", "video4linux2,v4l2", "webm_chunk", "rcwt"),
    *("ass", "srt", "scc", "sup", "lrc", "jacosub", "mcc", "microdvd", "ttml", "webvtt"),
    *("webm_dash_manifest", "a64", "vidc"),
}
LAYOUTS = ("mono", "stereo", "2.1", "3.0", "4.0", "quad", "5.0", "5.1", "6.1", "7.1", "7.1.4")
UNNAMED = ("3 channels", "5 channels", "16 channels", "ambisonic 1", "FL+FC", "FR+LFE")


@dataclass(frozen=True)
class Case:
    """An input of the torture set."""

    kind: str
    name: str
    make: Callable[[Path], Path]  # into a path without suffix
    twin: Callable[[Path, Path], Path | None] | None  # from the made clip into a path; None: none
    may_differ: bool = False  # unsaid, as nothing in the file tells
    shows: Callable[[Path], bool] | None = None  # whether the made clip's damage can be noticed


def written(kind: str, name: str, how: Writing, twin: Writing | None = None) -> Case:
    """A clip that is written as told; its twin is written so too, or by default decoded."""

    def make(path: Path) -> Path:
        return write(path.with_suffix(how.suffix), how)

    def other(clip: Path, out: Path) -> Path | None:
        if twin is not None:
            return write(out.with_suffix(twin.suffix), twin)
        return clean_twin(clip, out.with_suffix(".mkv"))

    return Case(kind, name, make, other)


def encoders(kind: str) -> list[str]:
    """Names of all encoders for `video` or `audio` that need no hardware."""
    found = []
    for name in sorted(codecs_available):
        if name.endswith(HARDWARE):
            continue
        try:
            codec = Codec(name, "w")
        except ValueError:  # a decoder
            continue
        if codec.type == kind and codec.name == name:
            found.append(name)
    return found


def codec_cases() -> Iterator[Case]:
    """Each encoder, in the first container that takes it."""
    for name in encoders("video"):
        for how in (
            replace(PLAIN, video=name, suffix=suffix, encoding={"strict": "experimental"})
            for suffix in CONTAINERS
        ):
            yield written("video codec", f"{name} in {how.suffix}", how)
    for name in encoders("audio"):
        for suffix in CONTAINERS:
            how = replace(PLAIN, audio=name, suffix=suffix)
            yield written("audio codec", f"{name} in {suffix}", how)


def container_cases() -> Iterator[Case]:
    """Each container with the codecs that it takes by default, and with either of them alone."""
    for name in sorted(formats_available - NO_FILES):
        try:
            container = ContainerFormat(name, "w")
        except ValueError:
            continue
        suffix = "." + next(iter(sorted(container.extensions)), name.partition(",")[0]).strip()
        video, audio = defaults(name)
        for tracks in ((video, audio), (video, None), (None, audio)):
            if any(tracks) and not (tracks != (video, audio) and None in (video, audio)):
                how = replace(
                    PLAIN, suffix=suffix, container=name, video=tracks[0], audio=tracks[1],
                    encoding={"strict": "experimental"},
                )  # fmt: skip
                yield written("container", f"{name}: {tracks[0]}, {tracks[1]}", how)


def defaults(container: str) -> tuple[str | None, str | None]:
    """Codecs that a container takes by default."""
    import io

    import av

    with av.open(io.BytesIO(), "w", format=container) as opened:
        names = opened.default_video_codec, opened.default_audio_codec
        opened.close()
    video, audio = (None if name in ("none", "") else name for name in names)
    return video, audio


def picture_cases() -> Iterator[Case]:
    """Rates, sizes, formats of pixels, fields."""
    for fps in ("1", "2", "5", "12.5", "24000/1001", "25", "30000/1001", "50", "60", "120", "240"):
        yield written("frame rate", fps, replace(PLAIN, fps=Fraction(fps)))
    steps = (0.0, 0.01, 0.05, 0.25, 0.26, 0.5, 0.51, 0.55, 0.9, 1.0, 1.3, 1.34, 1.5)
    for suffix in (".mkv", ".mp4", ".mov"):
        yield written(
            "frame rate", f"variable, {suffix}", replace(PLAIN, suffix=suffix, times_s=steps)
        )
    sizes = (
        *((1, 1), (2, 2), (1, 99), (3, 7), (17, 9), (127, 255), (319, 181), (641, 361)),
        *((1920, 1080), (1080, 1920), (3840, 2160)),
    )
    for size in sizes:
        odd = min(size) < 16 or size[0] % 2 or size[1] % 2
        how = replace(PLAIN, size=size, video="png" if odd else "libx264", suffix=".mov")
        yield written("size", f"{size[0]} x {size[1]}", how)
    for size in ((7680, 4320), (8192, 8192)):
        how = replace(PLAIN, size=size, video="mjpeg", fps=Fraction(5), seconds=0.8)
        how = replace(how, encoding={"strict": "unofficial"}, suffix=".mov")
        yield written("size", f"{size[0]} x {size[1]}", how)
    huge = replace(PLAIN, size=(9000, 8000), video="mjpeg", fps=Fraction(5), seconds=0.2)
    huge = replace(huge, encoding={"strict": "unofficial"}, suffix=".mov")
    yield replace(written("size", "9000 x 8000, over the limit", huge), twin=None)
    for encoder, pixels in (
        ("libx264", "yuv420p10le"), ("libx264", "yuv444p"), ("libx264", "yuv422p10le"),
        ("libx264", "gray"), ("libx265", "yuv420p12le"), ("libx265", "gbrp"),
        ("ffv1", "yuva420p"), ("ffv1", "yuva444p16le"), ("ffv1", "gray16le"), ("ffv1", "rgb48le"),
        ("png", "rgba"), ("png", "rgb48be"), ("png", "ya8"), ("png", "monob"), ("png", "pal8"),
        ("qtrle", "argb"), ("libvpx-vp9", "yuva420p"), ("libvpx-vp9", "yuv444p12le"),
        ("prores_ks", "yuva444p10le"), ("rawvideo", "yuyv422"), ("rawvideo", "rgb555le"),
        ("rawvideo", "nv12"), ("rawvideo", "bgra"), ("mjpeg", "yuvj444p"),
    ):  # fmt: skip
        how = replace(PLAIN, video=encoder, pixels=pixels, suffix=".mov")
        for suffix in (".mov", ".mkv", ".nut"):
            yield written("pixels", f"{encoder} {pixels} in {suffix}", replace(how, suffix=suffix))
    for encoder in ("mpeg2video", "libx264", "mpeg4", "dnxhd", "prores_ks"):
        how = replace(PLAIN, video=encoder, encoding={"flags": "+ildct+ilme"}, suffix=".mov")
        yield written("interlaced", encoder, how)


def sound_cases() -> Iterator[Case]:
    """Rates and layouts."""
    for rate in (
        8000,
        11025,
        12000,
        16000,
        22050,
        24000,
        32000,
        44100,
        48000,
        88200,
        96000,
        192000,
    ):
        for encoder, suffix in (("pcm_s16le", ".mkv"), ("aac", ".mp4"), ("flac", ".mkv")):
            how = replace(PLAIN, rate=rate, audio=encoder, suffix=suffix)
            yield written("sound rate", f"{rate} Hz {encoder}", how)
    for layout in (*LAYOUTS, *UNNAMED):
        for encoder, suffix in (
            ("pcm_s16le", ".mkv"), ("pcm_f32le", ".mov"), ("aac", ".mp4"), ("libopus", ".mkv"),
        ):  # fmt: skip
            how = replace(PLAIN, layout=layout, audio=encoder, suffix=suffix)
            yield written("layout", f"{layout} {encoder}", how)


def stamp_cases() -> Iterator[Case]:
    """Time stamps that start late, below zero, jump, or are not there; edit lists."""
    moves: dict[str, Callable[[float], float | None]] = {
        "all 1 h late": lambda s: s + 3600,
        "all 1 s below zero": lambda s: s - 1,
        "jump of 100 s at 0.8 s": lambda s: s + 100 * (s >= 0.8),
        "back to zero at 0.8 s": lambda s: s - 0.8 * (s >= 0.8),
    }
    for suffix, audio in ((".mkv", "aac"), (".mp4", "aac"), (".ts", "aac"), (".nut", "pcm_s16le")):
        base = replace(PLAIN, suffix=suffix, audio=audio)
        for name, move in moves.items():
            how = replace(base, video_s=move, audio_s=move)
            if suffix in (".mkv", ".nut"):
                how = replace(how, muxing={"avoid_negative_ts": "disabled"})
            # An edit list says what to show of an mp4.
            yield written("stamps", f"{name} in {suffix}", how, None if suffix == ".mp4" else base)
        for name, later in (("late", 0.4), ("early", -0.2)):
            for track in ("video", "audio"):

                def move(s: float, later: float = later) -> float:
                    return s + later

                how = (
                    replace(base, video_s=move) if track == "video" else replace(base, audio_s=move)
                )
                yield written("tracks", f"{track} {later:+} s, {name}, in {suffix}", how)
    b_frames = {"bf": "3", "g": "12"}
    muxings: tuple[dict[str, str], ...] = (
        {},
        {"use_editlist": "0"},
        {"movflags": "negative_cts_offsets"},
        {"movflags": "frag_keyframe+empty_moov"},
        {"movflags": "faststart"},
    )
    for muxing in muxings:
        how = replace(PLAIN, suffix=".mp4", audio="aac", encoding=b_frames, muxing=muxing)
        yield written("edit lists", f"{muxing}", how)
    for suffix, video in ((".h264", "libx264"), (".m4v", "mpeg4"), (".m2v", "mpeg2video")):
        yield written(
            "stamps", f"none: {suffix}", replace(PLAIN, suffix=suffix, video=video, audio=None)
        )


def all_cases() -> Iterator[Case]:
    """Everything that is written whole."""
    for cases in (container_cases, codec_cases, picture_cases, sound_cases, stamp_cases):
        yield from cases()
