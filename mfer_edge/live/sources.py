"""What a live run reads, as it is chosen on the command line: devices, a stream, or a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mfer_edge.cpu import decoding_threads
from mfer_edge.errors import MediaError
from mfer_edge.live.devices import camera, microphone, open_device
from mfer_edge.live.streams import LiveClip, open_stream
from mfer_edge.live.together import Together
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import Source
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.url import check_url, is_url, shown_url

OFF = "off"
FIRST_CAMERA = "0"
DEFAULT_MICROPHONE = "default"


@dataclass
class LiveChoice:
    """A choice of source, and how it is opened.

    Attributes:
        notices: what was left out when it was opened last, a line each.
    """

    camera: str | None = None  # number or name, or `off`; None: the first, if it is not `off`
    microphone: str | None = None  # name, or `off`; None: the system's, if there is one
    url: str | None = None
    replay: Path | None = None
    notices: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Refuse what can never be opened, before any work is done.

        Raises:
            MediaError: the URL is none, or its protocol is not allowed.
        """
        if self.url is not None:
            if not is_url(self.url):
                raise MediaError(f"{self.url}: not a URL; a clip is given with --replay")
            check_url(self.url)

    @property
    def name(self) -> str:
        """Name for results."""
        if self.url is not None:
            return shown_url(self.url)
        if self.replay is not None:
            return str(self.replay)
        names = {"camera": self.camera or FIRST_CAMERA}
        names["microphone"] = self.microphone or DEFAULT_MICROPHONE
        return ", ".join(f"{kind} {name}" for kind, name in names.items() if name != OFF)

    def open(self, pipeline: Pipeline) -> Source:
        """Open the source.

        Raises:
            MediaError: it can't be opened.
        """
        rate = pipeline.bundle.manifest.frame_rate
        if self.replay is not None:
            return Clip(self.replay, rate, decoding_threads(pipeline.threads))
        if self.url is not None:
            return open_stream(self.url, rate, pipeline.threads)
        return self._open_devices(rate)

    def _open_devices(self, rate: float) -> Source:
        """Open a camera and a microphone; what was not asked for by name may be missing."""
        self.notices.clear()
        eye = self._open_device(camera, self.camera, FIRST_CAMERA, rate)
        try:
            ear = self._open_device(microphone, self.microphone, DEFAULT_MICROPHONE, None)
        except MediaError:
            if eye is not None:
                eye.__exit__()
            raise
        if eye is not None and ear is not None:
            return Together(eye, ear)
        if eye is None and ear is None:
            raise MediaError("; ".join(self.notices))
        only = eye or ear
        assert only is not None
        return only

    def _open_device(
        self, kind: object, asked: str | None, default: str, rate: float | None
    ) -> LiveClip | None:
        if asked == OFF:
            return None
        try:
            device = kind(asked or default)  # type: ignore[operator]
            return LiveClip(device.name, open_device(device), rate)
        except MediaError as error:
            if asked is not None:
                raise
            self.notices.append(str(error))
            return None
