"""Export of a model to a bundle: export the engines, convert, check parity, save."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from export.assets import SILERO_VAD
from export.card import read_card
from export.checkpoint import Source
from export.divergence import find_divergence
from export.graphs import model_graphs, to_onnx
from export.manifest import create_manifest, unverified_bundle
from export.measure import measure
from export.mtcnn import export_mtcnn
from export.options import ExportOptions
from export.parity import Parity, ParityError
from export.precision.convert import convert
from export.precision.fp16 import emulate_fp16
from export.targets.tensorrt import add_plans
from export.torch_reference import reference_engines
from mfer_edge.bundle import Bundle, check_destination, save_bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.errors import OutputError
from mfer_edge.manifest import MODEL_ENGINES
from mfer_edge.pipeline import Pipeline
from mfer_edge.samples import CLIPS
from mfer_edge.sources.clip import Clip
from train.data.preprocess import FRAME_RATE
from train.models.emotion_model import EmotionModel


def build_bundle(source: Source, options: ExportOptions) -> tuple[Bundle, Parity]:
    """Export a model to a bundle, and measure the bundle against PyTorch.

    Raises:
        ParityError: an engine or the whole pipeline is out of tolerance.
        PrecisionError: a weight or an activation does not fit the precision.
        MediaError: a clip can't be read.
        BundleError: the bundle can't be written, or its folder holds something else.
        OutputError: there is no space for temporary files.
        EngineError: TensorRT is missing, or rejects an engine.
    """
    check_destination(options.out)
    options = replace(options, clips=verification_clips(options.clips))
    with _work_folder() as folder:
        files = export_engines(source.model, folder)
        return build_from_engines(source, files, options)


def verification_clips(clips: Sequence[Path]) -> Sequence[Path]:
    """Clips to check parity on: these, or by default the samples in the package.

    Raises:
        ParityError: no window of those that were named has a face and speech.
        MediaError: one can't be read.
    """
    named = bool(clips)
    clips = clips or CLIPS
    for clip in clips:
        with Clip(clip, FRAME_RATE):
            pass  # opened only to fail before the export
    if named:
        _check_content(clips)
    return clips


def _check_content(clips: Sequence[Path]) -> None:
    """Refuse clips on which some engine would never run, before the export instead of after it.

    A bundle's face detector and its VAD are those of the bundle in the package.
    """
    pipeline, found = Pipeline.open(device="cpu"), set[str]()
    for clip in clips:
        for reading in pipeline.stream(clip):
            found.update(reading.modalities)
            if len(reading.modalities) == 2:
                return
    missing = [
        name for arm, name in {"visual": "face", "audio": "speech"}.items() if arm not in found
    ]
    what = f"no {' and no '.join(missing)}" if missing else "no window with both a face and speech"
    names = ", ".join(map(str, clips))
    raise ParityError(f"{names}: {what}; name a clip that has both with --verify")


def export_engines(model: EmotionModel, folder: Path) -> dict[str, Path]:
    """Export every engine of a bundle to a folder, in fp32; return the files by name."""
    files = export_mtcnn(folder) | {"vad": folder / "vad.onnx"}
    shutil.copyfile(SILERO_VAD, files["vad"])
    for name, graph in model_graphs(model).items():
        files[name] = folder / f"{name}.onnx"
        to_onnx(graph, files[name])
    return files


def build_from_engines(
    source: Source, fp32_files: Mapping[str, Path], options: ExportOptions
) -> tuple[Bundle, Parity]:
    """Convert exported engines, measure them against PyTorch and save them as a bundle.

    Args:
        fp32_files: engine files by name, as `export_engines` returns them; they are not changed.

    Raises:
        As `build_bundle`.
    """
    with _work_folder() as folder:
        files = {
            name: Path(shutil.copyfile(path, folder / path.name))
            for name, path in fp32_files.items()
        }
        convert(files, source, precision=options.precision, clips=options.clips)
        bundle = unverified_bundle(files, create_manifest(source, files))
        tested = _emulated(bundle) if options.precision == "fp16" else bundle
        reference = reference_engines(source.model)
        parity = measure(tested, reference, options.clips)
        gate = Gate(options.precision, source.trained)
        divergences = (
            _find_divergences(source, fp32_files, tested, parity, gate) if options.bisect else []
        )
        gate.check(parity, f"the {options.precision} export", divergences)
        if options.tensorrt:
            bundle = add_plans(bundle, folder / "with_plans")
            parity = _measure_plans(bundle, reference, options.clips, gate)
        return _save(bundle, parity.figures(), options.out, source.card), parity


def add_tensorrt_plans(bundle: Bundle, clips: Sequence[Path], out: Path) -> tuple[Bundle, Parity]:
    """Build TensorRT plans for a bundle, and measure them against its ONNX engines on the CPU.

    The manifest keeps its parity figures, which compare the ONNX engines with PyTorch.

    Args:
        clips: real clips for the parity check; empty: the project's samples.
        out: the new bundle's folder, which may be the old one's.

    Raises:
        ParityError: a plan is out of tolerance.
        EngineError: TensorRT is missing, or rejects an engine.
        BundleError: `out` can't be written, or holds something else.
        OutputError: there is no space for temporary files.
    """
    check_destination(out)
    clips = verification_clips(clips)
    with _work_folder() as folder:
        planned = add_plans(bundle, folder / "with_plans")
        gate = Gate(precision_of(bundle), bundle.manifest.trained)
        parity = _measure_plans(planned, load_engines(bundle), clips, gate)
        card = read_card(planned.folder)
        return _save(planned, bundle.manifest.parity, out, card), parity


def precision_of(bundle: Bundle) -> str:
    """The precision, one of `PRECISIONS`, that a bundle for GPUs was exported in."""
    kinds = bundle.manifest.precision.split("+")
    return {"int8": "int8-gpu"}.get(kinds[0], kinds[0])


@dataclass(frozen=True)
class Gate:
    """The parity check that a bundle must pass before it is saved."""

    precision: str
    trained: bool

    def check(self, parity: Parity, what: str, divergences: Sequence[str] = ()) -> None:
        """Raise if a figure is out of tolerance.

        Args:
            what: the thing that was measured, for the message.
            divergences: what `find_divergence` found, for the message.

        Raises:
            ParityError: something failed; the message names all of it.
        """
        if failures := parity.failures(self.precision, self.trained):
            table = parity.table(self.precision, self.trained)
            raise ParityError(f"{what} failed: {'; '.join([*failures, *divergences])}", table)


def _emulated(bundle: Bundle) -> Bundle:
    """An fp16 bundle's engines as graphs that round on a CPU as a GPU does.

    ONNX Runtime computes fp16 operators in fp32 on a CPU, which hides overflows.
    """
    engines = dict(bundle.manifest.engines)
    for name in MODEL_ENGINES:
        file = f"{name}-emulated.onnx"
        emulate_fp16(bundle.engine_path(name), bundle.folder / file)
        engines[name] = replace(engines[name], file=file)
    return replace(bundle, manifest=replace(bundle.manifest, engines=engines))


def _find_divergences(
    source: Source, fp32_files: Mapping[str, Path], tested: Bundle, parity: Parity, gate: Gate
) -> list[str]:
    """Describe the first diverging operator of each engine that failed."""
    found = (
        find_divergence(
            source.model,
            name,
            fp32_files[name],
            tested.engine_path(name),
            call,
            precision=gate.precision,
        )
        for name, call in parity.failed_calls(gate.precision).items()
    )
    return [str(divergence) for divergence in found if divergence is not None]


def _measure_plans(
    bundle: Bundle, reference: Mapping[str, Engine], clips: Sequence[Path], gate: Gate
) -> Parity:
    """Measure a bundle's TensorRT plans.

    Raises:
        ParityError: they are out of tolerance.
    """
    parity = measure(bundle, reference, clips, "tensorrt")
    gate.check(parity, "the TensorRT engines")
    return parity


def _save(bundle: Bundle, figures: Mapping[str, float], out: Path, card: str) -> Bundle:
    """Save a bundle that passed, with its parity figures."""
    files = {file.file: bundle.folder / file.file for file in bundle.manifest.files}
    return save_bundle(out, replace(bundle.manifest, parity=figures), files, card)


@contextmanager
def _work_folder() -> Iterator[Path]:
    """Temporary folder for exported engines; it grows to a few times the bundle's size.

    Raises:
        OutputError: it can't be created, or the disk is full.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(
            f"the temporary folder can't hold the exported engines ({error}); TMPDIR names another"
        ) from error
