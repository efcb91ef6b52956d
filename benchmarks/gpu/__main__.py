"""Measure on a CUDA machine: PyTorch against the exported engines, and the whole pipeline.

`python -m benchmarks.gpu [--preset compact|paper] [--bundle DIR]... [--clip CLIP]...
[--device cuda|cpu] [--runs N] [--json PATH]` exports what it measures (compact as it ships, paper
with random weights; fp32, fp16, int8-gpu), runs every network on every backend that is there, in
turns, on real faces and speech from the clips, and prints Markdown tables. What can't run costs a
line that says why, never the rest. With `--device cpu` all of it runs without a GPU.

What must be installed, all of it as wheels that can be carried to a machine without a network:

| wheel | for |
|---|---|
| `av`, `click`, `numpy`, `opencv-python-headless` | the runtime |
| `torch`, a build for the machine's CUDA | PyTorch, and the export |
| `onnx`, `onnxscript`, `safetensors` | the export |
| `onnxruntime-gpu` | the CUDA provider; it takes CUDA's and cuDNN's libraries from torch's wheels |
| `tensorrt`, `cuda-python` | native TensorRT |

TensorRT for RTX is a plug-in, `onnxruntime-ep-nv-tensorrt-rtx-cu13` (or `-cu12`), that wants plain
`onnxruntime` of 1.24 or later. `onnxruntime` and `onnxruntime-gpu` install the same module and must
never be in one environment: measure the plug-in in one of its own. What would take the whole
process down with it is left out by `--without`; torch.compile too, which wants a C++ compiler and
minutes. The GPU's memory is told by the driver's own library: `nvidia-ml-py` is not needed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.gpu.networks import Backend, Material, Row, attempt, compare
from benchmarks.gpu.onnx import onnx_backends, with_plans
from benchmarks.gpu.pipeline import Chain, ClipRow, Update
from benchmarks.gpu.report import Report, markdown, to_json
from benchmarks.gpu.torch import forget_compiled, torch_backends
from export.build import SAMPLES, build_from_engines, export_engines
from export.calibration import record_calls
from export.checkpoint import Source, open_source
from export.options import ExportOptions
from export.torch_reference import reference_engines
from mfer_edge.bench.machine import describe_machine
from mfer_edge.bench.run import checked_out_commit
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from mfer_edge.manifest import MODEL_ENGINES
from mfer_edge.outputs.files import check_output
from train.presets import PRESETS

PRECISIONS = ("fp32", "fp16", "int8-gpu")
PARTS = ("pytorch", "compiled", "rtx", "tensorrt", "pipeline")  # that may be left out
LEFT_OUT = "left out as asked"
ROOT = Path(__file__).resolve().parents[2]


def measure(options: argparse.Namespace, work: Path) -> Report:
    """Measure everything that can be measured here.

    Args:
        options: as given on the command line.
        work: a folder for what is exported.

    Raises:
        MferError: there is no bundle to measure, or the clips hold no face and speech.
    """
    not_run: dict[str, str] = {}
    clips = options.clip or sorted(SAMPLES.glob("*.mp4"))
    if not clips:
        raise MferError("no clip to measure on: name one with --clip")
    bundles, source = _bundles(options, clips, work, not_run)
    if options.device == "cuda" and "tensorrt" in options.without:
        not_run["TensorRT"] = LEFT_OUT
    elif options.device == "cuda":
        bundles = with_plans(bundles, work, not_run)
    first = next(iter(bundles.values()))
    tell(f"the networks' calls on {', '.join(clip.name for clip in clips)}")
    material = Material.of(record_calls(first, clips, MODEL_ENGINES), first.manifest)

    rows = list(_networks(options, bundles, source, material, not_run))
    updates: list[Update] = []
    clip_rows: list[ClipRow] = []
    for precision, device in _pipelines(options, bundles, not_run):
        tell(f"the pipeline: {precision} on {device}")
        with attempt(f"pipeline, {precision} on {device}", not_run):
            chain = Chain.open(bundles[precision], precision, device)
            updates.append(chain.time_update(clips[0], material, options.runs))
            for clip in clips:
                with attempt(f"{clip.name}, {precision} on {device}", not_run):
                    clip_rows.append(chain.time_clip(clip, options.runs))
    return Report(
        command=shlex.join(["python", "-m", "benchmarks.gpu", *options.arguments]),
        commit=checked_out_commit(),
        machine=describe_machine(),
        libraries=_libraries(),
        preset=source.model.preset.name,
        trained=source.trained,
        bundles={precision: bundle.sha256 for precision, bundle in bundles.items()},
        clips=tuple(clip.name for clip in clips),
        networks=tuple(rows),
        updates=tuple(updates),
        clip_rows=tuple(clip_rows),
        not_run=not_run,
    )


def _bundles(
    options: argparse.Namespace, clips: Sequence[Path], work: Path, not_run: dict[str, str]
) -> tuple[dict[str, Bundle], Source]:
    """Open the bundles that were named, or export some; give them by precision, with the model."""
    if options.bundle:
        opened = [Bundle.open(folder) for folder in options.bundle]
        manifest = opened[0].manifest
        source = open_source(manifest.name, options.checkpoint, random_init=not manifest.trained)
        named = {f"{b.manifest.precision} ({b.folder.name})": b for b in opened}
        if len(named) < len(opened) or any(b.manifest.name != manifest.name for b in opened):
            raise MferError("--bundle: name bundles of one model, in folders of different names")
        return named, source
    # A trained model of the paper's needs weights that are not here.
    random_init = options.preset != "compact" and options.checkpoint is None
    source = open_source(options.preset, options.checkpoint, random_init=random_init)
    bundles = {}
    tell(f"exporting {options.preset}")
    with tempfile.TemporaryDirectory() as folder:
        networks = export_engines(source.model, Path(folder))
        for precision in PRECISIONS:
            tell(f"exporting {options.preset} {precision}")
            with attempt(f"bundle {precision}", not_run):
                out = work / f"{options.preset}-{precision}"
                wanted = ExportOptions(out, precision, clips)
                bundles[precision] = build_from_engines(source, networks, wanted)[0]
    if not bundles:
        raise MferError("; ".join(not_run.values()))
    return bundles, source


def _networks(
    options: argparse.Namespace,
    bundles: dict[str, Bundle],
    source: Source,
    material: Material,
    not_run: dict[str, str],
) -> Iterator[Row]:
    backends: list[Backend] = []
    if "pytorch" in options.without:
        not_run["PyTorch"] = LEFT_OUT
    else:
        compiled = "compiled" not in options.without
        backends += torch_backends(source.model, options.device, compiled, not_run)
    backends += onnx_backends(bundles, options.device, "rtx" not in options.without, not_run)
    reference = reference_engines(source.model)
    for case in material.cases():
        tell(f"{case.name}, {case.batch}: {len(backends)} backends")
        yield from compare(case, backends, reference, options.runs, not_run)
        forget_compiled()


def _pipelines(
    options: argparse.Namespace, bundles: dict[str, Bundle], not_run: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Give what to time the whole chain on: precision and device."""
    if "pipeline" in options.without:
        not_run["pipeline"] = LEFT_OUT
        return
    for precision, bundle in bundles.items():
        yield precision, options.device
        if options.device == "cuda" and bundle.manifest.plans:
            yield precision, "tensorrt"
    if options.device == "cuda":
        yield next(iter(bundles)), "cpu"  # a baseline


