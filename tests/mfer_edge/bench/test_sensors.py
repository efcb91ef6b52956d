"""Sensors, and their samples during a block."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from mfer_edge.bench.sensors import Sensor, sampled, sensors
from tests.support.threads import started


class TestJetson:
    def test_power_and_clocks(self, jetson: Path) -> None:
        read = {sensor.name: (sensor.unit, sensor.read()) for sensor in sensors(jetson)}
        assert read == {
            "CPU clock": ("MHz", pytest.approx((1728 + 729.6) / 2)),
            "GPU clock": ("MHz", pytest.approx(612)),
            "VDD_GPU_SOC": ("W", pytest.approx(19.12 * 0.208)),
            "VDD_CPU_CV": ("W", pytest.approx(19.12 * 0.056)),
        }


class TestSampled:
    def test_statistics_of_a_changing_value(self) -> None:
        values, enough = iter(range(1_000_000)), threading.Event()

        def read() -> float:
            if (value := next(values)) == 5:
                enough.set()
            return float(value)

        with sampled((Sensor("rail", "W", read),), 0.001) as gauges:
            assert enough.wait(60)
        [gauge] = gauges
        assert (gauge.name, gauge.unit, gauge.least) == ("rail", "W", 0)
        assert gauge.mean == pytest.approx(gauge.most / 2)
        assert gauge.most >= 5
        assert next(values) == gauge.most + 1
        time.sleep(0.01)
        assert next(values) == gauge.most + 2  # no longer sampled

    def test_a_short_block_is_sampled_at_its_end(self) -> None:
        with sampled((Sensor("rail", "W", lambda: 5.0),)) as gauges:
            pass
        assert [gauge.mean for gauge in gauges] == [5.0]

    def test_a_sensor_that_fails(self) -> None:
        with sampled((Sensor("rail", "W", lambda: None),), 0.001) as gauges:
            pass
        assert gauges == []

    def test_no_sensors_no_thread(self) -> None:
        running = started()
        with sampled(()) as gauges:
            assert running() == []
        assert gauges == []
