"""Pipelines: a bundle's model, run on clips and other sources."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mfer_edge.bundle import Bundle
from mfer_edge.cpu import decoding_threads
from mfer_edge.engines.load import Loading, loading
from mfer_edge.errors import MediaError
from mfer_edge.options import MAX_LAG_S, SessionOptions, approximations, make_options
from mfer_edge.results import (
    Analysis,
    BundleInfo,
    Reading,
    Timing,
    Track,
    overall,
)
from mfer_edge.segments import thin_basis
from mfer_edge.sources.base import AudioOnly, Source
from mfer_edge.sources.limits import USUAL_LIMITS, ClipLimits

if TYPE_CHECKING:
    from mfer_edge.adapt import Adaptation, AdaptationStatistics
    from mfer_edge.model import Model
    from mfer_edge.session import Session
    from mfer_edge.sources.base import TrackChoice
    from mfer_edge.sources.clip import Clip
    from mfer_edge.sources.prefetch import StartedSource


class Pipeline:
    """A loaded model, ready for clips, streams and live sessions.

    Example:
        >>> pipeline = Pipeline.open()
        >>> for reading in pipeline.stream("clip.mp4"):
        ...     print(reading.start_s, reading.label)
        0.0 angry
        >>> pipeline.analyze("clip.mp4").overall.label
        'angry'
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    def open(
        cls,
        bundle: Path | str | None = None,
        device: str = "auto",
        threads: int = 0,
        *,
        adaptation: Adaptation | Path | str | None = None,
    ) -> Pipeline:
        """Open a bundle and load its engines.

        Args:
            bundle: its folder; by default the compact bundle in the package.
            device: where the large engines run: `cpu`, `cuda`, `tensorrt` (the bundle's plans), or
                `auto`, the best of them that works.
            threads: CPU threads; 0 takes all cores that this process may use.
            adaptation: to a place or a person, or its file.

        Raises:
            BundleError: the bundle is not whole.
            EngineError: the device can't be used, or an engine does not load.
            AdaptationError: the adaptation can't be read, or is another model's.
        """
        with cls.opening(bundle, device, threads, adaptation=adaptation) as opening:
            return opening.pipeline()

    @classmethod
    @contextmanager
    def opening(
        cls,
        bundle: Path | str | None = None,
        device: str = "auto",
        threads: int = 0,
        *,
        adaptation: Adaptation | Path | str | None = None,
    ) -> Iterator[Opening]:
        """Context manager: as `open`, with time for other things while the engines load."""
        if isinstance(adaptation, (str, Path)):
            from mfer_edge.adapt import Adaptation

            adaptation = Adaptation.load(adaptation)
        import cv2  # noqa: F401  # its library loads more slowly beside engines that load

        with loading(bundle, device, threads) as engines:
            yield Opening(engines, adaptation)

    @property
    def bundle(self) -> Bundle:
        """The bundle that was opened."""
        return self.model.bundle

    @property
    def device(self) -> str:
        """Where the large engines run: `cpu`, `cuda` or `tensorrt`."""
        return self.model.device

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs the large engines, the preferred one first."""
        return self.model.providers

    @property
    def threads(self) -> int:
        """CPU threads of each large engine."""
        return self.model.threads

    @property
    def notes(self) -> tuple[str, ...]:
        """Why a better device, or all of an adaptation, is not used; shown with every result."""
        return (*self.model.notes, *self.model.adaptation_warnings)

    def adapted(self, adaptation: Adaptation | None) -> Pipeline:
        """A pipeline on the same engines, adapted to a place or a person; None: to none.

        Raises:
            AdaptationError: the model can't be adapted, or the adaptation is another model's.
        """
        return Pipeline(self.model.adapted(adaptation))

    def options(
        self,
        window_s: float | None = None,
        hop_s: float | None = None,
        faces: str = "main",
        skip_still: float = 0.0,
    ) -> SessionOptions:
        """Make options for `session`, `stream` and `analyze`, by default as the bundle was trained.

        Args:
            window_s, hop_s: length of a window, and from the start of one to the next.
            faces: which faces have readings, `main` or `all`.
            skip_still: a face whose crop changed by at most so many grey levels, on average over
                its pixels, is not embedded again: an approximation, off with 0.

        Raises:
            ValueError: the engines can't take such windows.
        """
        manifest = self.bundle.manifest
        return make_options(manifest, window_s, hop_s, faces=faces, skip_still=skip_still)

    def session(
        self,
        options: SessionOptions | None = None,
        *,
        has_video: bool = True,
        has_audio: bool = True,
        keep_detections: bool = False,
        max_lag_s: float = MAX_LAG_S,
    ) -> Session:
        """Start a session, to push frames and audio into: see `Session`."""
        from mfer_edge.session import Session

        return Session(
            self.model,
            options or self.options(),
            has_video=has_video,
            has_audio=has_audio,
            keep_detections=keep_detections,
            max_lag_s=max_lag_s,
        )

    def stream(
        self,
        source: Source | Path | str,
        options: SessionOptions | None = None,
        *,
        tracks: TrackChoice | None = None,
    ) -> Iterator[Reading]:
        """Yield the readings of a source while it runs, each as soon as its window ends.

        Nothing is read before the first reading is asked for. The source is closed with the
        iterator, at its end or by `close()`.

        Args:
            source: a clip's path, or a `Source` that gives frames at the bundle's frame rate.
            options: by default as the bundle was trained.
            tracks: of a clip's path, which to read; by default those that players play.

        Raises:
            MediaError: the source can't be read.
        """
        with self._open(source, tracks) as opened:
            yield from self._session_of(opened, options).run(opened)

    def analyze(
        self,
        source: Source | Path | str,
        options: SessionOptions | None = None,
        *,
        keep_detections: bool = False,
        progress: Callable[[float], None] | None = None,
        tracks: TrackChoice | None = None,
    ) -> Analysis:
        """Collect all readings of a clip, with what else there is to say of it.

        Args:
            source: a clip's path, or a `Source` that ends.
            options: by default as the bundle was trained.
            keep_detections: remember where every face was, to draw it.
            progress: called with the share of the clip that is done, 0 to 1.
            tracks: of a clip's path, which to read; by default those that players play.

        Raises:
            MediaError: the source can't be read.
        """
        start = time.perf_counter()
        options = options or self.options()
        with self._open(source, tracks) as opened:
            session = self._session_of(opened, options, keep_detections)
            readings = tuple(session.run(opened, progress))
        timing = Timing(
            wall_s=time.perf_counter() - start,
            load_s=self.model.load_s,
            threads=self.threads,
            stages_s=session.stopwatch.stages_s,
        )
        analysis = self.analysis_of(
            readings,
            options,
            source=opened.name,
            duration_s=opened.duration_s or 0.0,
            tracks=session.tracks(),
            timing=timing,
            warnings=(*opened.warnings(), *session.warnings()),
        )
        return replace(analysis, detections=tuple(session.detections))

    def analysis_of(
        self,
        readings: Sequence[Reading],
        options: SessionOptions,
        *,
        source: str,
        duration_s: float,
        tracks: tuple[Track, ...],
        timing: Timing,
        warnings: tuple[str, ...] = (),
    ) -> Analysis:
        """Readings of this pipeline's sessions as an analysis, as `analyze` gives it.

        Args:
            options: of the session.
            source: its name.
            duration_s: its length.
            warnings: about the source and the session.
        """
        manifest = self.bundle.manifest
        return Analysis(
            source=source,
            duration_s=duration_s,
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
            tracks=tracks,
            timing=timing,
            warnings=(
                *self.notes,
                *warnings,
                *thin_basis(readings, duration_s),
                *approximations(options, manifest, readings),
            ),
            adaptation=self.model.adaptation_info,
        )

    def collect(
        self, source: Source | Path | str, progress: Callable[[float], None] | None = None
    ) -> AdaptationStatistics:
        """Collect what adaptation needs of a source, without labels.

        These are statistics of its speech and of its main face. Windows do not overlap, so that
        each counts once. Video is not decoded if the model can't adapt to faces.

        Args:
            source: a clip's path, or a `Source` that ends.
            progress: called with the share of the source that is done, 0 to 1.

        Raises:
            MediaError: the source can't be read, or has nothing that the model can adapt to.
            AdaptationError: the model can't be adapted.
        """
        from mfer_edge.adapt import AdaptationStatistics, ArmTotal
        from mfer_edge.sources.clip import Clip

        self.model.check_adaptable()
        voice, face = ArmTotal(), ArmTotal()
        observing = replace(
            self.model,
            visual=replace(self.model.visual, observer=face.add),
            audio=replace(self.model.audio, observer=voice.add),
        )
        manifest = self.bundle.manifest
        sees, hears = bool(manifest.observed("visual")), bool(manifest.observed("audio"))
        longest_s = 2 * (manifest.max_window_s - manifest.window_s)  # hop, of all that is allowed
        options = self.options(hop_s=min(manifest.window_s, longest_s))
        if isinstance(source, (str, Path)):
            source = self.clip(source) if sees else Clip(source, frame_rate=None)
        with source if sees else AudioOnly(source) as opened:
            if not (opened.has_audio and hears) and not (opened.has_video and sees):
                missing = "sound track" if hears else "video track"
                raise MediaError(f"{opened.name}: no {missing}: nothing to adapt to")
            session = Pipeline(observing)._session_of(opened, options)
            readings = list(session.run(opened, progress))
        labels = Counter(r.label for r in readings if r.label is not None)
        return AdaptationStatistics(manifest.model, voice.statistics, face.statistics, labels)

    def _open(self, source: Source | Path | str, tracks: TrackChoice | None) -> Source:
        return self.clip(source, tracks) if isinstance(source, (str, Path)) else source

    def clip(
        self, path: Path | str, tracks: TrackChoice | None = None, limits: ClipLimits = USUAL_LIMITS
    ) -> Clip:
        """Open a clip as `stream` and `analyze` open one.

        Args:
            tracks: to read; by default those that players play.
            limits: of a clip that is not trusted.

        Raises:
            MediaError: as `Clip`.
        """
        return _open_clip(path, self.bundle, self.threads, tracks, limits)

    def _session_of(
        self, source: Source, options: SessionOptions | None, keep_detections: bool = False
    ) -> Session:
        return self.session(
            options,
            has_video=source.has_video,
            has_audio=source.has_audio,
            keep_detections=keep_detections,
            max_lag_s=source.max_lag_s,
        )


class Opening:
    """A pipeline whose engines are loading."""

    def __init__(self, engines: Loading, adaptation: Adaptation | None) -> None:
        self._engines, self._adaptation = engines, adaptation

    def begin(self, path: Path, tracks: TrackChoice | None = None) -> StartedSource:
        """Open a clip and begin to decode it: a source for the pipeline, or to be closed.

        Raises:
            BundleError: the bundle is not whole.
            MediaError: as `Clip`.
        """
        from mfer_edge.sources.prefetch import StartedSource

        bundle, threads = self._engines.bundle(), self._engines.threads
        return StartedSource(_open_clip(path, bundle, threads, tracks, USUAL_LIMITS))

    def pipeline(self) -> Pipeline:
        """Wait for the engines; PyAV and the session are imported meanwhile, which takes as long.

        Raises:
            MferError: as `Pipeline.open`.
        """
        import mfer_edge.session
        import mfer_edge.sources.clip  # noqa: F401
        from mfer_edge.model import Model

        return Pipeline(Model.on(self._engines.engines())).adapted(self._adaptation)


def _open_clip(
    path: Path | str, bundle: Bundle, threads: int, tracks: TrackChoice | None, limits: ClipLimits
) -> Clip:
    from mfer_edge.sources.clip import Clip

    rate = bundle.manifest.frame_rate
    return Clip(path, rate, decoding_threads(threads), tracks, limits=limits)
