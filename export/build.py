"""From a model to a bundle: export every network, set its precision, prove it, save it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from export.assets import SILERO_VAD
from export.calibration import record_calls
from export.card import read_card
from export.checkpoint import Source
from export.divergence import bisect
from export.graphs import model_graphs, to_onnx
from export.manifest import manifest_of
from export.mtcnn import export_mtcnn
from export.parity import Parity, ParityError, measure
from export.precision.fp16 import emulate_fp16, store_fp16, to_fp16
from export.precision.int8 import quantize, quantize_fixed
from export.targets.tensorrt import add_plans
from export.torch_reference import reference_engines
from mfer_edge.bundle import Bundle, check_place, save_bundle
from mfer_edge.engines.base import Engine
from mfer_edge.errors import OutputError
from mfer_edge.manifest import MODEL_ENGINES, Manifest
from mfer_edge.model import load_engines
from mfer_edge.sources.clip import Clip
from train.data.preprocess import FRAME_RATE
from train.models.emotion_model import EmotionModel

SAMPLES = Path(__file__).parent.parent / "samples"
PRECISIONS = ("fp32", "fp16", "int8", "int8-gpu")

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
        OutputError: there is no room for the work.
        EngineError: TensorRT is missing, or refuses a network.
    """
    check_place(out)
    clips = usable_clips(clips)
    with _work_folder() as work:
        networks = export_networks(source.model, work)
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
    with _work_folder() as folder:
        files = {name: folder / path.name for name, path in networks.items()}
        for name, path in networks.items():
            shutil.copyfile(path, files[name])
        set_precision(files, source, precision, clips)

        bundle = measured = _unsaved(files, manifest_of(source, files))
        tested = files
        if precision == "fp16":
            # As a GPU would run it: ONNX Runtime widens half precision on a CPU, and hides what
            # it can't hold.
            tested = {**files, **{name: folder / f"{name}-imitated.onnx" for name in MODEL_ENGINES}}
            for name in MODEL_ENGINES:
                emulate_fp16(files[name], tested[name])
            engines = {
                name: replace(engine, file=tested[name].name)
                for name, engine in bundle.manifest.engines.items()
            }
            measured = _unsaved(tested, replace(bundle.manifest, engines=engines))
        reference = reference_engines(source.model)
        parity = measure(measured, reference, clips)
        departures = [
            bisect(source.model, name, networks[name], tested[name], call, precision)
            for name, call in parity.witnesses(precision).items()
            if bisecting
        ]
        found = [str(departure) for departure in departures if departure]
        _require(parity, f"the {precision} export", precision, source.trained, found)
        if tensorrt:
            bundle = add_plans(bundle, folder / "planned")
            parity = _proven_plans(bundle, reference, clips, precision)
        return _save(bundle, parity.figures(), out, source.card), parity


def add_proven_plans(bundle: Bundle, clips: Sequence[Path], out: Path) -> tuple[Bundle, Parity]:
    """Build TensorRT engines for a bundle, and measure them against its networks on the CPU.

    The manifest keeps its figures, which are of the networks and from PyTorch.

    Args:
        clips: real clips for the parity check; none takes the project's samples.
        out: the new bundle's folder, which may be the old one's.

    Raises:
        ParityError: an engine is not what it was built from.
        EngineError: TensorRT is missing, or refuses a network.
        BundleError: `out` can't be written, or something else is there.
        OutputError: there is no room for the work.
    """
    check_place(out)
    clips = usable_clips(clips)
    with _work_folder() as folder:
        planned = add_plans(bundle, folder / "planned")
        parity = _proven_plans(planned, load_engines(bundle), clips, precision_of(bundle))
        card = read_card(planned.folder)
        return _save(planned, bundle.manifest.parity, out, card), parity


def precision_of(bundle: Bundle) -> str:
    """Name the one of `PRECISIONS` that a bundle for GPUs was exported in."""
    kinds = bundle.manifest.precision.split("+")
    return {"int8": "int8-gpu"}.get(kinds[0], kinds[0])


def _proven_plans(
    bundle: Bundle, reference: Mapping[str, Engine], clips: Sequence[Path], precision: str
) -> Parity:
    """Measure a bundle's TensorRT engines.

    Raises:
        ParityError: they fail.
    """
    parity = measure(bundle, reference, clips, "tensorrt")
    _require(parity, "the TensorRT engines", precision, bundle.manifest.trained)
    return parity


def _require(
    parity: Parity, what: str, precision: str, trained: bool, departures: Sequence[str] = ()
) -> None:
    """Let pass only what is within tolerance.

    Raises:
        ParityError: it is not.
    """
    if failures := parity.failures(precision, trained):
        table = parity.table(precision, trained)
        raise ParityError(f"{what} failed: {'; '.join([*failures, *departures])}", table)


def _unsaved(files: Mapping[str, Path], manifest: Manifest) -> Bundle:
    """Make networks a bundle where they lie, in one folder: to read clips with before any proof."""
    return Bundle(files["face"].parent, manifest, sha256="")


def _save(bundle: Bundle, figures: Mapping[str, float], out: Path, card: str) -> Bundle:
    """Put what has passed in its place, with the figures."""
    files = {file.file: bundle.folder / file.file for file in bundle.manifest.files}
    return save_bundle(out, replace(bundle.manifest, parity=figures), files, card)


@contextmanager
def _work_folder() -> Iterator[Path]:
    """Lend a folder for networks in the making: a few times as large as their bundle.

    Raises:
        OutputError: there is no such folder, or no room in it.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(
            f"networks in the making can't be kept in the temporary folder ({error}); "
            "TMPDIR names another"
        ) from error


def set_precision(
    files: Mapping[str, Path], source: Source, precision: str, clips: Sequence[Path]
) -> None:
    """Change exported networks, in place and all in one folder, to a precision from single."""
    preset = source.model.preset
    spared = {"face": SPARED.get(preset.face, 0), "audio": SPARED.get(preset.speech, 0)}
    if precision == "fp16":
        for name in MODEL_ENGINES:
            to_fp16(files[name])
    elif precision == "int8":
        for name in QUANTIZED:
            quantize(files[name], spared[name])
        for name in MODEL_ENGINES:
            store_fp16(files[name])
    elif precision == "int8-gpu":
        bundle = _unsaved(files, manifest_of(source, files, counting=False))
        calls = record_calls(bundle, clips, QUANTIZED)
        for name in QUANTIZED:
            quantize_fixed(files[name], calls[name], spared[name])
