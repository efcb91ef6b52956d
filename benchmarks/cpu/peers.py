"""Compare parts of mfer-edge with other people's code for the same part.

`python -m benchmarks.cpu.peers [--clip CLIP] [--bundle DIR]... [--rounds N] [--json PATH]`:

- speech in a recording: the silero-vad package, by PyTorch and by ONNX, and ours;
- ViT-B/16, one face and a window's 20 in one call: transformers, as it comes and compiled, and the
  bundles of the full size that are named;
- emotion2vec on 4 s: funasr, funasr's own export to ONNX, and those bundles, whose network also
  holds the audio arm's GRU.

Everything runs in a process of its own, on all cores that this process may use; PyTorch is in none
but its own. Weights are random: they cost what trained ones cost. Faces in pictures have a script
of their own: `python -m benchmarks.cpu.face_front_end`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness.processes import (
    Series,
    Spread,
    Work,
    machine_line,
    publish,
    ratio,
    read_options,
    run_script,
    take_turns,
    tell,
)
from benchmarks.harness.systems import HOW_TO_EXPORT, SAMPLES, write_weights
from benchmarks.harness.third_party import VERSIONS
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE, SpeechProbability, speech_segments

VAD_S = 30  # of sound for the VAD: the clip's, again and again
WINDOW_S = 4
FACES = (1, 20)  # in one call: a new picture's, and a window's
FUNASR_FILE = "emotion2vec"  # what its export calls what it writes, without an ending


@dataclass(frozen=True)
class Part:
    """Those who do the same work; the first is what the others are compared with."""

    what: str  # is counted
    units: int  # of it in a pass
    works: tuple[Work, ...]


@dataclass(frozen=True)
class Row:
    """How one of them did."""

    part: str
    name: str
    ms: Spread | None  # for a unit; None where it failed
    faster: Spread | None  # how many times, than the first
    failure: str | None

    def line(self) -> str:
        """Give a line of the table."""
        if self.ms is None:
            return f"| {self.part} | {self.name} | not run: {self.failure} | | |"
        faster = f"{self.faster.median:.2f}" if self.faster else ""
        spread = f"{self.ms.low:.2f} to {self.ms.high:.2f}"
        return f"| {self.part} | {self.name} | {self.ms.median:.2f} | {spread} | {faster} |"


@dataclass(frozen=True)
class Report:
    """All that was measured."""

    machine: Machine
    clip: str
    rounds: int
    rows: list[Row]


# What runs in processes of its own.


def silero_torch(clip: str) -> Callable[[], object]:
    """The silero-vad package as it comes, on one thread, which is its own choice."""
    return _silero(clip, onnx=False)


def silero_onnx(clip: str) -> Callable[[], object]:
    """The silero-vad package with its ONNX file."""
    return _silero(clip, onnx=True)


def _silero(clip: str, onnx: bool) -> Callable[[], object]:
    import torch

    from benchmarks.harness.third_party import silero

    package, wave = silero(), torch.from_numpy(sound(clip, VAD_S))
    model = package.load_silero_vad(onnx=onnx)
    return lambda: package.get_speech_timestamps(wave, model)


def our_vad(clip: str) -> Callable[[], object]:
    """The VAD of the shipped bundle, on one thread, as in the runtime."""
    engine = OnnxEngine(Bundle.open().engine_path("vad"), providers_for("cpu"), threads=1)
    wave = sound(clip, VAD_S)

    return lambda: speech_segments(SpeechProbability(engine)(wave), len(wave))


def transformers_vit(weights: str, faces: str, compiled: str = "") -> Callable[[], object]:
    """transformers' ViT, in eager mode or compiled."""
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


def our_face(bundle: str, faces: str) -> Callable[[], object]:
    """A bundle's face network."""
    engine = _engine(bundle, "face")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (int(faces), 1, 224, 224), dtype=np.uint8)
    return lambda: engine(faces=pixels)


def funasr_emotion2vec(weights: str, clip: str) -> Callable[[], object]:
    """funasr's emotion2vec, without its reading of files."""
    import torch

    from benchmarks.cpu.reference import emotion2vec_features, load_emotion2vec
    from train.models.emotion2vec import FOLDER

    torch.set_num_threads(core_count())
    model = load_emotion2vec(Path(weights) / FOLDER)
    wave = torch.from_numpy(sound(clip, WINDOW_S))

    def one_pass() -> None:
        with torch.inference_mode():
            emotion2vec_features(model, wave)

    return one_pass


def funasr_onnx(exported: str, clip: str) -> Callable[[], object]:
    """What funasr's own export wrote, in ONNX Runtime, without PyTorch."""
    engine = OnnxEngine(Path(exported) / FUNASR_FILE, providers_for("cpu"), core_count())
    wave = sound(clip, WINDOW_S)[None]
    return lambda: engine(input=wave)


def our_voice(bundle: str, clip: str) -> Callable[[], object]:
    """A bundle's audio network: emotion2vec and the arm."""
    engine = _engine(bundle, "audio")
    wave = sound(clip, WINDOW_S)[None]
    return lambda: engine(wave=wave)


