"""Jobs of `benchmarks.cpu.peers`: parts of mfer-edge, and other packages that do the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness.processes import run_python
from mfer_edge.arms import AudioArm, Place
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.errors import MferError
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE, SpeechProbability, speech_segments

VAD_S = 30  # of audio for the VAD: the clip's, repeated
WINDOW_S = 4  # of audio for emotion2vec
FUNASR_FILE = "emotion2vec"  # the name of funasr's exported file, without an ending
FUNASR_EXPORT = """
import importlib, sys
from pathlib import Path
from benchmarks.cpu.reference_weights import load_emotion2vec
from train.models.emotion2vec import FOLDER
model = load_emotion2vec(Path(sys.argv[1]) / FOLDER)
meta = importlib.import_module("funasr.models.emotion2vec.export_meta")
ready = meta.export_rebuild_model(model, device="cpu").eval()
importlib.import_module("funasr.utils.export_utils")._onnx(ready, export_dir=sys.argv[2])
"""


def silero_torch(clip: str) -> Callable[[], object]:
    """Run the silero-vad package's PyTorch model, on one thread, as the package sets it."""
    return _silero(clip, onnx=False)


def silero_onnx(clip: str) -> Callable[[], object]:
    """Run the silero-vad package's ONNX model."""
    return _silero(clip, onnx=True)


def _silero(clip: str, onnx: bool) -> Callable[[], object]:
    import torch

    from benchmarks.harness.third_party import silero

    package, wave = silero(), torch.from_numpy(samples(clip, VAD_S))
    model = package.load_silero_vad(onnx=onnx)
    return lambda: package.get_speech_timestamps(wave, model)


def mfer_edge_vad(clip: str) -> Callable[[], object]:
    """Run the shipped bundle's VAD, on one thread, as the runtime does."""
    engine = OnnxEngine(Bundle.open().engine_path("vad"), providers_for("cpu"), threads=1)
    wave = samples(clip, VAD_S)

    return lambda: speech_segments(SpeechProbability(engine)(wave), len(wave))


def transformers_vit(weights: str, faces: str, compiled: str = "") -> Callable[[], object]:
    """Run transformers' ViT on a batch of faces, eager or compiled."""
    import torch

    from benchmarks.harness.third_party import transformers
    from train.models.vit import FOLDER

    torch.set_num_threads(core_count())
    folder = Path(weights) / FOLDER
    model = transformers().ViTForImageClassification.from_pretrained(folder).eval().vit
    run = torch.compile(model) if compiled else model
    pixels = torch.rand(int(faces), 3, 224, 224) * 2 - 1

    def one_pass() -> None:
        with torch.inference_mode():
            run(pixels)

    return one_pass


def mfer_edge_face(bundle: str, faces: str) -> Callable[[], object]:
    """Run a bundle's face engine on a batch of faces."""
    engine = _engine(bundle, "face")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (int(faces), 1, 224, 224), dtype=np.uint8)
    return lambda: engine(faces=pixels)


def funasr_emotion2vec(weights: str, clip: str) -> Callable[[], object]:
    """Run funasr's emotion2vec on samples, without its reading of files."""
    import torch

    from benchmarks.cpu.reference_weights import emotion2vec_features, load_emotion2vec
    from train.models.emotion2vec import FOLDER

    torch.set_num_threads(core_count())
    model = load_emotion2vec(Path(weights) / FOLDER)
    wave = torch.from_numpy(samples(clip, WINDOW_S))

    def one_pass() -> None:
        with torch.inference_mode():
            emotion2vec_features(model, wave)

    return one_pass


def funasr_onnx(exported: str, clip: str) -> Callable[[], object]:
    """Run funasr's own ONNX export in ONNX Runtime, without PyTorch."""
    engine = OnnxEngine(Path(exported) / FUNASR_FILE, providers_for("cpu"), core_count())
    wave = samples(clip, WINDOW_S)[None]
    return lambda: engine(input=wave)


def mfer_edge_audio(bundle: str, clip: str) -> Callable[[], object]:
    """Run a bundle's audio engine: emotion2vec and the audio arm."""
    width = Bundle.open(bundle).manifest.observed("audio")
    place = Place.training_set(width) if width else None
    arm, wave = AudioArm(_engine(bundle, "audio"), place), samples(clip, WINDOW_S)
    return lambda: arm(wave)


def samples(clip: str, seconds: int) -> np.ndarray:
    """Read a clip's audio, (samples,), repeated to fill so many seconds."""
    return np.resize(read_audio(clip), seconds * SAMPLE_RATE)


def export_with_funasr(weights: Path, folder: Path) -> None:
    """Export emotion2vec by funasr's own code.

    Where that fails the folder stays empty, and `funasr_onnx` reports it.
    """
    folder.mkdir()
    try:
        run_python(["-c", FUNASR_EXPORT, str(weights), str(folder)])
    except MferError:
        return


def _engine(bundle: str, name: str) -> OnnxEngine:
    return OnnxEngine(Bundle.open(bundle).engine_path(name), providers_for("cpu"), core_count())
