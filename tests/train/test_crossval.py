"""Cross-validation: no arm is tested on people of its training part, and a kill changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.paths import shared_data
from tests.train.cli_runs import Datasets
from tests.train.synthetic import CAST
from train.crossval import Clips, CrossValidation, CrossvalOptions, fold_run
from train.crossval.fold_run import FoldRun
from train.data.catalogue import DATASETS
from train.data.context import DataContext
from train.data.features import Features
from train.data.folds import LUNA_JIMENEZ_FOLDS, Fold, folds
from train.data.index import Entry, read_index
from train.errors import TrainError
from train.evaluate.predictions import Predictions, Run, read_run
from train.labels import EMOTIONS, FOUR_EMOTIONS
from train.models.fusion import FittedFusion, fit_fusion
from train.presets import PRESETS
from train.run import RunContext
from train.state import TrainState
from train.train_arms import train_first_stage

pytestmark = pytest.mark.usefixtures("small")
TAKES = 4


def entry(actor: int, take: int, kind: str = "av", dataset: str = "ravdess") -> Entry:
    label = EMOTIONS[(CAST.index(actor) * TAKES + take) % 8]
    name = f"{dataset}/{actor:02}-{take}"
    return Entry(
        Path(f"/{name}"), -1, dataset, kind, label, f"{dataset}/{actor:02}", "", "", name, name
    )


def sequences(entries: list[Entry], width: int, has: np.ndarray, seed: int) -> list[list]:
    """Features, two views of each, that tell a little of the label: (steps, width) float16."""
    random = np.random.default_rng(seed)
    made = []
    for clip, there in zip(entries, has, strict=True):
        views = random.normal(0, 1, (2, random.integers(2, 7), width))
        views[:, :, EMOTIONS.index(clip.label)] += 1
        made.append([view.astype(np.float16) if there else view[:0] for view in views])
    return made


def clips_of(entries: list[Entry], seed: int = 0) -> Clips:
    heard = np.array([clip.has_sound for clip in entries])
    seen = np.array([clip.has_pictures for clip in entries])
    truth = np.array([EMOTIONS.index(clip.label) for clip in entries])
    faces = Features(sequences(entries, 24, seen, seed))
    return Clips(entries, EMOTIONS, truth, Features(sequences(entries, 24, heard, seed + 1)), faces)


ENTRIES = [entry(actor, take) for actor in CAST for take in range(TAKES)]
SUBJECT = CrossvalOptions("subject")


@pytest.fixture(scope="module")
def paper(small: None, tmp_path_factory: pytest.TempPathFactory) -> DataContext:
    folder = tmp_path_factory.mktemp("context")
    return DataContext(PRESETS["paper"], folder, folder / "cache", random_init=True)


def without_choice(paper: DataContext) -> DataContext:
    """The same backbones under the stages of `compact`: the last epoch, and weighted logits."""
    preset = PRESETS["compact"]
    return DataContext(
        replace(paper.preset, name="compact", visual=preset.visual, audio_two=preset.audio_two,
                combined=None),
        Path(), paper.cache.folder, random_init=True,
    )  # fmt: skip


def no_state(data: DataContext) -> RunContext:
    """A run that writes nothing."""
    return RunContext(data, [], Path(), save_state=False)


def predict_fold(run: RunContext, clips: Clips, fold: Fold) -> dict[str, Predictions]:
    return by_arm(FoldRun(run, clips, SUBJECT, fold).predictions())


def cross_validate(
    data: DataContext,
    clips: Clips,
    out: Path,
    options: CrossvalOptions = SUBJECT,
    *,
    save_state: bool = True,
    seed: int = 0,
) -> None:
    run = RunContext(data, [], out, seed, save_state=save_state)
    CrossValidation(run, clips, options).run_folds()


def by_arm(predictions: list[Predictions]) -> dict[str, Predictions]:
    return {part.arm: part for part in predictions}


def test_no_actor_and_no_copy_is_on_two_sides_of_the_real_ravdess() -> None:
    entries = []
    for found in DATASETS["ravdess"].scan(shared_data("RAVDESS")):
        assert isinstance(found, Entry)
        entries.append(replace(found, content=hashlib.sha256(found.path.read_bytes()).hexdigest()))
    assert len(entries) == 1439
    tested: list[int] = []
    for fold, published in zip(folds(entries, "subject"), LUNA_JIMENEZ_FOLDS, strict=True):
        sides = [fold.train, fold.valid, fold.test]
        for what in ("actor", "content", "take"):
            kinds = [{getattr(entries[index], what) for index in side} for side in sides]
            assert len(set.union(*kinds)) == sum(map(len, kinds))
        assert {entries[i].actor for i in fold.test} == {f"ravdess/{a:02}" for a in published}
        tested += fold.test.tolist()
    assert sorted(tested) == list(range(1439))


def kept_weights(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights that every stage of a fold has kept."""
    return {
        state.parent.name: torch.load(state, weights_only=True)["kept_weights"]
        for state in run.rglob("last.pt")
    }


