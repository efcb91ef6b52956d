"""The device that a network is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from train.device import has_bfloat16, select_device
from train.errors import TrainError


def test_auto_is_cuda_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert select_device("auto").type == expected
    assert select_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_an_error() -> None:
    with pytest.raises(TrainError, match="take --device cpu"):
        select_device("cuda")


CPU_INFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPU_INFO.exists(), reason="Linux tells a processor's instructions")
def test_bfloat16_is_taken_where_the_processor_has_it() -> None:
    words = set(CPU_INFO.read_text().split())
    assert has_bfloat16("cpu") == bool(words & {"avx512_bf16", "bf16"})
    assert has_bfloat16("cuda")
