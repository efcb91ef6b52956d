"""Kill commands at random moments: what is there afterwards is complete, or is not there.

`python -m benchmarks.torture.kills CLIP [--index CSV --weights DIR] [--job JOB]... [--kills N]
[--seed N] [--json PATH]` starts each command in a process of its own, sends it SIGKILL at a random
moment of the time that it needs, and looks at what it left:

- infer: JSON, CSV, captions, a picture and an overlay video of the clip;
- adapt: an adaptation to the clip;
- batch: tables and the journal of several clips, continued after each kill until they are there;
- save: a bundle, saved as `export` does it at its end;
- train: the audio arm on the recordings of an index, continued after each kill until it is done;
- export: a bundle in single precision, verified on the clip.

Every other time an earlier result is there already: it stays until the new one is complete. After
the last kill the command runs undisturbed, and its result has to be that of a run without kills.
None of a killed command's worker processes may be left after some seconds.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.adapt import Adaptation
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.bundle import Bundle, save_bundle
from mfer_edge.cli.main import main as mfer_edge
from mfer_edge.errors import MferError
from mfer_edge.outputs.temporary import PREFIX

KILLS = 50  # of each command
TIMINGS = ("timing", "seconds")  # of no importance to whether two results are the same
BATCH_CLIPS = 6
WORKERS_END_S = 10.0  # within which worker processes notice that the command is gone


@dataclass(frozen=True)
class Job:
    """A command to kill.

    `run` writes results into a folder. `look` takes such a result and gives what identifies it, and
    raises an error if it is not complete.
    """

    name: str
    run: Callable[[Path], None]
    results: Mapping[str, Callable[[Path], str]]  # by name
    continues: bool = False  # after a kill, instead of starting anew


@dataclass
class Count:
    """What the kills of one command left."""

    job: str
    seconds: float  # that it takes, undisturbed
    kills: int = 0
    ended: int = 0  # runs that were done before their kill
    complete: int = 0  # results that were there
    absent: int = 0
    broken: list[str] = field(default_factory=list)
    lost: int = 0  # earlier results that were gone
    leftovers: int = 0  # temporary files after the last run, which is undisturbed
    orphans: int = 0  # kills after which worker processes stayed
    same: bool = False  # whether that run gives what a run without kills gives


@dataclass(frozen=True)
class KillsResult:
    """What the script measured."""

    machine: Machine
    seed: int
    counts: list[Count]


def main_in_process(*arguments: object) -> None:
    """Call `mfer-edge` in this process."""
    mfer_edge([str(argument) for argument in arguments], standalone_mode=False)


def start(job: Job, folder: Path) -> int:
    """Run a job in a process of its own, whose modules are loaded; return its id."""
    process = os.fork()
    if process:
        return process
    os.setpgid(0, 0)  # with the workers that it starts
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        job.run(folder)
    finally:
        os._exit(0)


def kill_all(job: Job, work: Path, kills: int, rng: random.Random) -> Count:
    """Kill a job again and again."""
    reference, folder = work / f"{job.name}-reference", work / job.name
    start_s = time.perf_counter()
    reference.mkdir()
    os.waitpid(start(job, reference), 0)
    count = Count(job.name, time.perf_counter() - start_s)
    expected = {name: look(reference / name) for name, look in job.results.items()}
    folder.mkdir()
    for number in range(kills):
        is_over = not job.continues or all((folder / name).exists() for name in job.results)
        if is_over:
            prepare(folder, reference if number % 2 and not job.continues else None)
        process = start(job, folder)
        time.sleep(rng.uniform(0, 1.05 * count.seconds))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        count.kills += os.WIFSIGNALED(status)
        count.ended += not os.WIFSIGNALED(status)
        count.orphans += not has_ended(process)
        inspect(job, folder, count, had_results=bool(number % 2) and not job.continues)
        script.log(f"{job.name}: {number + 1} of {kills}")
    os.waitpid(start(job, folder), 0)
    count.leftovers = sum(1 for _ in folder.rglob(f"{PREFIX}*"))
    count.same = {n: look(folder / n) for n, look in job.results.items()} == expected
    return count


def has_ended(group: int) -> bool:
    """Wait for the end of all processes of a group; end those that stay."""
    until_s = time.perf_counter() + WORKERS_END_S
    try:
        while time.perf_counter() < until_s:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return False


def prepare(folder: Path, earlier: Path | None) -> None:
    """Empty a folder, but for temporary files; put earlier results there."""
    for path in folder.iterdir():
        if path.name.startswith(PREFIX):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if earlier is not None:
        shutil.copytree(earlier, folder, dirs_exist_ok=True)


def inspect(job: Job, folder: Path, count: Count, *, had_results: bool) -> None:
    """Look at what a killed job left."""
    for name, look in job.results.items():
        if not (folder / name).exists():
            count.absent += 1
            count.lost += had_results
            continue
        try:
            look(folder / name)
            count.complete += 1
        except (MferError, OSError, ValueError, LookupError) as error:
            count.broken.append(f"{name}: {error}")


def json_look(path: Path) -> str:
    """What a JSON result says, but for its timing."""
    data = json.loads(path.read_text())
    return json.dumps({key: value for key, value in data.items() if key not in TIMINGS})


def text_look(path: Path) -> str:
    """A text that ends with its last line."""
    text = path.read_text()
    if not text.endswith("\n"):
        raise ValueError("cut off")
    return text


def picture_look(path: Path) -> str:
    """Size of a picture, decoded."""
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError("no picture")
    return str(image.shape)


def video_look(path: Path) -> str:
    """Number of frames of a video, decoded."""
    with av.open(str(path)) as container:
        return str(sum(1 for _ in container.decode(video=0)))


def bytes_look(path: Path) -> str:
    """Hash of a file, which loads as tensors if it is of such."""
    if path.suffix == ".safetensors":
        importlib.import_module("safetensors.torch").load_file(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def adaptation_look(path: Path) -> str:
    """All statistics of an adaptation."""
    made = Adaptation.load(path)
    return str([part and part.mean.tolist() for part in (made.voice, made.face)])


def table_look(path: Path) -> str:
    """Rows of a table of a batch, but for their times."""
    with path.open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(file)]
    return json.dumps(rows)


def journal_look(path: Path) -> str:
    """Clips in the journal of a batch, each of them once."""
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    if len(set(keys)) < len(keys):
        raise ValueError("a clip was done twice")
    return str(sorted(keys))


def bundle_look(path: Path) -> str:
    """Labels and precision of a bundle, whose files were all checked."""
    bundle = Bundle.open(path)
    return f"{bundle.manifest.labels} {bundle.manifest.precision}"


def several(clip: Path, folder: Path) -> list[Path]:
    """Clips of a batch, made of one: with the same content, a batch would do only one of them."""
    made = []
    for number in range(BATCH_CLIPS):
        made.append(folder / f"clip-{number}.mkv")
        with av.open(str(clip)) as source, av.open(str(made[-1]), "w") as target:
            target.metadata["title"] = f"clip {number}"
            tracks = {s.index: target.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = tracks[packet.stream.index]
                    target.mux(packet)
    return made


def jobs(clip: Path, work: Path, index: Path | None, weights: Path) -> list[Job]:
    """Commands to kill, shortest first."""

    def infer(out: Path) -> None:
        outputs = [f"--{kind}={out / f'out.{end}'}" for kind, end in OUTPUTS]
        main_in_process("infer", "--device=cpu", "--threads=1", "--quiet", clip, *outputs)

    def save(out: Path) -> None:
        bundle = Bundle.open()
        files = {file.file: bundle.folder / file.file for file in bundle.manifest.files}
        save_bundle(out / "bundle", bundle.manifest, files, "card")

    def train(out: Path) -> None:
        arguments = ("--weights", weights, "--cache", out / "cache", "--out", out)
        main_in_process("train", "audio", index, *arguments)

    looks = (json_look, text_look, text_look, picture_look, video_look)
    results = {f"out.{end}": look for (_, end), look in zip(OUTPUTS, looks, strict=True)}
    adaptation = {"out.adapt": adaptation_look}
    bundle: dict[str, Callable[[Path], str]] = {"bundle": bundle_look}

    def adapt(out: Path) -> None:
        main_in_process("adapt", clip, "--out", out / "out.adapt")

    def batch(out: Path) -> None:
        options = ("--device", "cpu", "--workers", 1, "--threads", 1)
        main_in_process("batch", *clips, "--out", out, *options)

    clips = several(clip, work)
    tables: dict[str, Callable[[Path], str]] = {
        **{f"{name}.csv": table_look for name in ("clips", "windows", "failures")},
        "journal.jsonl": journal_look,
    }

    def export(out: Path) -> None:
        main_in_process("export", "--verify", clip, "--out", out / "bundle")

    training = Job("train", train, {"audio.safetensors": bytes_look}, continues=True)
    return [
        Job("infer", infer, results),
        Job("adapt", adapt, adaptation),
        Job("save", save, bundle),
        Job("batch", batch, tables, continues=True),
        *([training] if index is not None else []),
        Job("export", export, bundle),
    ]


OUTPUTS = (("json", "json"), ("csv", "csv"), ("vtt", "vtt"), ("plot", "png"), ("video", "mp4"))
"""Options of `infer`, and the endings of their files."""


def report(result: KillsResult) -> str:
    """Format the table."""
    headings = (
        "command | seconds | kills | done before | results complete | absent | broken | "
        "earlier ones lost | workers left | then a run gives the same | leftovers then"
    )
    rows = [
        (
            c.job, f"{c.seconds:.1f}", f"{c.kills}", f"{c.ended}", f"{c.complete}", f"{c.absent}",
            f"{len(c.broken)}", f"{c.lost}", f"{c.orphans}", "yes" if c.same else "NO",
            f"{c.leftovers}",
        )
        for c in result.counts
    ]  # fmt: skip
    broken = [line for count in result.counts for line in count.broken]
    return document(
        f"SIGKILL at random moments, seed {result.seed}.\n{script.machine_line(result.machine)}",
        markdown_table(headings, rows, "lrrrrrrrrrr"),
        "\n".join(broken),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--job", action="append")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=1)
    options = script.parse(parser, arguments)
    with tempfile.TemporaryDirectory() as folder:
        chosen = jobs(options.clip, Path(folder), options.index, options.weights)
        if options.job:
            chosen = [job for job in chosen if job.name in options.job]
        if {job.name for job in chosen} & {"export", "train"}:  # loaded once, not in each process
            for module in (
                "export.cli",
                "export.build",
                "train.cli.main",
                "torch.onnx",
                "onnxruntime",
            ):
                importlib.import_module(module)
        rng = random.Random(options.seed)
        counts = []
        for job in chosen:
            counts.append(kill_all(job, Path(folder), options.kills, rng))
            script.log(repr(counts[-1]))
    result = KillsResult(describe_machine(), options.seed, counts)
    script.publish(report(result), result, options.json)
    if any(c.broken or c.lost or c.orphans or not c.same for c in counts):
        sys.exit(1)


if __name__ == "__main__":
    script.run(main)
