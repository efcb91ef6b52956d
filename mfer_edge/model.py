"""A bundle loaded and ready: its engines, and the parts built on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mfer_edge.arms import FACES_AT_ONCE, AudioArm, Fusion, Place, VisualArm
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.interface import ARMS
from mfer_edge.engines.load import LoadedEngines, load
from mfer_edge.engines.onnx import PROVIDER_OF_DEVICE, providers_for
from mfer_edge.errors import AdaptationError
from mfer_edge.faces.finder import FIND_WITHIN_S
from mfer_edge.faces.mtcnn import FaceDetector
from mfer_edge.manifest import Arm, Manifest
from mfer_edge.results import AdaptationInfo

if TYPE_CHECKING:
    from mfer_edge.adapt import Adaptation


@dataclass(frozen=True)
class Model:
    """An emotion recognition model, ready to run.

    Example:
        >>> model = Model.load(device="cpu")
        >>> model.device, model.manifest.labels[0]
        ('cpu', 'neutral')
    """

    bundle: Bundle
    vad: Engine
    detector: FaceDetector
    visual: VisualArm
    audio: AudioArm
    fusion: Fusion
    providers: tuple[str, ...] = (PROVIDER_OF_DEVICE["cpu"],)  # of the accelerated engines
    threads: int = 1  # CPU threads of each accelerated engine
    load_s: float = 0.0  # seconds that opening and loading took
    notes: tuple[str, ...] = ()  # what could not be had as asked; shown with every result
    find_within_s: float = field(default=FIND_WITHIN_S, kw_only=True)  # longest to find a new face
    adaptation: Adaptation | None = field(default=None, kw_only=True)  # that the arms use

    @classmethod
    def load(
        cls, bundle: Bundle | Path | str | None = None, device: str = "auto", threads: int = 0
    ) -> Model:
        """Open a bundle and load its engines; arguments and errors are those of `load`."""
        return cls.on(load(bundle, device, threads))

    @classmethod
    def on(cls, loaded: LoadedEngines) -> Model:
        """Build a model on what `load` gave."""
        model = cls.of(loaded.bundle, loaded.engines, device=loaded.device, threads=loaded.threads)
        return replace(model, load_s=loaded.load_s, notes=loaded.notes)

    @classmethod
    def of(
        cls, bundle: Bundle, engines: Mapping[str, Engine], *, device: str = "cpu", threads: int = 1
    ) -> Model:
        """Build a model on engines that are loaded.

        Args:
            engines: one for each of `ENGINES`, as `load_engines` gives them.
            device: where the accelerated ones run.
            threads: CPU threads of each accelerated one.
        """
        seen, heard = (_training_set(bundle.manifest, arm) for arm in ARMS)
        return cls(
            bundle=bundle,
            vad=engines["vad"],
            detector=FaceDetector.of(engines),
            visual=VisualArm(
                engines["face"],
                engines["visual"],
                FACES_AT_ONCE.get(device),
                seen,
                padded=device == "cuda",
            ),
            audio=AudioArm(engines["audio"], heard),
            fusion=Fusion(engines["fusion"]),
            providers=tuple(providers_for(device)),
            threads=threads,
        )

    def adapted(self, adaptation: Adaptation | None) -> Model:
        """The same engines, adapted to a place or a person; None: to none.

        Raises:
            AdaptationError: the model can't be adapted, or the adaptation is another model's.
        """
        seen, heard = (_training_set(self.manifest, arm) for arm in ARMS)
        if adaptation is not None:
            check_adaptation(self.bundle, adaptation)
            if heard is not None and adaptation.voice is not None:
                heard = adaptation.voice.place
            if seen is not None and adaptation.face is not None:
                seen = adaptation.face.place
        return replace(
            self,
            visual=replace(self.visual, place=seen),
            audio=replace(self.audio, place=heard),
            adaptation=adaptation,
        )

    def check_adaptable(self) -> None:
        """Refuse a model that can't be adapted.

        Raises:
            AdaptationError: its bundle was exported by a version that did not know adaptation.
        """
        check_adaptable(self.bundle)

    @property
    def adaptation_warnings(self) -> tuple[str, ...]:
        """What of the adaptation is not used, as the bundle is too old for it."""
        if self.adaptation is None:
            return ()
        name = self.adaptation.name or "the adaptation"
        return tuple(
            f"{name}: not applied to the {part}, which this bundle can't adapt: export it again "
            "with `mfer-edge export`"
            for part, learned, arm in (
                ("face", self.adaptation.face, self.visual),
                ("voice", self.adaptation.voice, self.audio),
            )
            if learned is not None and arm.place is None
        )

    @property
    def adaptation_info(self) -> AdaptationInfo | None:
        """The adaptation in use, as results name it."""
        if (adaptation := self.adaptation) is None:
            return None
        voice = adaptation.voice if self.audio.place else None
        face = adaptation.face if self.visual.place else None
        return AdaptationInfo(
            adaptation.name,
            voice.windows if voice else 0,
            voice.weight if voice else 0.0,
            face.windows if face else 0,
            face.weight if face else 0.0,
        )

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def device(self) -> str:
        """Where the accelerated engines run: `cpu`, `cuda` or `tensorrt`."""
        return self.providers[0].split()[0].removesuffix("ExecutionProvider").lower()


def check_adaptable(bundle: Bundle) -> None:
    """Refuse a bundle whose model can't be adapted.

    Raises:
        AdaptationError: it was exported by a version that did not know adaptation.
    """
    manifest = bundle.manifest
    if not any(manifest.observed(arm) for arm in ARMS) or not manifest.model:
        raise AdaptationError(
            f"{bundle.folder}: this model can't be adapted: export it again with `mfer-edge export`"
        )


def check_adaptation(bundle: Bundle, adaptation: Adaptation) -> None:
    """Refuse an adaptation that is not for a bundle.

    Raises:
        AdaptationError: the model can't be adapted, or the adaptation is another model's.
    """
    check_adaptable(bundle)
    name = adaptation.name or "the adaptation"
    if adaptation.model != bundle.manifest.model:
        raise AdaptationError(
            f"{name}: made with another model than that of {bundle.folder}: run `mfer-edge adapt` "
            "with this one"
        )
    usable = False
    for arm, learned in zip(ARMS, (adaptation.face, adaptation.voice), strict=True):
        width = bundle.manifest.observed(arm)
        if learned is None or not width:
            continue
        usable = True
        if learned.mean.shape != (width,):
            raise AdaptationError(
                f"{name}: damaged: it has {len(learned.mean)} numbers, the model {width}"
            )
    if not usable:
        part = "face" if adaptation.voice is None else "voice"
        raise AdaptationError(
            f"{name}: holds a {part} alone, and {bundle.folder} can't adapt its {part}: export it "
            "again with `mfer-edge export`"
        )


def _training_set(manifest: Manifest, arm: Arm) -> Place | None:
    """The place that changes nothing; None if the arm's engine has no input for one."""
    width = manifest.observed(arm)
    return Place.training_set(width) if width else None
