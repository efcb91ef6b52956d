"""Training of arms to keep: which actors they are trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.arm_runs import (
    Compact,
    actors_of,
    context,
)
from train.data.context import DataContext
from train.data.index import DatasetError, Entry
from train.presets import PRESETS
from train.train_arms import held_out_split, train_visual_arm

pytestmark = pytest.mark.usefixtures("small")


def test_both_arms_hold_back_the_same_actors(arms: Path, filmed: list[Entry]) -> None:
    everyone = {e.actor for e in filmed}
    faces, voices = actors_of(arms, "visual"), actors_of(arms, "audio")
    assert voices < everyone
    assert faces == voices & {e.actor for e in filmed if e.has_pictures}


def test_held_out_actors_do_not_depend_on_the_chosen_recordings(
    paper: DataContext, filmed: list[Entry]
) -> None:
    options = PRESETS["paper"].visual.options
    for seed in range(5):
        run = context(paper, filmed, seed=seed)
        every = held_out_split(run, filmed, options, everything=False)
        held = {filmed[index].actor for index in every.valid}
        assert held and not held & {filmed[index].actor for index in every.train}
        some = filmed[::3]
        split = held_out_split(run, some, options, everything=False)
        assert {some[index].actor for index in split.valid} <= held
        assert not {some[index].actor for index in split.train} & held
        assert sorted([*split.train, *split.valid]) == list(range(len(some)))


def test_images_add_no_actor(compact: Compact) -> None:
    _, entries, arms = compact
    assert actors_of(arms, "visual") == set()
    assert actors_of(arms, "audio") < {e.actor for e in entries if e.actor}


def test_images_of_each_emotion_are_needed(compact: Compact, tmp_path: Path) -> None:
    data, entries, _ = compact
    fewer = [e for e in entries if e.kind != "image" or e.label not in ("neutral", "fearful")]
    with pytest.raises(DatasetError, match="images none is fear or neutral"):
        train_visual_arm(context(data, fewer, tmp_path), everything=False)
    with pytest.raises(DatasetError, match="no recordings with faces, and no images"):
        spoken = [e for e in entries if e.has_sound]
        train_visual_arm(context(data, spoken, tmp_path), everything=False)
    assert not list(tmp_path.iterdir())


def test_videos_of_four_emotions_do_not_train_the_visual_arm(
    compact: Compact, tmp_path: Path
) -> None:
    """CREMA-D comes with films too; beside them pictures serve as ever."""
    data, entries, arms = compact
    film = replace(entries[0], dataset="crema-d", kind="av", actor="crema-d/1001")
    train_visual_arm(context(data, [*entries, film], tmp_path), everything=False)
    kept = (tmp_path / "visual.safetensors").read_bytes()
    assert kept == (arms / "visual.safetensors").read_bytes()
