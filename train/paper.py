"""The paper's training from data sets to a bundle: its steps, what they cost, and their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfer_edge.cpu import core_count
from mfer_edge.outputs.files import make_folder, write_text
from train.crossval import Clips, CrossValidation, CrossvalOptions
from train.data.context import DataContext, label_clips
from train.data.index import Entry, read_index, write_index
from train.data.scan import Gathered
from train.errors import TrainError
from train.evaluate.report import write_report
from train.fuse import assemble, read_unseen
from train.presets import PAPER, PRESETS, Preset
from train.run import RunContext
from train.train_arms import train_audio_arm, train_first_stage, train_visual_arm

PROTOCOLS = ("paper", "subject")  # random folds as in the paper, and people left out
FOLDS = 5  # of each

# What a recording costs on two cores of an AMD EPYC, on which the backbones took 0.70 s for 4 s of
# voice and 0.30 s for a face. A recording of these data sets has about 3.5 s and 18 faces.
VOICE_S, FACES_S = 0.6, 5.5  # for one view of its speech, of its faces
PREPARE_S = 1.0  # decoding and detection
EPOCH_S = 0.004  # for one epoch of an arm on features
MEASURED_CORES = 2
VOICE_MB, FACES_MB, CROPS_MB = 0.54, 0.06, 1.2  # on disk
BUNDLE_MB = 200 + 740  # int8, and the checkpoint
WEIGHTS_MB = 1_400  # that --download fetches


@dataclass(frozen=True)
class Step:
    """One step, what it roughly costs, and whether it is done."""

    name: str
    hours: float
    disk_mb: float
    done: bool


@dataclass(frozen=True)
class PaperRun:
    """The settings of a run, and where its parts lie below its folder."""

    sources: tuple[tuple[str, Path], ...]  # data sets and their folders
    out: Path
    weights: Path
    random_init: bool = False
    seed: int = 0

    @property
    def preset(self) -> Preset:
        return PRESETS[PAPER.name]

    @property
    def index(self) -> Path:
        return self.out / "index.csv"

    @property
    def model(self) -> Path:
        return self.out / "model"

    @property
    def report(self) -> Path:
        return self.out / "report"

    @property
    def bundle(self) -> Path:
        return self.out / "bundle"

    def crossval(self, protocol: str) -> Path:
        """Folder of a cross-validation."""
        return self.out / f"crossval-{protocol}"

    def claim_folder(self) -> None:
        """Write the settings into the run's folder, or compare them with those of an earlier start.

        Raises:
            TrainError: the folder holds a run of other settings.
            OutputError: it can't be written to.
        """
        settings = {
            "sources": {name: str(folder.resolve()) for name, folder in self.sources},
            "random_init": self.random_init,
            "seed": self.seed,
        }
        path = self.out / "settings.json"
        if not path.is_file():
            make_folder(self.out, "a run")
            write_text(path, json.dumps(settings, indent=1) + "\n")
        elif json.loads(path.read_text(encoding="utf-8")) != settings:
            raise TrainError(
                f"{path}: of a run with other data, seed or weights: name another --out"
            )


def plan(run: PaperRun, entries: Sequence[Entry], *, download: bool) -> list[Step]:
    """The steps in their order, with estimates of time and disk for this machine's cores."""
    spoken = sum(entry.has_sound for entry in entries)
    shown = sum(entry.has_pictures for entry in entries)
    hour = 3600 * core_count() / MEASURED_CORES
    preset = run.preset
    voice_h = spoken * (PREPARE_S + VOICE_S * preset.views) / hour
    faces_h = shown * (PREPARE_S + FACES_S * preset.face_views) / hour
    features_mb = spoken * VOICE_MB * preset.views + shown * (
        FACES_MB * preset.face_views + CROPS_MB
    )
    of_voice = preset.audio_two.options.epochs * preset.views
    of_faces = preset.visual.options.epochs * preset.face_views
    train_h = EPOCH_S * (spoken * of_voice + shown * of_faces) / hour
    folds_h = FOLDS * train_h
    scored = [run.crossval(protocol) / "run.json" for protocol in PROTOCOLS]
    steps = [
        Step("index", 0.01 * len(entries) / hour, 1, run.index.is_file()),
        Step("features", voice_h + faces_h, features_mb, False),
        *(
            Step(f"cross-validation, {protocol} folds", folds_h, 50, path.is_file())
            for protocol, path in zip(PROTOCOLS, scored, strict=True)
        ),
        Step("three stages", train_h, 750, (run.model / "model.safetensors").is_file()),
        Step("tables", 0.01, 5, (run.report / "report.md").is_file()),
        Step("bundle", 0.1, BUNDLE_MB, (run.bundle / "manifest.json").is_file()),
    ]
    if download:
        steps.insert(0, Step("weights", 0.05, WEIGHTS_MB, run.weights.is_dir()))
    return steps


