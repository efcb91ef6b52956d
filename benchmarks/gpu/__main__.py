"""Measure on a CUDA machine: PyTorch against the exported engines, and the whole pipeline.

`python -m benchmarks.gpu [--preset compact|paper] [--precision fp32|fp16|int8-gpu]...
[--bundle DIR]... [--clip CLIP]... [--device cuda|cpu] [--runs N] [--json PATH]` exports what it
measures (compact as it ships, paper with random weights; every precision), runs every engine on
every available backend, in turn, on real faces and speech from the clips, and prints Markdown
tables. What can't run is listed with the reason; the rest still runs, and Ctrl-C prints what was
measured so far. With `--device cpu` all of it runs without a GPU.

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
never be in one environment: measure the plug-in in one of its own. `--without` leaves out a part
that would crash the process, or torch.compile, which needs a C++ compiler and minutes. GPU memory
is read through the driver's own library: `nvidia-ml-py` is not needed.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch

from benchmarks.gpu.backends import LEFT_OUT, Backend, attempt
from benchmarks.gpu.bundles import bundles_of
from benchmarks.gpu.cases import WindowInputs
from benchmarks.gpu.compare import CaseTime, compare
from benchmarks.gpu.onnx_backends import onnx_backends
from benchmarks.gpu.options import GpuOptions, parse
from benchmarks.gpu.pipeline import ClipTime, DevicePipeline, UpdateTime
from benchmarks.gpu.report import GpuResult, markdown, to_json
from benchmarks.gpu.tensorrt_backends import with_plans
from benchmarks.gpu.torch_backends import free_compiled, torch_backends
from benchmarks.harness.script import log
from export.calibration import record_calls
from export.checkpoint import Source
from export.torch_reference import reference_engines
from mfer_edge.bench.machine import describe_machine
from mfer_edge.bench.run import checked_out_commit
from mfer_edge.bundle import Bundle
from mfer_edge.cli.errors import INTERRUPTED
from mfer_edge.errors import MferError
from mfer_edge.manifest import MODEL_ENGINES
from mfer_edge.outputs.files import check_output
from mfer_edge.samples import CLIPS

INTERRUPT = "interrupted"  # the reason why something was not run


def measure(options: GpuOptions, folder: Path) -> GpuResult:
    """Measure everything that this machine can run.

    Args:
        folder: for exported bundles.

    Raises:
        MferError: there is no bundle to measure, or the clips hold no face and speech.
    """
    not_run: dict[str, str] = {}
    clips = options.clips or CLIPS
    bundles, source = bundles_of(options, clips, folder, not_run)
    if options.device == "cuda" and "tensorrt" in options.without:
        not_run["TensorRT"] = LEFT_OUT
    elif options.device == "cuda":
        bundles = with_plans(bundles, folder, not_run)
    first = next(iter(bundles.values()))
    log(f"recording engine calls on {', '.join(clip.name for clip in clips)}")
    inputs = WindowInputs.of(record_calls(first, clips, MODEL_ENGINES), first.manifest)

    measured: list[CaseTime | UpdateTime | ClipTime] = []
    try:
        for one in chain(
            _engine_times(options, bundles, source, inputs, not_run),
            _pipeline_times(options, bundles, clips, inputs, not_run),
        ):
            measured.append(one)
    except KeyboardInterrupt:
        not_run["all that is missing above"] = INTERRUPT
    return GpuResult(
        command=shlex.join(["python", "-m", "benchmarks.gpu", *options.arguments]),
        commit=checked_out_commit(),
        machine=describe_machine(),
        libraries=_libraries(),
        preset=source.model.preset.name,
        trained=source.trained,
        bundles={precision: bundle.sha256 for precision, bundle in bundles.items()},
        clips=tuple(clip.name for clip in clips),
        engines=tuple(one for one in measured if isinstance(one, CaseTime)),
        updates=tuple(one for one in measured if isinstance(one, UpdateTime)),
        clip_times=tuple(one for one in measured if isinstance(one, ClipTime)),
        not_run=not_run,
    )


def _engine_times(
    options: GpuOptions,
    bundles: dict[str, Bundle],
    source: Source,
    inputs: WindowInputs,
    not_run: dict[str, str],
) -> Iterator[CaseTime]:
    """Time every case on every backend."""
    backends: list[Backend] = []
    if "pytorch" in options.without:
        not_run["PyTorch"] = LEFT_OUT
    else:
        compiled = "compiled" not in options.without
        backends += torch_backends(source.model, options.device, compiled, not_run)
    backends += onnx_backends(bundles, options.device, "rtx" not in options.without, not_run)
    reference = reference_engines(source.model)
    for case in inputs.cases():
        log(f"{case.name}, {case.batch}: {len(backends)} backends")
        yield from compare(case, backends, reference, options.runs, not_run)
        free_compiled()


def _pipeline_times(
    options: GpuOptions,
    bundles: Mapping[str, Bundle],
    clips: Sequence[Path],
    inputs: WindowInputs,
    not_run: dict[str, str],
) -> Iterator[UpdateTime | ClipTime]:
    """Time live updates and whole clips on every device."""
    for precision, device in _pipelines(options, bundles, not_run):
        log(f"the pipeline: {precision} on {device}")
        with attempt(f"pipeline, {precision} on {device}", not_run):
            pipeline = DevicePipeline.open(bundles[precision], precision, device)
            yield pipeline.time_update(clips[0], inputs, options.runs)
            for clip in clips:
                with attempt(f"{clip.name}, {precision} on {device}", not_run):
                    yield pipeline.time_clip(clip, options.runs)


def _pipelines(
    options: GpuOptions, bundles: Mapping[str, Bundle], not_run: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """List precision and device of the pipelines to time."""
    if "pipeline" in options.without:
        not_run["pipeline"] = LEFT_OUT
        return
    for precision, bundle in bundles.items():
        yield precision, options.device
        if options.device == "cuda" and bundle.manifest.plans:
            yield precision, "tensorrt"
    if options.device == "cuda":
        yield next(iter(bundles)), "cpu"  # a baseline


def _libraries() -> dict[str, str]:
    found = {"torch": str(torch.__version__)}
    if torch.version.cuda:
        found["CUDA of torch"] = str(torch.version.cuda)
    if torch.backends.cudnn.is_available():
        found["cuDNN of torch"] = str(torch.backends.cudnn.version())
    return found


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    """Print the tables, and write the JSON where asked; return the exit code."""
    options = parse(arguments, __doc__)
    # As the runtime's engines, whose fp32 has 23 bits of mantissa on a GPU too.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        if options.json:
            check_output(options.json)  # before the minutes of measuring
        with tempfile.TemporaryDirectory() as temporary:
            result = measure(options, options.work or Path(temporary))
    except MferError as error:
        log(f"error: {error}")
        return 1
    print(markdown(result))
    if options.json:
        options.json.write_text(to_json(result))
    return INTERRUPTED if INTERRUPT in result.not_run.values() else 0


if __name__ == "__main__":
    sys.exit(main())
