"""The device that a network is trained on."""

from __future__ import annotations

import pytest
import torch

from train.device import select_device
from train.errors import TrainError


def test_auto_is_cuda_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert select_device("auto").type == expected
    assert select_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_an_error() -> None:
    with pytest.raises(TrainError, match="take --device cpu"):
        select_device("cuda")
