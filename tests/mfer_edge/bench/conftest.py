"""Clips, a pipeline with short windows, and the files of a Jetson."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.engines.load import load_engines
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.clip import read_audio
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.clips import write_clip
from tests.support.footage import filmed, images_of

HWMON = "sys/class/hwmon"
JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.50\n",
    "proc/meminfo": "MemTotal:       31367312 kB\nMemFree:        20000000 kB\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1728000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "729600\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "612000000\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",  # not a GPU
    f"{HWMON}/hwmon0/name": "tmp451\n",
    f"{HWMON}/hwmon0/in1_label": "no rail\n",
    f"{HWMON}/hwmon3/name": "ina3221\n",
    f"{HWMON}/hwmon3/in1_label": "VDD_GPU_SOC\n",
    f"{HWMON}/hwmon3/in1_input": "19120\n",  # mV
    f"{HWMON}/hwmon3/curr1_input": "208\n",  # mA
    f"{HWMON}/hwmon3/in2_label": "VDD_CPU_CV\n",
    f"{HWMON}/hwmon3/in2_input": "19120\n",
    f"{HWMON}/hwmon3/curr2_input": "56\n",
    f"{HWMON}/hwmon3/in3_label": "NC\n",  # a channel that can't be read
}


@pytest.fixture(scope="module")
def brisk() -> Pipeline:
    """The package's bundle with windows that are soon over."""
    bundle = Bundle.open()
    manifest = replace(bundle.manifest, window_s=0.8, hop_s=0.4)
    return Pipeline(Model.of(replace(bundle, manifest=manifest), load_engines(bundle)))


@pytest.fixture(scope="module")
def voice(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sound = read_audio(anger)[None, 22_400:48_000]
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    return write_clip(path, audio=sound, rate=SAMPLE_RATE, video=None)


@pytest.fixture(scope="module")
def face(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    return filmed(path, images_of(anger)[7:15], None)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Neither a face nor speech."""
    path = tmp_path_factory.mktemp("empty") / "empty.mp4"
    black = [np.zeros((48, 64, 3), np.uint8)] * 5
    return filmed(path, black, np.zeros(SAMPLE_RATE, np.float32))


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """The files by which a Jetson describes itself, as its documents name them."""
    for name, text in JETSON.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path
