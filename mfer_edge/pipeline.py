"""The whole chain for a clip: a bundle's networks, and a session fed from a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from mfer_edge.arms import FACES_AT_ONCE, AudioArm, Fusion, VisualArm
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count, decoding_threads
from mfer_edge.engines.base import Engine
from mfer_edge.engines.onnx import PROVIDER_OF_DEVICE, providers_for
from mfer_edge.errors import EngineError
from mfer_edge.faces.mtcnn import FaceDetector
from mfer_edge.model import Model, load_engines
from mfer_edge.options import SessionOptions, check_options
from mfer_edge.results import Analysis, BundleInfo, Reading, Timing, overall
from mfer_edge.session import MAX_FILE_LAG_S, Session
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.prefetch import prefetch
from mfer_edge.speech.vad import SAMPLE_RATE

AHEAD = 32  # pictures and pieces of sound that are decoded ahead: about 0.5 s, three pictures
MAX_MISSING_S = 0.5  # of a clip, by its header: containers round, and codecs pad, by less


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
        networks: Mapping[str, Engine],
        providers: Sequence[str] = (PROVIDER_OF_DEVICE["cpu"],),
        threads: int = 1,
        load_s: float = 0.0,
        notes: Sequence[str] = (),
    ) -> None:
        self.bundle = bundle
        self.providers = tuple(providers)
        self.threads = threads
        self.load_s = load_s
        self.notes = tuple(notes)  # why better devices were not taken; shown with every result
        self._chain = Model(
            manifest=bundle.manifest,
            vad=networks["vad"],
            detector=FaceDetector(networks["pnet"], networks["rnet"], networks["onet"]),
            visual=VisualArm(
                networks["face"],
                networks["visual"],
                at_once=FACES_AT_ONCE if self.device == "cpu" else None,
            ),
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
            device: where the large networks run: `cpu`, `cuda`, `tensorrt` (the bundle's own
                engines), or `auto`, the best of them that works.
            threads: CPU threads; 0 takes all cores that this process may use.

        Raises:
            BundleError: the bundle is not whole.
            EngineError: the device is not to be had, or a network does not load.
        """
        start = time.perf_counter()
        threads = threads or core_count()
        opened = Bundle.open(bundle)
        notes: list[str] = []
        *better, last = _choices(opened, device)
        for choice in better:
            try:
                networks = load_engines(opened, choice, threads)
                break
            except EngineError as error:
                notes.append(f"--device auto could not take {choice}: {error}")
        else:
            choice, networks = last, load_engines(opened, last, threads)
        load_s = time.perf_counter() - start
        return cls(opened, networks, providers_for(choice), threads, load_s, notes)

    @property
    def device(self) -> str:
        """Where the large networks run."""
        return self.providers[0].split()[0].removesuffix("ExecutionProvider").lower()

    def windows(
        self,
        window_s: float | None = None,
        hop_s: float | None = None,
        faces: str = "main",
        skip_still: float = 0.0,
    ) -> SessionOptions:
        """Cut time as asked, or as the bundle was trained.

        Args:
            skip_still: a face whose crop changed by at most so many grey levels, on average over
                its pixels, is not embedded again: an approximation, off with 0.

        Raises:
            ValueError: the networks can't take such windows.
        """
        manifest = self.bundle.manifest
        window_s = manifest.window_s if window_s is None else window_s
        hop_s = min(manifest.hop_s, window_s) if hop_s is None else hop_s
        windows = SessionOptions(window_s, hop_s, faces, skip_still)
        check_options(windows, manifest)
        return windows

    def session(
        self,
        windows: SessionOptions | None = None,
        has_video: bool = True,
        has_audio: bool = True,
    ) -> Session:
        """Start a session for a live source."""
        return Session(self._chain, windows or self.windows(), has_video, has_audio)

    def analyze(
        self,
        path: Path | str,
        windows: SessionOptions | None = None,
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
        windows = windows or self.windows()
        frame_rate = self.bundle.manifest.frame_rate
        with Clip(path, frame_rate, decoding_threads(self.threads)) as clip:
            session = Session(
                self._chain,
                windows,
                clip.has_video,
                clip.has_audio,
                keep_sightings,
                max_lag_s=MAX_FILE_LAG_S,
            )
            stopwatch = session.stopwatch
            heard = 0  # samples
            with closing(prefetch(stopwatch.timed("decode", clip), AHEAD)) as items:
                for item in items:
                    if isinstance(item, Frame):
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
            warnings = _warnings(clip, session, windows, self.bundle)
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
            warnings=self.notes + warnings,
            sightings=tuple(session.sightings),
        )


def _warnings(
    clip: Clip, session: Session, windows: SessionOptions, bundle: Bundle
) -> tuple[str, ...]:
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
    if session.forgotten:
        warnings.append(f"the {session.forgotten} faces that were lost first are not listed")
    if windows.skip_still:
        warnings.append(
            f"faces that changed by at most {windows.skip_still:g} grey levels were not looked at "
            "again: the scores are approximate"
        )
    warnings += bundle.manifest.warnings
    return tuple(warnings)


def _choices(bundle: Bundle, device: str) -> list[str]:
    """Name the devices to try, the best first."""
    if device != "auto":
        return [device]
    cuda = providers_for("auto")[0] == PROVIDER_OF_DEVICE["cuda"]
    return ["tensorrt"] * bool(bundle.manifest.plans) + ["cuda"] * cuda + ["cpu"]
