"""The whole chain for a clip: a bundle's networks, and a session fed from a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mfer_edge.audio import AudioArm
from mfer_edge.bundle import ENGINES, Bundle
from mfer_edge.engine import PROVIDER_OF_DEVICE, Engine, Network, providers_for
from mfer_edge.fusion import Fusion
from mfer_edge.media import Clip, Picture
from mfer_edge.mtcnn import FaceDetector
from mfer_edge.results import Analysis, BundleInfo, Reading, Timing, overall
from mfer_edge.session import MAX_FILE_LAG_S, Chain, Session, Windows, check_windows
from mfer_edge.vad import SAMPLE_RATE
from mfer_edge.visual import VisualArm

MAX_MISSING_S = 0.5  # of a clip, by its header: containers round, and codecs pad, by less

SMALL = ("vad", "pnet", "rnet", "onet", "visual", "fusion")
"""Networks too small to gain from a second CPU thread, or from leaving the CPU."""


class Pipeline:
    """An opened bundle, ready for clips and live sessions.

    Example:
        >>> pipeline = Pipeline.open()
        >>> analysis = pipeline.analyze("clip.mp4")
        >>> analysis.overall.label
        'angry'
    """

    def __init__(
        self,
        bundle: Bundle,
        networks: Mapping[str, Network],
        providers: Sequence[str] = (PROVIDER_OF_DEVICE["cpu"],),
        threads: int = 1,
        load_s: float = 0.0,
    ) -> None:
        self.bundle = bundle
        self.providers = tuple(providers)
        self.threads = threads
        self.load_s = load_s
        self._chain = Chain(
            manifest=bundle.manifest,
            vad=networks["vad"],
            detector=FaceDetector(networks["pnet"], networks["rnet"], networks["onet"]),
            visual=VisualArm(networks["face"], networks["visual"]),
            audio=AudioArm(networks["audio"]),
            fusion=Fusion(networks["fusion"]),
        )

    @classmethod
    def open(
        cls, bundle: Path | str | None = None, device: str = "auto", threads: int = 0
    ) -> Pipeline:
        """Open a bundle and load its networks.

        Args:
            bundle: its folder; by default the compact bundle in the package.
            device: where the large networks run: `auto`, `cpu`, `cuda` or `tensorrt`.
            threads: CPU threads; 0 takes all cores that this process may use.

        Raises:
            BundleError: the bundle is not whole.
            EngineError: the device is not to be had, or a network does not load.
        """
        start = time.perf_counter()
        providers = providers_for(device)
        threads = threads or cores()
        opened = Bundle.open(bundle)
        networks = bundle_networks(opened, providers, threads)
        return cls(opened, networks, providers, threads, time.perf_counter() - start)

    @property
    def device(self) -> str:
        """Where the large networks run."""
        return self.providers[0].removesuffix("ExecutionProvider").lower()

    def windows(
        self, window_s: float | None = None, hop_s: float | None = None, faces: str = "main"
    ) -> Windows:
        """Cut time as asked, or as the bundle was trained.

        Raises:
            ValueError: the networks can't take such windows.
        """
        manifest = self.bundle.manifest
        window_s = manifest.window_s if window_s is None else window_s
        hop_s = min(manifest.hop_s, window_s) if hop_s is None else hop_s
        windows = Windows(window_s, hop_s, faces)
        check_windows(windows, manifest)
        return windows

    def session(
        self,
        windows: Windows | None = None,
        has_video: bool = True,
        has_audio: bool = True,
    ) -> Session:
        """Start a session for a live source."""
        return Session(self._chain, windows or self.windows(), has_video, has_audio)

    def analyze(
        self,
        path: Path | str,
        windows: Windows | None = None,
        keep_sightings: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Analysis:
        """Read a clip's emotion: one decoding pass, a window of it in memory.

        Args:
            windows: how to cut time; by default as the bundle was trained.
            keep_sightings: remember where every face was, to draw it.
            progress: called with the share of the clip that is done, 0 to 1.

        Raises:
            MediaError: the clip can't be read.
        """
        start = time.perf_counter()
        readings: list[Reading] = []
        with Clip(path, self.bundle.manifest.frame_rate) as clip:
            session = Session(
                self._chain,
                windows or self.windows(),
                clip.has_video,
                clip.has_audio,
                keep_sightings,
                max_lag_s=MAX_FILE_LAG_S,
            )
            stopwatch = session.stopwatch
            items = iter(clip)
            heard = 0  # samples
            while True:
                with stopwatch("decode"):
                    item = next(items, None)
                if item is None:
                    break
                if isinstance(item, Picture):
                    session.push_frame(item.image, item.time_s)
                    done_s = item.time_s
                else:
                    session.push_audio(item.samples)
                    heard += len(item.samples)
                    done_s = heard / SAMPLE_RATE
                if progress and clip.duration_s:
                    progress(min(1.0, done_s / clip.duration_s))
                readings += session.readings()
            session.close(clip.duration_s)
            readings += session.readings()
            warnings = _warnings(clip, session, self.bundle)
        manifest = self.bundle.manifest
        return Analysis(
            # A file's name may hold bytes that are no text, which JSON and terminals don't take.
            source=os.fsencode(path).decode(errors="replace"),
            duration_s=clip.duration_s,
            bundle=BundleInfo(
                manifest.name,
                manifest.precision,
                manifest.trained,
                self.bundle.sha256,
                manifest.labels,
            ),
            device=self.device,
            providers=self.providers,
            overall=overall(readings),
            windows=tuple(readings),
            tracks=session.tracks(),
            timing=Timing(
                time.perf_counter() - start, self.load_s, self.threads, stopwatch.stages_s
            ),
            warnings=warnings,
            sightings=tuple(session.sightings),
        )


def _warnings(clip: Clip, session: Session, bundle: Bundle) -> tuple[str, ...]:
    warnings = []
    if not clip.has_video:
        warnings.append("no video track: the voice alone was read")
    if not clip.has_audio:
        warnings.append("no sound track: the face alone was read")
    if clip.damaged:
        packets = "1 damaged packet" if clip.damaged == 1 else f"{clip.damaged} damaged packets"
        warnings.append(f"{packets} could not be decoded")
    if clip.missing_s > MAX_MISSING_S:
        told_s = clip.duration_s + clip.missing_s
        warnings.append(
            f"the file ends after {clip.duration_s:.1f} s of the {told_s:.1f} s that its header "
            "tells of: it may have been cut off"
        )
    for kind, late_s in session.late_s.items():
        if late_s:
            warnings.append(
                f"{late_s:.1f} s of the {kind} stand too far back in the file and were left out"
            )
    if not bundle.manifest.trained:
        warnings.append("the bundle's weights are random: its scores mean nothing")
    return tuple(warnings)


def bundle_networks(
    bundle: Bundle, providers: Sequence[str] = (PROVIDER_OF_DEVICE["cpu"],), threads: int = 1
) -> dict[str, Network]:
    """Load every network of a bundle, by name.

    Raises:
        EngineError: a network does not load.
    """
    cpu = [PROVIDER_OF_DEVICE["cpu"]]
    return {
        name: Engine(bundle.engine_path(name), cpu, threads=1)
        if name in SMALL
        else Engine(bundle.engine_path(name), providers, threads)
        for name in ENGINES
    }


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