def tell(line: str) -> None:
    """Say on the standard error what is going on."""
    print(line, file=sys.stderr, flush=True)


def _libraries() -> dict[str, str]:
    found = {"torch": str(torch.__version__)}
    if torch.version.cuda:
        found["CUDA of torch"] = str(torch.version.cuda)
    if torch.backends.cudnn.is_available():
        found["cuDNN of torch"] = str(torch.backends.cudnn.version())
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="of one model")
    parser.add_argument("--checkpoint", type=Path, help="that model, trained elsewhere")
    parser.add_argument("--clip", type=Path, action="append", default=[])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--runs", type=int, default=200, help="of each piece of work, at most")
    parser.add_argument("--without", choices=PARTS, action="append", default=[])
    parser.add_argument("--work", type=Path, help="where exported bundles go, and stay")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs: 1 or more")
    options.arguments = list(arguments)
    return options


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    """Print the tables, and write the JSON where asked; give the exit code."""
    options = parse(arguments)
    torch.backends.cuda.matmul.allow_tf32 = True  # as ONNX Runtime does unless told otherwise
    try:
        if options.json:
            check_output(options.json)  # before the minutes
        with tempfile.TemporaryDirectory() as temporary:
            report = measure(options, options.work or Path(temporary))
    except MferError as error:
        tell(f"error: {error}")
        return 1
    print(markdown(report), end="")
    if options.json:
        options.json.write_text(to_json(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