def plan_text(steps: Sequence[Step]) -> str:
    """Table of the steps, with their sums."""
    rows = [f"  {'step':<32}{'hours':>8}{'GB':>8}"]
    for step in steps:
        cost = f"{step.hours:8.1f}{step.disk_mb / 1e3:8.1f}"
        rows.append(f"  {step.name:<32}{cost}{'  done' if step.done else ''}".rstrip())
    left = [step for step in steps if not step.done]
    hours, disk_gb = sum(step.hours for step in left), sum(step.disk_mb for step in left) / 1e3
    rows.append(f"  {'to do':<32}{hours:8.1f}{disk_gb:8.1f}")
    rows.append(f"Rough, for {core_count()} cores: a third to three times as much is possible.")
    return "\n".join(rows)


def train_paper(
    run: PaperRun,
    gathered: Gathered | None,
    export: Callable[[Path, Path], None],
    print_line: Callable[[str], None],
) -> None:
    """Run every step that is not done; a run that was stopped goes on where it was.

    The cross-validations come first: that of people left out calibrates the model, which is then
    trained on everybody.

    Args:
        gathered: what the data sets hold; None if the index is there.
        export: makes a bundle, of which the folder is given second, from a checkpoint's folder.

    Raises:
        MferError: a step failed; what was finished stays.
    """
    run.claim_folder()
    if gathered is not None:
        print_line("index")
        write_index(gathered.entries, run.index)
    entries = read_index(run.index)
    data = DataContext(run.preset, run.weights, run.out / "cache", run.random_init, [])
    print_line("features")
    data.voice_features([entry for entry in entries if entry.has_sound])
    data.face_features([entry for entry in entries if entry.has_pictures])
    for protocol in PROTOCOLS:
        print_line(f"cross-validation, {protocol} folds")
        _validate(RunContext(data, entries, run.crossval(protocol), run.seed), protocol)
    if not (run.model / "model.safetensors").is_file():
        print_line("three stages")
        _train(RunContext(data, entries, run.model, run.seed), run.crossval("subject"))
    print_line("tables")
    write_report([run.crossval(protocol) for protocol in PROTOCOLS], run.report)
    if not (run.bundle / "manifest.json").is_file():
        print_line("bundle")
        export(run.model, run.bundle)


def _validate(context: RunContext, protocol: str) -> None:
    preset = context.preset
    chosen = label_clips(context.entries, preset)
    clips = Clips.extract(context.data, chosen, preset.labels, faces=True)
    options = CrossvalOptions(protocol, preset.fine_tuned, 0)
    first_stage = train_first_stage(context)
    command = "mfer-edge train paper"
    CrossValidation(context, clips, options, first_stage=first_stage, command=command).run_folds()


def _train(context: RunContext, unseen: Path) -> None:
    predictions = read_unseen(unseen, context.preset)
    train_visual_arm(context, everything=True)
    train_audio_arm(context, everything=True, fine_tuned=context.preset.fine_tuned)
    assemble(context, predictions, None)