def with_other_tests(clips: Clips, test: np.ndarray) -> Clips:
    """The same, with something else in place of what is tested on, and other labels."""
    faces, voices, truth = list(clips.faces.sequences), list(clips.voices.sequences), clips.truth
    for index in test:
        faces[index] = [np.ones_like(view) for view in faces[index]]
        voices[index] = [np.ones_like(view) for view in voices[index]]
    truth = truth.copy()
    truth[test] = (truth[test] + 3) % 8
    return replace(clips, faces=Features(faces), voices=Features(voices), truth=truth)


def test_the_test_part_affects_no_weights(paper: DataContext, tmp_path: Path) -> None:
    clips = clips_of(ENTRIES)
    fold = folds(ENTRIES, "subject")[0]
    kept = []
    for number, given in enumerate((clips, with_other_tests(clips, fold.test))):
        said = predict_fold(RunContext(paper, [], tmp_path / str(number)), given, fold)
        kept.append((kept_weights(tmp_path / str(number)), said))
    (one, said_one), (other, said_other) = kept
    assert set(one) == set(other) == {"audio", "visual", "combined"}
    for stage, weights in one.items():
        assert all(value.equal(other[stage][name]) for name, value in weights.items()), stage
    for arm in said_one:
        assert not np.array_equal(said_one[arm].logits, said_other[arm].logits)


