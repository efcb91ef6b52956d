"""From a checkpoint to a bundle: export every network, set its precision, prove it, save it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from export.assets import SILERO_VAD
from export.graphs import model_graphs, to_onnx
from export.mtcnn import export_mtcnn
from export.parity import Parity, ParityError, measure
from export.precision import parameters_of, precision_of, quantize, store_half
from mfer_edge.bundle import Bundle, Crop, EngineFile, Manifest, Weights, file_sha256, save_bundle
from mfer_edge.engine import Engine
from train.backbones import MAX_STEPS
from train.face_encoder import FACE_SIZE
from train.inputs import CROP_SCALE, FRAME_RATE, MIN_SPEECH_S
from train.labels import EMOTIONS
from train.model import EmotionModel

SAMPLES = Path(__file__).parent.parent / "samples"

LARGE = "audio"  # the network in which int8 products pay; the others are small or convolutions

SPARED = 4
"""Products of that network that int8 leaves out: the attention of the encoder's first layer, whose
few large activations would take the bits from all others. Over 160 RAVDESS recordings all labels
then agree with single precision; the scores change by 0.007 on average and 0.05 at most."""

HALVED = ("face", "visual", "audio", "fusion")
"""Networks whose weights may be rounded to half precision; MTCNN's choice between overlapping
boxes of a face tips with less."""

WEIGHTS = (
    Weights("vad", "Silero VAD 6.2.3, 16 kHz sequence model (Silero Team)", "MIT"),
    Weights("pnet, rnet, onet", "MTCNN, as shipped in facenet-pytorch 2.6.0", "MIT"),
    Weights("audio (encoder)", "Whisper tiny.en (OpenAI)", "MIT"),
    Weights(
        "audio (arm), fusion",
        "trained here on URDU and RAVDESS speech",
        "CC BY-NC-SA 4.0, research only",
    ),
    Weights("face, visual", "trained here on FER-2013", "non-commercial research"),
)


def build_compact(
    model: EmotionModel,
    precision: str,
    clips: Sequence[Path],
    out: Path,
    trained: bool = True,
    card: str = "",
) -> tuple[Bundle, Parity]:
    """Export the compact model to a bundle and measure it against PyTorch.

    Args:
        precision: `fp32`, or `int8` (products with the speech encoder's weights in int8; the other
            weights kept in half precision on disk).
        clips: real clips for the parity check; none takes the project's samples.
        out: the bundle's folder; it is replaced only if every check passes.
        trained: whether the weights mean anything.
        card: the model card that goes with them.

    Raises:
        ParityError: the bundle is not what was trained.
        BundleError: `out` can't be written, or something else is there.
    """
    clips = clips or sorted(SAMPLES.glob("*.mp4"))
    if not clips:
        raise ParityError("no clip to verify the export on: name a real one with --verify")
    with tempfile.TemporaryDirectory() as work:
        files = export_networks(model, Path(work))
        return save_proven(model, files, precision, clips, out, trained, card)


def export_networks(model: EmotionModel, folder: Path) -> dict[str, Path]:
    """Write every network of a bundle to a folder, in single precision; give the files by name."""
    files = export_mtcnn(folder) | {"vad": folder / "vad.onnx"}
    shutil.copyfile(SILERO_VAD, files["vad"])
    for name, graph in model_graphs(model).items():
        files[name] = folder / f"{name}.onnx"
        to_onnx(graph, files[name])
    return files


def save_proven(
    model: EmotionModel,
    networks: Mapping[str, Path],
    precision: str,
    clips: Sequence[Path],
    out: Path,
    trained: bool = True,
    card: str = "",
) -> tuple[Bundle, Parity]:
    """Set the precision of exported networks, measure them against PyTorch, save them as a bundle.

    Arguments and errors are those of `build_compact`; the networks' files are left alone.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        files = {name: folder / path.name for name, path in networks.items()}
        for name, path in networks.items():
            shutil.copyfile(path, files[name])
        if precision == "int8":
            quantize(files[LARGE], SPARED)
            for name in HALVED:
                store_half(files[name])

        manifest = _manifest({name: _engine_file(path) for name, path in files.items()}, trained)
        draft = save_bundle(folder / "bundle", manifest, files)
        parity = measure(draft, model, clips)
        if failures := parity.failures(precision):
            raise ParityError(f"the {precision} export failed: " + "; ".join(failures))
        manifest = replace(manifest, parity=parity.figures())
        return save_bundle(out, manifest, files, card), parity


def _engine_file(path: Path) -> EngineFile:
    model = onnx.load(path)
    engine = Engine(path, ["CPUExecutionProvider"], threads=1)
    return EngineFile(
        file=path.name,
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        parameters=parameters_of(model),
        precision=precision_of(model),
        inputs=tuple(engine.inputs),
        outputs=tuple(engine.outputs),
    )


def _manifest(engines: dict[str, EngineFile], trained: bool) -> Manifest:
    return Manifest(
        name="compact",
        labels=EMOTIONS,
        precision=engines[LARGE].precision,
        trained=trained,
        window_s=4.0,
        hop_s=1.0,
        max_window_s=MAX_STEPS / 50,
        frame_rate=FRAME_RATE,
        min_speech_s=MIN_SPEECH_S,
        crop=Crop(FACE_SIZE, CROP_SCALE),
        engines=engines,
        weights=WEIGHTS,
        parity={},
        notes=(
            "The visual arm learned from pictures, not video, and the voices are actors': "
            "see the model card.",
        ),
    )
