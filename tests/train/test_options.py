"""Options of a training: what they allow for, and the learning rate of a cosine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.errors import TrainError
from train.options import StageContext, TrainOptions, cosine_factor

CONSTANT = TrainOptions(epochs=4, learning_rate=5e-3, schedule="constant")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schedule": "steps"}, "schedule 'steps': it is constant or exponential"),
        ({"optimizer": "lion"}, "optimizer 'lion': it is adamw or adam"),
        ({"keep": "all"}, "keep 'all': it is best or last"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"accumulate": -1}, "accumulate is -1"),
        ({"finish_epochs": 5}, "finish_epochs is 5, of 4"),
    ],
)
def test_options_that_can_t_be(change: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainError, match=says):
        TrainOptions(**{**asdict(CONSTANT), **change})


@given(epochs=st.integers(1, 60), finish=st.integers(1, 20), share=st.floats(0, 1))
def test_the_learning_rate_rises_and_falls_to_nothing_twice(
    epochs: int, finish: int, share: float
) -> None:
    options = TrainOptions(
        epochs + finish, 0.1, "cosine", warmup=0.05, finish_epochs=finish,
        finish_learning_rate=0.04,
    )  # fmt: skip
    top = epochs / 20

    def rate(epoch: float) -> float:
        factor = cosine_factor(epoch, options)
        assert 0 <= factor <= 1
        return 0.1 * factor

    assert rate(0) == 0
    assert rate(share * top) == pytest.approx(share * 0.1)
    assert rate((top + epochs) / 2) == pytest.approx(0.05)  # of a cosine
    assert rate(epochs - 1e-9) == pytest.approx(0, abs=1e-6)
    assert rate(epochs) == pytest.approx(0.04)
    assert rate(epochs + finish / 2) == pytest.approx(0.02)
    assert rate(epochs + finish) == pytest.approx(0, abs=1e-9)
    falling = [rate(top + step * (epochs - top) / 50) for step in range(50)]
    assert falling == sorted(falling, reverse=True)


def test_a_stage_has_a_folder_below_its_run_s() -> None:
    stage = StageContext(Path("run"), 3, tensorboard=True).stage("fold-1").stage("audio")
    assert stage == StageContext(Path("run/fold-1/audio"), 3, "audio", True)
    assert StageContext().stage("audio").folder is None
