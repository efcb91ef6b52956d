"""Compare parts of mfer-edge with other packages that do the same.

`python -m benchmarks.cpu.peers [--clip CLIP] [--bundle DIR]... [--rounds N] [--json PATH]`:

- VAD: the silero-vad package, by PyTorch and by ONNX, and ours;
- ViT-B/16, one face and a window's 20 in one call: transformers, eager and compiled, and the
  bundles of the full size that are named;
- emotion2vec on 4 s: funasr, funasr's own export to ONNX, and those bundles, whose engine also
  holds the audio arm's GRU.

Everything runs in a process of its own, on all cores that this process may use; only processes of
PyTorch packages load PyTorch. Weights are random: they cost what trained ones cost. Face detection
has a script of its own: `python -m benchmarks.cpu.face_front_end`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpu import peer_jobs
from benchmarks.harness import script
from benchmarks.harness.processes import Job
from benchmarks.harness.rounds import JobSeries, Spread, run_rounds, time_ratio
from benchmarks.harness.systems import HOW_TO_EXPORT, write_reference_weights
from benchmarks.harness.tables import document, markdown_table
from benchmarks.harness.third_party import VERSIONS
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.samples import ANGER
from mfer_edge.sources.clip import read_audio

FACES = (1, 20)  # in one call: a new frame's, and a window's


@dataclass(frozen=True)
class PeerGroup:
    """Jobs that do the same; the first is what the others are compared with."""

    what: str  # is counted
    units: int  # of it in a pass
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class PeerTime:
    """Time of one job of a group."""

    part: str
    name: str
    ms: Spread | None  # for a unit; None where it failed
    faster: Spread | None  # how many times, than the first
    failure: str | None

    def cells(self) -> tuple[str, ...]:
        """Format a row of the table."""
        if self.ms is None:
            return self.part, self.name, f"not run: {self.failure}", "", ""
        faster = f"{self.faster.median:.2f}" if self.faster else ""
        return self.part, self.name, f"{self.ms.median:.2f}", str(self.ms), faster


@dataclass(frozen=True)
class PeersResult:
    """Times of all groups."""

    machine: Machine
    clip: str
    rounds: int
    rows: list[PeerTime]


def peer_groups(
    clip: str, bundles: Mapping[str, str], weights: str, exported: str
) -> list[PeerGroup]:
    """List what is compared.

    Args:
        bundles: names of bundles of the full size, by folder.
        weights: folder of the reference's; needed where there are bundles.
        exported: folder of funasr's export; the same.
    """

    def job(name: str, opener: Callable[..., object], *arguments: str) -> Job:
        return Job(name, f"{opener.__module__}:{opener.__name__}", arguments)

    vad = (
        job("silero-vad, PyTorch", peer_jobs.silero_torch, clip),
        job("silero-vad, ONNX", peer_jobs.silero_onnx, clip),
        job("mfer-edge", peer_jobs.mfer_edge_vad, clip),
    )
    groups = [PeerGroup("VAD, a second of audio", peer_jobs.VAD_S, vad)]
    if not bundles:
        return groups
    for count in FACES:
        n = str(count)
        vit = (
            job("transformers", peer_jobs.transformers_vit, weights, n),
            job("transformers, torch.compile", peer_jobs.transformers_vit, weights, n, "compiled"),
            *(job(name, peer_jobs.mfer_edge_face, folder, n) for folder, name in bundles.items()),
        )
        groups.append(PeerGroup(f"ViT-B/16, a face of {n} in a call", count, vit))
    emotion2vec = (
        job("funasr", peer_jobs.funasr_emotion2vec, weights, clip),
        job("funasr's own ONNX export", peer_jobs.funasr_onnx, exported, clip),
        *(job(name, peer_jobs.mfer_edge_audio, folder, clip) for folder, name in bundles.items()),
    )
    return [*groups, PeerGroup(f"emotion2vec, {peer_jobs.WINDOW_S} s of audio", 1, emotion2vec)]


def peer_times(group: PeerGroup, series: Sequence[JobSeries]) -> list[PeerTime]:
    """Compute the times for a unit, and ratios with the first."""
    times = []
    for one in series:
        if one.failure is not None:
            times.append(PeerTime(group.what, one.name, None, None, one.failure))
            continue
        ms = Spread.of([1000 * run.pass_s / group.units for run in one.runs])
        times.append(PeerTime(group.what, one.name, ms, time_ratio(series[0], one), None))
    return times


def measure(clip: Path, bundles: Sequence[Path], rounds: int) -> PeersResult:
    """Time all groups.

    Args:
        bundles: of the full size.

    Raises:
        MferError: the clip or a bundle can't be used.
    """
    read_audio(clip)  # it can be read
    named = {str(path): f"mfer-edge {Bundle.open(path).manifest.precision}" for path in bundles}
    rows: list[PeerTime] = []
    with tempfile.TemporaryDirectory() as folder:
        weights, exported = Path(folder) / "weights", Path(folder) / "funasr"
        if bundles:
            write_reference_weights(str(weights))
            peer_jobs.export_with_funasr(weights, exported)
        for group in peer_groups(str(clip), named, str(weights), str(exported)):
            script.log(group.what)
            rows += peer_times(group, run_rounds(group.jobs, rounds))
    return PeersResult(describe_machine(), clip.name, rounds, rows)


def markdown(result: PeersResult) -> str:
    """Format the table."""
    summary = f"Clip: {result.clip}; {result.rounds} rounds.\n"
    summary += script.machine_line(result.machine, ["torch", *VERSIONS])
    headings = "part | by | median ms | fastest to slowest | times as fast as the first"
    note = "Face detection: python -m benchmarks.cpu.face_front_end."
    return document(summary, markdown_table(headings, [row.cells() for row in result.rows]), note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--clip", type=Path, default=ANGER)
    parser.add_argument("--bundle", type=Path, action="append", default=[], dest="bundles")
    options = script.parse(parser, arguments)
    result = measure(options.clip, options.bundles, options.rounds)
    text = document(markdown(result), "" if options.bundles else HOW_TO_EXPORT)
    script.publish(text, result, options.json)


if __name__ == "__main__":
    script.run(main)
