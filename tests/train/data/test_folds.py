"""Cross-validation: every recording is tested on once, and nobody is on two sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.paths import shared_data
from train.data.folds import LUNA_JIMENEZ_FOLDS, RULES, Fold, check_leakage, folds, split_off
from train.data.index import DatasetError, Entry
from train.evaluate.predictions import PROTOCOLS
from train.labels import EMOTIONS

SHOWN = ("sad", "happy", "angry")
SIDES = ("train", "valid", "test")
KIND_OF_MODALITY = {"01": "av", "02": "video", "03": "audio"}


def entry(
    name: str,
    label: str = "sad",
    actor: str = "",
    dataset: str = "own",
    kind: str = "audio",
    take: str = "",
) -> Entry:
    """A recording that need not exist: folds are made of what the index says."""
    return Entry(
        path=Path("/data", dataset, name),
        row=-1,
        dataset=dataset,
        kind=kind,
        label=label,
        actor=f"{dataset}/{actor}" if actor else "",
        sentence="",
        split="",
        take=f"{dataset}/{take or name}",
        content=f"sha of {name}",
    )


def ravdess(*names: str) -> list[Entry]:
    """Entries of file names such as 03-01-05-01-02-01-24."""
    entries = []
    for name in names:
        modality, _, emotion, *_, actor = name.split("-")
        kind, take = KIND_OF_MODALITY[modality], name.partition("-")[2]
        label = EMOTIONS[int(emotion) - 1]
        entries.append(entry(name, label, actor, "ravdess", kind, take))
    return entries


def ravdess_names(modalities: Sequence[str] = ("03",), actors: int = 24) -> list[str]:
    """Speech of every emotion, statement and repetition, at one intensity."""
    return [
        f"{modality}-01-{emotion:02}-01-{statement:02}-{repetition:02}-{actor:02}"
        for actor in range(1, actors + 1)
        for emotion in range(1, 9)
        for statement in (1, 2)
        for repetition in (1, 2)
        for modality in modalities
    ]


RAVDESS = ravdess(*ravdess_names(("01", "03")))
SMALL_RAVDESS = ravdess(*ravdess_names(("01", "03"), actors=6))


def troupe(actors: int, each: int = 4, dataset: str = "shemo") -> list[Entry]:
    """Recordings of two emotions by actors who are known."""
    return [
        entry(f"{actor}-{take}.wav", ("happy", "sad")[take % 2], f"M{actor:02}", dataset)
        for actor in range(actors)
        for take in range(each)
    ]


@st.composite
def casts(draw: st.DrawFn) -> list[Entry]:
    """Recordings of six and more known actors and some unknown ones, who all show each emotion.

    Some performances are there in two forms, and of some files there is a copy.
    """
    entries = []
    for actor in range(draw(st.integers(6, 10))):
        # five of one dataset: no folds can be cut of strata with fewer recordings
        dataset = draw(st.sampled_from(["shemo", "urdu", "ravdess"])) if actor > 4 else "shemo"
        name = f"{actor + 30}" if actor < 6 or draw(st.booleans()) else ""
        more = draw(st.lists(st.sampled_from(SHOWN), max_size=4))
        for take, label in enumerate([*SHOWN, *more]):
            made = entry(f"{actor}-{take}.wav", label, name, dataset)
            entries.append(made)
            forms = draw(st.sampled_from(["one"] * 4 + ["two", "copied"]))
            if forms == "two":
                full = entry(
                    f"{actor}-{take}.mp4", label, name, dataset, "av", f"{actor}-{take}.wav"
                )
                entries.append(full)
            if forms == "copied":
                twin = entry(f"{actor}-{take} (1).wav", label, name, dataset)
                entries.append(replace(twin, content=made.content))
    return draw(st.permutations(entries))


def memberships(entries: Sequence[Entry], made: Sequence[Fold]) -> list[tuple[object, ...]]:
    """Who is on which side of which fold, by file names."""
    return [
        (fold.name, *({entries[i].path.name for i in getattr(fold, side)} for side in SIDES))
        for fold in made
    ]


def actors_of(entries: Sequence[Entry], indices: np.ndarray) -> set[str]:
    return {entries[index].group for index in indices}


@settings(max_examples=15)
@given(casts(), st.sampled_from(["paper", "subject", "loso"]), st.integers(0, 3))
def test_each_is_on_one_side_and_tested_on_once(
    cast: list[Entry], protocol: str, seed: int
) -> None:
    made = folds(cast, protocol, seed)
    assert sorted(np.concatenate([fold.test for fold in made])) == list(range(len(cast)))
    for fold in made:
        parts = [getattr(fold, side) for side in SIDES]
        assert sorted(np.concatenate(parts)) == list(range(len(cast)))
        for part in parts:
            assert len(part) and (np.diff(part) > 0).all()
        for what in ("take", "content", "group")[: 2 if protocol == "paper" else 3]:
            values = [{getattr(cast[index], what) for index in part} for part in parts]
            assert sum(map(len, values)) == len(set.union(*values)), what
        assert {cast[index].label for index in fold.train} == set(SHOWN)


@settings(max_examples=6)
@given(casts(), st.sampled_from(["paper", "subject", "loso"]), st.data())
def test_neither_order_nor_place_of_the_files_matters(
    cast: list[Entry], protocol: str, data: st.DataObject
) -> None:
    other = data.draw(st.permutations(cast))
    moved = [replace(e, path=Path("/elsewhere", e.path.name)) for e in other]
    expected = memberships(cast, folds(cast, protocol))
    assert memberships(other, folds(other, protocol)) == expected
    assert memberships(moved, folds(moved, protocol)) == expected


def test_the_seed_decides() -> None:
    cast = troupe(12)
    for protocol in ("paper", "subject"):
        one, again, other = (memberships(cast, folds(cast, protocol, s)) for s in (0, 0, 1))
        assert one == again != other


def test_ravdess_is_tested_on_as_published() -> None:
    made = folds(RAVDESS, "subject")
    assert [fold.name for fold in made] == ["1", "2", "3", "4", "5"]
    for fold, actors in zip(made, LUNA_JIMENEZ_FOLDS, strict=True):
        assert actors_of(RAVDESS, fold.test) == {f"ravdess/{actor:02}" for actor in actors}
        # 15 % of 19 or 20 actors, everyone with all that they recorded
        assert len(actors_of(RAVDESS, fold.valid)) == 3
        assert len(fold.valid) == 3 * len(RAVDESS) / 24


def test_the_published_folds_hold_each_actor_once() -> None:
    assert sorted(actor for fold in LUNA_JIMENEZ_FOLDS for actor in fold) == list(range(1, 25))


def test_other_datasets_join_the_published_folds() -> None:
    others = troupe(10) + [entry(f"{n}.wav", "sad", "", "saudi") for n in range(6)]
    cast = RAVDESS + others
    made = folds(cast, "subject")
    for fold, alone in zip(made, folds(RAVDESS, "subject"), strict=True):
        mine = fold.test[fold.test < len(RAVDESS)]
        np.testing.assert_array_equal(mine, alone.test)
        shemo = {actor for actor in actors_of(cast, fold.test) if actor.startswith("shemo")}
        assert len(shemo) == 2
    with_saudi = [f for f in made if "saudi/unknown" in actors_of(cast, f.test)]
    assert len(with_saudi) == 1  # they may all be one person


def test_a_ravdess_actor_whom_nobody_published_joins_too() -> None:
    cast = RAVDESS + [entry(f"{n}.wav", "sad", "25", "ravdess") for n in range(4)]
    tested = [f.name for f in folds(cast, "subject") if "ravdess/25" in actors_of(cast, f.test)]
    assert len(tested) == 1


def test_one_actor_is_left_out_at_a_time() -> None:
    made = folds(RAVDESS, "loso")
    assert [fold.name for fold in made] == [f"ravdess-{actor:02}" for actor in range(1, 25)]
    for fold in made:
        assert actors_of(RAVDESS, fold.test) == {fold.name.replace("-", "/")}
        assert len(actors_of(RAVDESS, fold.valid)) in (3, 4)


def test_random_folds_are_stratified_and_know_no_actors() -> None:
    cast = SMALL_RAVDESS + troupe(8, each=10)
    for fold in folds(cast, "paper"):
        assert len(actors_of(cast, fold.test) & actors_of(cast, fold.train)) > 10
        whole = Counter((e.dataset, e.label) for e in cast)
        for part, share in ((fold.test, 0.2), (fold.valid, 0.8 / 7), (fold.train, 0.8 * 6 / 7)):
            counts = Counter((cast[index].dataset, cast[index].label) for index in part)
            for stratum, count in whole.items():
                assert counts[stratum] == pytest.approx(share * count, abs=4), stratum


def test_the_sound_of_a_film_stays_with_it() -> None:
    for fold in folds(SMALL_RAVDESS, "paper"):
        for side in SIDES:
            kinds = Counter(SMALL_RAVDESS[index].take for index in getattr(fold, side))
            assert set(kinds.values()) == {2}


def test_real_recordings_are_shared_out_by_their_names() -> None:
    names = sorted(path.stem for path in shared_data("RAVDESS").rglob("*.flac"))
    cast = ravdess(*names)
    made = folds(cast, "subject")
    # every actor has 60 recordings, but for one of actor 7's, which was a copy
    assert [len(fold.test) for fold in made] == [300, 299, 300, 300, 240]
    assert {e.label for e in cast} == set(EMOTIONS)


@pytest.mark.parametrize("protocol", ["paper", "subject"])
def test_what_is_held_back_is_apart(protocol: str) -> None:
    learned, held_back = split_off(RAVDESS, protocol)
    assert sorted([*learned, *held_back]) == list(range(len(RAVDESS)))
    assert len(held_back) == pytest.approx(0.15 * len(RAVDESS), rel=0.2)
    check_leakage(RAVDESS, Fold("", learned, held_back, held_back[:0]), protocol)
    with pytest.raises(DatasetError, match="too few"):
        split_off(RAVDESS[:2], protocol)  # one performance, in two forms


@pytest.mark.parametrize(
    ("cast", "protocol", "count", "says"),
    [
        (RAVDESS, "random", 5, "no protocol 'random': there are paper, subject, loso"),
        (RAVDESS, "paper", 1, "2 or more"),
        (RAVDESS, "subject", 4, "RAVDESS's published ones are 5"),
        ([], "paper", 5, "no recordings"),
        (troupe(4), "subject", 5, "fold 5: nothing is left for its test part; .* few actors"),
        (troupe(2), "loso", 5, "fold shemo-M00: nothing is left for its train part; .* actors"),
        (troupe(1, each=4), "paper", 5, "nothing is left for its train part; .* few recordings"),
        (RAVDESS[:64], "subject", 5, "nothing is left for its test part"),
        ([entry(f"{n}.wav", dataset="saudi") for n in range(99)], "loso", 5,
         "saudi: the actors are unknown"),
        ([entry(f"{n}.wav", dataset="saudi") for n in range(99)], "subject", 5,
         "saudi: the actors are unknown"),
        ([*troupe(20), entry("x.wav", "calm", "M03", "shemo")], "loso", 5,
         "fold shemo-M03: its training part has no recording that is calm"),
        ([*troupe(20), entry("x.png", kind="image")], "paper", 5, r"x\.png: .* is an image"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said(
    cast: list[Entry], protocol: str, count: int, says: str
) -> None:
    with pytest.raises(DatasetError, match=says) as error:
        folds(cast, protocol, count=count)
    assert "\n" not in str(error.value)


def test_a_copy_that_another_actor_is_named_for_is_leakage() -> None:
    cast = [*RAVDESS, replace(RAVDESS[0], path=Path("/data/x.wav"), actor="ravdess/02")]
    with pytest.raises(DatasetError, match=r"x\.wav has a take in its .* part"):
        folds(cast, "subject")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"take": "own/0"}, "take"),
        ({"content": "sha of 0"}, "content"),
        ({"actor": "own/0"}, "actor"),
    ],
)
def test_what_is_on_two_sides_is_found(change: dict[str, str], says: str) -> None:
    cast = [entry(str(number), actor=str(number)) for number in range(3)]
    fold = Fold("1", np.array([0]), np.array([1]), np.array([2]))
    for protocol in ("paper", "subject", "loso"):
        check_leakage(cast, fold, protocol)
        for side in (1, 2):
            leaky = list(cast)
            leaky[side] = replace(leaky[side], **change)  # type: ignore[arg-type]
            if protocol == "paper" and says == "actor":
                check_leakage(leaky, fold, protocol)
                continue
            with pytest.raises(DatasetError, match=f"{says} in its {SIDES[side]} part.*train"):
                check_leakage(leaky, fold, protocol)


def test_an_index_on_two_sides_is_found() -> None:
    fold = Fold("1", np.array([0, 1]), np.array([1]), np.array([2]))
    with pytest.raises(DatasetError, match="valid part that is in the train part too"):
        check_leakage([entry(str(number)) for number in range(3)], fold, "paper")


def test_every_protocol_has_rules_and_a_description() -> None:
    assert RULES.keys() | {"corpus"} == PROTOCOLS.keys()  # its folds are in corpus_folds
