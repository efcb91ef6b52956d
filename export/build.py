"""From a model to a bundle: export every network, set its precision, prove it, save it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from export.assets import SILERO_VAD
from export.bisect import bisect
from export.calibration import record_calls
from export.checkpoint import Source
from export.graphs import model_graphs, to_onnx
from export.half import imitate_half, store_half, to_half
from export.int8 import quantize, quantize_fixed
from export.mtcnn import export_mtcnn
from export.parity import Parity, ParityError, measure
from export.precision import parameters_of
from export.reference import reference_networks
from export.tensorrt import add_plans
from export.work import work_of
from mfer_edge.bundle import (
    CARD,
    OWN,
    Bundle,
    Crop,
    EngineFile,
    Manifest,
    check_place,
    file_sha256,
    save_bundle,
)
from mfer_edge.engine import Engine, Network, Tensor
from mfer_edge.errors import EngineError
from mfer_edge.media import Clip
from mfer_edge.pipeline import bundle_networks
from mfer_edge.vad import CHUNK, SAMPLE_RATE
from train.backbones import MAX_STEPS
from train.inputs import CROP_SCALE, FRAME_RATE, MIN_SPEECH_S
from train.labels import EMOTIONS
from train.model import EmotionModel

SAMPLES = Path(__file__).parent.parent / "samples"
PRECISIONS = ("fp32", "fp16", "int8", "int8-gpu")
WINDOW_S, HOP_S = 4.0, 1.0

QUANTIZED = ("face", "audio")  # networks in which int8 products pay; the others are too small

SPARED = {"whisper-tiny-en": 4}
"""Products of a backbone that int8 leaves out, from its first on. Of Whisper: the attention of the
first layer, whose few large activations would take the bits from all others. Over 160 RAVDESS
recordings all labels then agree with single precision; the scores change by 0.007 on average and
0.05 at most."""


def build_bundle(
    source: Source,
    precision: str,
    clips: Sequence[Path],
    out: Path,
    bisecting: bool = False,
    tensorrt: bool = False,
) -> tuple[Bundle, Parity]:
    """Export a model to a bundle and measure it against PyTorch.

    Args:
        precision: one of `PRECISIONS`. `int8` scales activations as they come, for CPUs, and keeps
            the other weights in half precision on disk; `int8-gpu` fixes the scales on `clips`.
            MTCNN and the VAD stay in single precision: a box more or less moves every crop.
        clips: real clips for the parity check; none takes the project's samples.
        out: the bundle's folder; it is replaced only if every check passes.
        bisecting: tell, where a network fails, at which operator it departs from PyTorch.
        tensorrt: build TensorRT engines for this machine too, and measure those.

    Raises:
        ParityError: the bundle is not what was trained.
        PrecisionError: a weight does not fit into the precision.
        MediaError: a clip can't be read.
        BundleError: `out` can't be written, or something else is there.
        EngineError: TensorRT is missing, or refuses a network.
    """
    check_place(out)
    clips = usable_clips(clips)
    with tempfile.TemporaryDirectory() as work:
        networks = export_networks(source.model, Path(work))
        return save_proven(source, networks, precision, clips, out, bisecting, tensorrt)


def usable_clips(clips: Sequence[Path]) -> Sequence[Path]:
    """Give the clips to verify an export on: these, or the project's samples.

    Raises:
        ParityError: there are none.
        MediaError: one can't be read.
    """
    clips = clips or sorted(SAMPLES.glob("*.mp4"))
    if not clips:
        raise ParityError("no clip to verify the export on: name a real one with --verify")
    for clip in clips:
        with Clip(clip, FRAME_RATE):
            pass  # it opens: so much is known before the work
    return clips


def export_networks(model: EmotionModel, folder: Path) -> dict[str, Path]:
    """Write every network of a bundle to a folder, in single precision; give the files by name."""
    files = export_mtcnn(folder) | {"vad": folder / "vad.onnx"}
    shutil.copyfile(SILERO_VAD, files["vad"])
    for name, graph in model_graphs(model).items():
        files[name] = folder / f"{name}.onnx"
        to_onnx(graph, files[name])
    return files


def save_proven(
    source: Source,
    networks: Mapping[str, Path],
    precision: str,
    clips: Sequence[Path],
    out: Path,
    bisecting: bool = False,
    tensorrt: bool = False,
) -> tuple[Bundle, Parity]:
    """Set the precision of exported networks, measure them against PyTorch, save them as a bundle.

    Arguments and errors are those of `build_bundle`; the networks' files are left alone.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        files = {name: folder / path.name for name, path in networks.items()}
        for name, path in networks.items():
            shutil.copyfile(path, files[name])
        set_precision(files, source, precision, clips)

        bundle = _draft(source, files, folder / "draft")
        if precision == "fp16":
            # As a GPU would run it: ONNX Runtime widens half precision on a CPU, and hides what
            # it can't hold.
            tested = {**files, **{name: folder / f"{name}-imitated.onnx" for name in OWN}}
            for name in OWN:
                imitate_half(files[name], tested[name])
            measured = _with_files(bundle, tested, folder / "imitated")
        else:
            tested, measured = files, bundle
        reference = reference_networks(source.model)
        parity = measure(measured, reference, clips)
        if failures := parity.failures(precision, source.trained):
            departures = [
                bisect(source.model, name, networks[name], tested[name], call, precision)
                for name, call in parity.witnesses(precision).items()
                if bisecting
            ]
            failures += [str(departure) for departure in departures if departure]
            table = parity.table(precision, source.trained)
            raise ParityError(f"the {precision} export failed: {'; '.join(failures)}", table)
        if tensorrt:
            bundle = add_plans(bundle, folder / "planned")
            parity = _proven(bundle, reference, clips, precision, source.trained)
        return _save(bundle, parity, out, source.card), parity