@pytest.fixture
def fusions(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """All numbers of every fusion that is fitted from now on."""
    fitted: list[np.ndarray] = []

    def fit(*arguments: np.ndarray) -> FittedFusion:
        made = fit_fusion(*arguments)
        numbers = [np.array([made.visual_temperature, made.audio_temperature])]
        numbers += [value.numpy().ravel() for value in made.pool.state_dict().values()]
        fitted.append(np.concatenate(numbers))
        return made

    monkeypatch.setattr(fold_run, "fit_fusion", fit)
    return fitted


def test_fusion_weights_are_fitted_on_unseen_people(
    paper: DataContext, fusions: list[np.ndarray]
) -> None:
    run = no_state(without_choice(paper))
    clips, fold = clips_of(ENTRIES), folds(ENTRIES, "subject")[0]
    predict_fold(run, clips, fold)
    predict_fold(run, with_other_tests(clips, fold.test), fold)
    found, with_other_test = fusions
    np.testing.assert_array_equal(with_other_test, found)
    # What is held back decides them, and nothing else does: neither arm has learned from it.
    other_valid = with_other_tests(clips, fold.valid)
    moved = predict_fold(run, other_valid, fold)
    np.testing.assert_array_equal(
        moved["audio"].logits,
        predict_fold(run, clips, fold)["audio"].logits,
    )
    assert np.abs(fusions[2] - found).max() > 0.05


def test_the_first_stage_learns_from_other_datasets_alone(
    datasets: Datasets, paper: DataContext
) -> None:
    entries = read_index(datasets.filmed)
    data = DataContext(paper.preset, datasets.weights, datasets.cache)
    others = [e for e in entries if e.dataset in ("crema-d", "shemo", "urdu", "saudi")]
    run = replace(no_state(data), entries=entries)
    arm, alone = train_first_stage(run), train_first_stage(replace(run, entries=others))
    assert arm is not None and alone is not None
    assert arm.classifier.out_features == len(FOUR_EMOTIONS)
    for one, other in zip(arm.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)
    rest = [e for e in entries if e not in others]
    assert train_first_stage(replace(run, entries=rest)) is None


def test_every_recording_is_judged_once_by_each_arm(paper: DataContext, tmp_path: Path) -> None:
    """Some can only be heard, some only be seen."""
    kinds = ["av", "av", "audio", "video"]
    entries = [replace(e, kind=kinds[(n // TAKES + n) % 4]) for n, e in enumerate(ENTRIES)]
    clips = clips_of(entries)
    options = replace(SUBJECT, baseline=True)
    cross_validate(paper, clips, tmp_path, options, save_state=False)
    _, predictions = read_run(tmp_path)
    for arm, kind in {"visual": "video", "audio": "audio", "svm": "audio"}.items():
        judged = sorted(p for part in predictions if part.arm == arm for p in part.paths)
        assert judged == sorted(str(e.path) for e in entries if e.kind in ("av", kind))
    joint = sorted(p for part in predictions if part.arm == "combined" for p in part.paths)
    assert joint == sorted(str(e.path) for e in entries if e.kind == "av")
    label_of = {str(e.path): e.label for e in entries}
    for part in predictions:
        assert [part.labels[n] for n in part.truth] == [label_of[path] for path in part.paths]
        assert {f"{d}/" for d in part.datasets} == {"ravdess/"}


def test_a_fold_with_nobody_to_judge_is_no_hindrance(paper: DataContext, tmp_path: Path) -> None:
    """An actor who is on silent films alone, in none of which a face is found."""
    entries = [replace(e, kind="video") if e.actor.endswith("22") else e for e in ENTRIES]
    clips = clips_of(entries)
    faces = [
        [view[:0] for view in views] if entry.kind == "video" else views
        for entry, views in zip(entries, clips.faces.sequences, strict=True)
    ]
    clips = replace(clips, faces=Features(faces))
    options = CrossvalOptions("loso", baseline=True, only=("ravdess-22", "ravdess-01"))
    cross_validate(paper, clips, tmp_path, options, save_state=False)
    assert {part.fold for part in read_run(tmp_path)[1]} == {"ravdess-01"}


@pytest.fixture(scope="module")
def unbroken(paper: DataContext, tmp_path_factory: pytest.TempPathFactory) -> list[Predictions]:
    """What an unbroken cross-validation says."""
    out = tmp_path_factory.mktemp("unbroken")
    cross_validate(paper, clips_of(ENTRIES), out)
    return read_run(out)[1]


def assert_same(found: list[Predictions], expected: list[Predictions]) -> None:
    assert [(p.fold, p.arm, p.paths) for p in found] == [(p.fold, p.arm, p.paths) for p in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the process, as it were, after every ninth epoch of any stage."""
    saved = TrainState.save
    count = 0

    def save(*arguments: object) -> None:
        nonlocal count
        saved(*arguments)  # type: ignore[arg-type]
        count += 1
        if count % 9 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainState, "save", save)
    yield


@pytest.mark.usefixtures("killed_after")
def test_killed_anywhere_it_goes_on_and_says_the_same(
    paper: DataContext, unbroken: list[Predictions], tmp_path: Path
) -> None:
    kills = 0
    while True:
        try:
            cross_validate(paper, clips_of(ENTRIES), tmp_path)
            break
        except KeyboardInterrupt:
            kills += 1
            torch.manual_seed(kills)  # a new process has its own random numbers
    assert kills == 5 * 6 // 9  # folds, epochs of all their stages
    assert_same(read_run(tmp_path)[1], unbroken)


def test_folds_that_are_done_are_not_redone(
    paper: DataContext, unbroken: list[Predictions], tmp_path: Path
) -> None:
    clips = clips_of(ENTRIES)
    for only in (("2",), ("1", "3"), ()):
        cross_validate(paper, clips, tmp_path, replace(SUBJECT, only=only))
        done = {path.parent.name for path in tmp_path.glob("fold-*/done")}
        if only == ("2",):
            assert done == {"fold-2"}
            before = (tmp_path / "fold-2" / "audio" / "last.pt").stat().st_mtime_ns
    assert len(done) == 5
    assert (tmp_path / "fold-2" / "audio" / "last.pt").stat().st_mtime_ns == before
    assert_same(read_run(tmp_path)[1], unbroken)


def test_killed_before_a_fold_is_said_to_be_done_it_says_the_same(
    paper: DataContext, unbroken: list[Predictions], tmp_path: Path
) -> None:
    clips = clips_of(ENTRIES)
    for _ in range(2):
        cross_validate(paper, clips, tmp_path)
        (tmp_path / "fold-4" / "done").unlink(missing_ok=True)
        (tmp_path / "fold-4" / "combined.npz").unlink(missing_ok=True)
    cross_validate(paper, clips, tmp_path)
    assert_same(read_run(tmp_path)[1], unbroken)


@pytest.fixture
def begun(paper: DataContext, tmp_path: Path) -> Path:
    cross_validate(paper, clips_of(ENTRIES), tmp_path, replace(SUBJECT, only=("1",)))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "seed", "says"),
    [
        (CrossvalOptions("paper"), 0, r"another protocol \(subject\)"),
        (SUBJECT, 1, r"another seed \(0\)"),
        (CrossvalOptions("subject", fine_tuned_voice=1), 0, r"another plan"),
        (CrossvalOptions("subject", baseline=True), 0, r"another plan"),
    ],
)
def test_another_cross_validation_is_kept_out_of_the_folder(
    options: CrossvalOptions, seed: int, says: str, paper: DataContext, begun: Path
) -> None:
    with pytest.raises(TrainError, match=says) as error:
        cross_validate(paper, clips_of(ENTRIES), begun, options, seed=seed)
    assert "\n" not in str(error.value) and str(begun) in str(error.value)


def test_other_recordings_are_kept_out_of_the_folder(paper: DataContext, begun: Path) -> None:
    others = [replace(e, content=f"other {e.content}") for e in ENTRIES]
    for entries in (ENTRIES[:-1], others):
        with pytest.raises(TrainError, match="another"):
            cross_validate(paper, clips_of(entries), begun)


def test_another_preset_is_kept_out_of_the_folder(paper: DataContext, begun: Path) -> None:
    with pytest.raises(TrainError, match=r"another preset \(paper\)"):
        cross_validate(without_choice(paper), clips_of(ENTRIES), begun)


def test_a_fold_that_is_not_there_is_said(paper: DataContext, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no fold 7: there are 1, 2, 3, 4, 5"):
        cross_validate(paper, clips_of(ENTRIES), tmp_path, replace(SUBJECT, only=("7",)))


def test_the_plan_on_disk_keeps_its_form(begun: Path) -> None:
    """Folders of earlier versions are resumed."""
    plan = json.loads((begun / "plan.json").read_text())
    content = " ".join(sorted(e.content for e in ENTRIES))
    assert list(plan.items()) == [
        ("protocol", "subject"), ("seed", 0), ("fine_tuned_voice", 0), ("fine_tuned_face", 0),
        ("baseline", False), ("only", []), ("first_stage", False), ("classes", 8),
        ("recordings", hashlib.sha256(content.encode()).hexdigest()),
    ]  # fmt: skip


def test_the_run_says_how_it_was_made(paper: DataContext, begun: Path) -> None:
    run = Run.read(begun)
    assert (run.protocol, run.preset, run.seed) == ("subject", "paper", 0)
    assert run.datasets == {"ravdess": len(ENTRIES)}
    assert run.versions["torch"] == torch.__version__