def sound(clip: str, seconds: int) -> np.ndarray:
    """Give a clip's sound, (samples,), as often as it takes to fill so many seconds."""
    return np.resize(read_audio(clip), seconds * SAMPLE_RATE)


def _engine(bundle: str, network: str) -> OnnxEngine:
    return OnnxEngine(Bundle.open(bundle).engine_path(network), providers_for("cpu"), core_count())


# What runs before, in a process with PyTorch.

FUNASR_EXPORT = """
import importlib, sys
from pathlib import Path
from benchmarks.reference import load_emotion2vec
from train.emotion2vec import FOLDER
model = load_emotion2vec(Path(sys.argv[1]) / FOLDER)
meta = importlib.import_module("funasr.models.emotion2vec.export_meta")
ready = meta.export_rebuild_model(model, device="cpu").eval()
importlib.import_module("funasr.utils.export_utils")._onnx(ready, export_dir=sys.argv[2])
"""


def export_with_funasr(weights: Path, folder: Path) -> None:
    """Let funasr export emotion2vec by its own code; without success the folder stays empty."""
    folder.mkdir()
    command = [sys.executable, "-c", FUNASR_EXPORT, str(weights), str(folder)]
    subprocess.run(command, capture_output=True)


# What becomes of it.


def here(name: str, opener: Callable[..., object], *arguments: str) -> Work:
    """Name a piece of work of this module's."""
    return Work(name, f"benchmarks.cpu.peers:{opener.__name__}", arguments)


def parts(clip: str, bundles: Mapping[str, str], weights: str, exported: str) -> list[Part]:
    """List who is compared, and on what.

    Args:
        bundles: names of bundles of the full size, by folder.
        weights: the reference's; needed where there are bundles.
        exported: funasr's export; the same.
    """
    found = [
        Part(
            "VAD, a second of sound",
            VAD_S,
            (
                here("silero-vad, PyTorch", silero_torch, clip),
                here("silero-vad, ONNX", silero_onnx, clip),
                here("mfer-edge", our_vad, clip),
            ),
        )
    ]
    if not bundles:
        return found
    for count in FACES:
        n = str(count)
        vit = (
            here("transformers", transformers_vit, weights, n),
            here("transformers, torch.compile", transformers_vit, weights, n, "compiled"),
            *(here(name, our_face, folder, n) for folder, name in bundles.items()),
        )
        found.append(Part(f"ViT-B/16, a face of {n} in a call", count, vit))
    emotion2vec = (
        here("funasr", funasr_emotion2vec, weights, clip),
        here("funasr's own ONNX export", funasr_onnx, exported, clip),
        *(here(name, our_voice, folder, clip) for folder, name in bundles.items()),
    )
    return [*found, Part(f"emotion2vec, {WINDOW_S} s of sound", 1, emotion2vec)]


def rows(part: Part, series: Sequence[Series]) -> list[Row]:
    """Say how each did."""
    first = series[0]
    found = []
    for one in series:
        if one.failure is not None:
            found.append(Row(part.what, one.name, None, None, one.failure))
            continue
        ms = Spread.of([1000 * run.pass_s / part.units for run in one.runs])
        found.append(Row(part.what, one.name, ms, ratio(first, one), None))
    return found


def measure(
    clip: Path, bundles: Sequence[Path], rounds: int, tell: Callable[[str], None]
) -> Report:
    """Measure.

    Args:
        bundles: of the full size.
        tell: called with a line before each part.

    Raises:
        MferError: the clip or a bundle can't be used.
    """
    read_audio(clip)  # it can be read
    named = {str(path): f"mfer-edge {Bundle.open(path).manifest.precision}" for path in bundles}
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        weights, exported = Path(work) / "weights", Path(work) / "funasr"
        if bundles:
            write_weights(str(weights))
            export_with_funasr(weights, exported)
        for part in parts(str(clip), named, str(weights), str(exported)):
            tell(part.what)
            found += rows(part, take_turns(part.works, rounds))
    return Report(describe_machine(), clip.name, rounds, found)


def table(report: Report) -> str:
    """Give the report in Markdown."""
    lines = [
        f"Clip: {report.clip}; {report.rounds} rounds.",
        machine_line(report.machine, ["torch", *VERSIONS]),
        "",
        "| part | by | median ms | fastest to slowest | times as fast as the first |",
        "|---|---|---|---|---|",
        *(row.line() for row in report.rows),
        "",
        "Faces in pictures: python -m benchmarks.cpu.face_front_end.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, default=SAMPLES[0])
    parser.add_argument("--bundle", type=Path, action="append", default=[], dest="bundles")
    options = read_options(parser, arguments)
    report = measure(options.clip, options.bundles, options.rounds, tell)
    text = table(report) if options.bundles else f"{table(report)}\n{HOW_TO_EXPORT}"
    publish(text, report, options.json)


if __name__ == "__main__":
    run_script(main)