def add_proven_plans(bundle: Bundle, clips: Sequence[Path], out: Path) -> tuple[Bundle, Parity]:
    """Build TensorRT engines for a bundle, and measure them against its networks on the CPU.

    Args:
        clips: real clips for the parity check; none takes the project's samples.
        out: the new bundle's folder, which may be the old one's.

    Raises:
        ParityError: an engine is not what it was built from.
        EngineError: TensorRT is missing, or refuses a network.
        BundleError: `out` can't be written, or something else is there.
    """
    check_place(out)
    clips = usable_clips(clips)
    with tempfile.TemporaryDirectory() as work:
        planned = add_plans(bundle, Path(work) / "planned")
        parity = _proven(planned, bundle_networks(bundle), clips, precision_of(bundle), True)
        card = bundle.folder / CARD
        return _save(planned, parity, out, card.read_text() if card.is_file() else ""), parity


def precision_of(bundle: Bundle) -> str:
    """Name the one of `PRECISIONS` that a bundle for GPUs was exported in."""
    kinds = bundle.manifest.precision.split("+")
    return {"int8": "int8-gpu"}.get(kinds[0], kinds[0])


def _proven(
    bundle: Bundle,
    reference: Mapping[str, Network],
    clips: Sequence[Path],
    precision: str,
    trained: bool,
) -> Parity:
    """Measure a bundle's TensorRT engines.

    Raises:
        ParityError: they fail.
    """
    parity = measure(bundle, reference, clips, "tensorrt")
    if failures := parity.failures(precision, trained):
        table = parity.table(precision, trained)
        raise ParityError(f"the TensorRT engines failed: {'; '.join(failures)}", table)
    return parity


def _save(bundle: Bundle, parity: Parity, out: Path, card: str) -> Bundle:
    """Put a draft that has passed in its place, with the figures."""
    files = {file.file: bundle.folder / file.file for file in bundle.manifest.files}
    return save_bundle(out, replace(bundle.manifest, parity=parity.figures()), files, card)


def set_precision(
    files: Mapping[str, Path], source: Source, precision: str, clips: Sequence[Path]
) -> None:
    """Change exported networks, in place, from single precision to another."""
    preset = source.model.preset
    spared = {"face": SPARED.get(preset.face, 0), "audio": SPARED.get(preset.speech, 0)}
    if precision == "fp16":
        for name in OWN:
            to_half(files[name])
    elif precision == "int8":
        for name in QUANTIZED:
            quantize(files[name], spared[name])
        for name in OWN:
            store_half(files[name])
    elif precision == "int8-gpu":
        with tempfile.TemporaryDirectory() as work:
            calls = record_calls(_draft(source, files, Path(work) / "fp32"), clips, QUANTIZED)
        for name in QUANTIZED:
            quantize_fixed(files[name], calls[name], spared[name])


def _draft(source: Source, files: Mapping[str, Path], folder: Path) -> Bundle:
    engines = {name: _engine_file(path) for name, path in files.items()}
    manifest = Manifest(
        name=source.model.preset.name,
        labels=EMOTIONS,
        trained=source.trained,
        window_s=WINDOW_S,
        hop_s=HOP_S,
        max_window_s=MAX_STEPS / 50,
        frame_rate=FRAME_RATE,
        min_speech_s=MIN_SPEECH_S,
        crop=Crop(int(source.model.face.size), CROP_SCALE),  # type: ignore[arg-type]
        engines=engines,
        plans={},
        weights=source.weights,
        parity={},
        notes=source.notes,
    )
    return save_bundle(folder, manifest, {path.name: path for path in files.values()})


def _with_files(bundle: Bundle, files: Mapping[str, Path], folder: Path) -> Bundle:
    """Make a bundle that tells of another's networks, and holds these in their place."""
    engines = {
        name: replace(
            engine,
            file=files[name].name,
            sha256=file_sha256(files[name]),
            bytes=files[name].stat().st_size,
        )
        for name, engine in bundle.manifest.engines.items()
    }
    manifest = replace(bundle.manifest, engines=engines)
    return save_bundle(folder, manifest, {path.name: path for path in files.values()})


def _engine_file(path: Path) -> EngineFile:
    model = onnx.load(path)
    engine = Engine(path, ["CPUExecutionProvider"], threads=1)
    try:
        work = work_of(model, {tensor.name: _example(tensor) for tensor in engine.inputs})
    except EngineError as error:
        raise ParityError(f"{path.stem}: does not run: {error}") from error
    # One face is counted, not a window's: all of them at once would take gigabytes.
    calls = FACES if any("faces" in tensor.shape for tensor in engine.inputs) else 1
    return EngineFile(
        file=path.name,
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        parameters=parameters_of(model),
        opset=next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        work={kind: count * calls for kind, count in work.items()},
        inputs=tuple(engine.inputs),
        outputs=tuple(engine.outputs),
    )


FACES = round(FRAME_RATE * WINDOW_S)  # of a window

SIZES = {
    "faces": 1,
    "frames": FACES,
    "samples": round(SAMPLE_RATE * WINDOW_S),
    "sequence_length": round(SAMPLE_RATE * WINDOW_S / CHUNK) + 1,
    "height": 181,  # of a 720p picture's largest level
    "width": 321,
    "n": 1,  # candidate
}
"""Of a window's worth, for what varies in the networks' inputs."""


def _example(tensor: Tensor) -> np.ndarray:
    shape = [SIZES[size] if isinstance(size, str) else size for size in tensor.shape]
    return np.zeros(shape, tensor.dtype)
