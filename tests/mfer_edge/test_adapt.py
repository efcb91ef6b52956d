"""Adaptation: statistics that add up, and their files."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mfer_edge.adapt import (
    FACE_N0,
    MAX_BYTES,
    N0,
    SCHEMA,
    Adaptation,
    AdaptationStatistics,
    ArmStatistics,
    Face,
    Learned,
    Voice,
)
from mfer_edge.arms import Place
from mfer_edge.errors import AdaptationError, OutputError

MODEL = "ab" * 32
WIDTH = 5
values = st.floats(-1e3, 1e3, width=32)
windows_heard = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(WIDTH)), elements=values),
    min_size=1,
    max_size=8,
)


def total(windows: list[np.ndarray]) -> ArmStatistics:
    return sum(map(ArmStatistics.of, windows), ArmStatistics())


def voice(windows: int = 12, seed: int = 0) -> Voice:
    random = np.random.default_rng(seed)
    mean, deviation = random.normal(0, 1, WIDTH), random.uniform(0.5, 2, WIDTH)
    return Voice(windows, mean.astype(np.float32), deviation.astype(np.float32))


def face(windows: int = 12, width: int = 3) -> Face:
    return Face(windows, np.linspace(-1, 1, width, dtype="f"), np.full(width, 0.5, "f"))


def adaptation(windows: int = 12, seed: int = 0, **fields: object) -> Adaptation:
    return replace(Adaptation(MODEL, voice(windows, seed)), **fields)


class TestStatistics:
    @given(windows_heard)
    def test_are_those_of_all_observations_together(self, windows: list[np.ndarray]) -> None:
        made, observations = total(windows), np.concatenate(windows).astype(np.float64)
        assert (made.windows, made.count) == (len(windows), len(observations))
        np.testing.assert_allclose(made.mean, observations.mean(0), rtol=1e-9, atol=1e-9)
        expected = observations.std(0) if len(observations) > 1 else np.ones(WIDTH)
        np.testing.assert_allclose(made.deviation, expected, rtol=1e-6, atol=1e-6)

    @given(windows_heard, st.randoms(use_true_random=False), st.integers(0, 8))
    def test_do_not_depend_on_order_or_grouping(
        self, windows: list[np.ndarray], random: object, cut: int
    ) -> None:
        shuffled = list(windows)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        one = total(windows)
        for other in (total(shuffled), total(windows[:cut]) + total(windows[cut:])):
            assert (one.windows, one.count) == (other.windows, other.count)
            np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(one.deviation, other.deviation, rtol=1e-6, atol=1e-6)

    def test_small_differences_around_a_large_mean_are_kept(self) -> None:
        values = 1e6 + np.arange(100, dtype=np.float64)
        made = total([np.full((1, WIDTH), value) for value in values])
        np.testing.assert_allclose(made.deviation, values.std(), rtol=1e-9)

    def test_one_observation_has_the_training_sets_deviation(self) -> None:
        made = ArmStatistics.of(np.full((1, WIDTH), 3.0)).learned(Voice)
        assert made is not None
        np.testing.assert_array_equal(made.deviation, np.ones(WIDTH))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_window_that_is_not_finite_is_left_out(self, bad: float) -> None:
        window = np.zeros((2, WIDTH), np.float32)
        window[1, 3] = bad
        assert ArmStatistics.of(window).windows == 0
        assert total([np.ones((1, WIDTH)), window]).count == 1

    def test_nothing_heard_is_no_adaptation(self) -> None:
        with pytest.raises(AdaptationError, match="no speech and no face"):
            AdaptationStatistics(MODEL).adaptation()

    def test_of_different_models_do_not_add_up(self) -> None:
        with pytest.raises(ValueError, match="different models"):
            AdaptationStatistics(MODEL) + AdaptationStatistics("cd" * 32)


class TestBlending:
    @given(st.integers(0, 10**6))
    def test_the_weight_grows_with_what_was_heard(self, windows: int) -> None:
        weight = voice(windows).weight
        assert 0 <= weight < 1
        assert weight < voice(windows + 1).weight
        assert voice(int(N0)).weight == pytest.approx(0.5)

    def test_nothing_heard_is_the_training_set(self) -> None:
        place, same = voice(0).place, Place.training_set(WIDTH)
        np.testing.assert_array_equal(place.shift, same.shift)
        np.testing.assert_array_equal(place.scale, same.scale)

    @given(st.integers(1, 10**6))
    def test_lies_between_the_training_set_and_the_place(self, windows: int) -> None:
        made = voice(windows)
        for blended, own, training in (
            (made.place.shift, made.mean, 0.0),
            (made.place.scale, made.deviation, 1.0),
        ):
            assert blended.dtype == np.float32
            low, high = np.minimum(own, training) - 1e-6, np.maximum(own, training) + 1e-6
            assert ((low <= blended) & (blended <= high)).all()

    def test_of_many_windows_is_the_place(self) -> None:
        made = voice(10**7)
        np.testing.assert_allclose(made.place.shift, made.mean, rtol=1e-4)
        np.testing.assert_allclose(made.place.scale, made.deviation, rtol=1e-4)

    def test_no_deviation_at_all_does_not_divide_by_zero(self) -> None:
        made = replace(voice(10**6), deviation=np.zeros(WIDTH, np.float32))
        assert (made.place.scale > 0).all()

    def test_of_a_face_the_mean_alone_is_used(self) -> None:
        made = face(15)
        assert made.weight == 15 / (15 + FACE_N0)
        np.testing.assert_allclose(made.place.shift, made.weight * made.mean, rtol=1e-6)
        np.testing.assert_array_equal(made.place.scale, np.ones(3))


def same_statistics(one: Learned | None, other: Learned, *, windows: bool = True) -> None:
    """Up to half precision."""
    assert one is not None
    assert not windows or one.windows == other.windows
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-3)
    np.testing.assert_allclose(one.deviation, other.deviation, rtol=1e-3)


class TestFiles:
    def test_come_back_in_half_precision(self, tmp_path: Path) -> None:
        adaptation().save(tmp_path / "office.npz")
        again = Adaptation.load(str(tmp_path / "office.npz"))
        assert (again.model, again.name, again.face) == (MODEL, "office.npz", None)
        same_statistics(again.voice, voice())

    @pytest.mark.parametrize("parts", [{"voice": None}, {}])
    def test_a_face_comes_back_with_and_without_a_voice(
        self, tmp_path: Path, parts: dict[str, None]
    ) -> None:
        made = adaptation(face=face(7), **parts)
        made.save(tmp_path / "office.npz")
        again = Adaptation.load(tmp_path / "office.npz")
        same_statistics(again.face, face(7))
        assert (again.voice is None) == (made.voice is None)

    def test_schema_1_is_a_voice(self, tmp_path: Path) -> None:
        path, old = tmp_path / "old.npz", voice()
        statistics = {"mean": old.mean.astype("e"), "deviation": old.deviation.astype("e")}
        np.savez(
            path, schema=np.int64(1), model=np.array(MODEL), windows=np.int64(12), **statistics
        )
        again = Adaptation.load(path)
        same_statistics(again.voice, old)
        assert (again.model, again.face) == (MODEL, None)

    def test_of_nothing_is_damaged(self, tmp_path: Path) -> None:
        Adaptation(MODEL).save(tmp_path / "office.npz")
        self.refused(tmp_path / "office.npz", "no statistics")

    @settings(max_examples=20)
    @given(st.integers(1, 4096), st.integers(0, 2**31))
    def test_are_a_few_kilobytes(
        self, tmp_path_factory: pytest.TempPathFactory, width: int, windows: int
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "size"
        numbers = np.ones(width, np.float32)
        made = Adaptation(MODEL, Voice(windows, numbers, numbers), Face(3, numbers, numbers))
        made.save(path)
        assert path.stat().st_size < 8 * width + 4000
        again = Adaptation.load(path)
        assert again.voice is not None and again.voice.windows == windows

    def test_numbers_out_of_range_leave_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "office.npz"
        adaptation().save(path)
        before = path.read_bytes()
        with pytest.raises(AdaptationError, match="range"):
            adaptation(face=replace(face(), mean=np.full(3, 1e6, np.float32))).save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_to_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="no folder"):
            adaptation().save(tmp_path / "nope" / "office.npz")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "office.npz", "No such file")

    def test_a_folder(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "directory")

    @pytest.mark.parametrize("content", [b"", b"no archive at all\n" * 50, b"PK\x03\x04"])
    def test_something_else(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "office.npz"
        path.write_bytes(content)
        self.refused(path, "damaged, or not an adaptation")

    def test_every_cut_is_found(self, tmp_path: Path) -> None:
        adaptation().save(tmp_path / "whole")
        whole = (tmp_path / "whole").read_bytes()
        path = tmp_path / "office.npz"
        for length in range(0, len(whole) - 1, 37):
            path.write_bytes(whole[:length])
            self.refused(path, "adaptation")

    def test_every_changed_byte_is_found_or_harmless(self, tmp_path: Path) -> None:
        adaptation().save(tmp_path / "whole")
        whole = (tmp_path / "whole").read_bytes()
        path = tmp_path / "office.npz"
        for index in range(0, len(whole), 7):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :])
            try:
                made = Adaptation.load(path)
            except AdaptationError:
                continue
            same_statistics(made.voice, voice(), windows=False)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"schema": np.int64(SCHEMA + 1)}, f"schema {SCHEMA + 1}"),
            ({"voice_mean": None}, "mean"),
            ({"voice_mean": np.zeros((2, 2), np.float16)}, "do not fit"),
            ({"face_windows": np.int64(3)}, "face_mean"),
            ({"voice_deviation": np.ones(WIDTH + 1, np.float16)}, "do not fit"),
            ({"voice_windows": np.int64(-1)}, "do not fit"),
            ({"voice_windows": np.array("many")}, "not an adaptation"),
            ({"voice_mean": np.full(WIDTH, np.nan, np.float16)}, "not finite"),
            ({"voice_deviation": np.full(WIDTH, -1, np.float16)}, "below 0"),
            ({"voice_mean": np.array([{"code": 1}], object)}, "not an adaptation"),
            ({"voice_mean": np.zeros(MAX_BYTES, np.float16)}, "too large"),
        ],
    )
    def test_wrong_fields(self, tmp_path: Path, change: dict[str, np.ndarray], why: str) -> None:
        adaptation().save(tmp_path / "whole.npz")
        with np.load(tmp_path / "whole.npz") as arrays:
            fields = {**arrays, **change}
        path = tmp_path / "office.npz"
        fields = {name: value for name, value in fields.items() if value is not None}
        np.savez_compressed(path, allow_pickle=True, **fields)
        self.refused(path, why)

    def test_a_small_archive_of_a_huge_array(self, tmp_path: Path) -> None:
        path = tmp_path / "office.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("mean.npy", b"\0" * 50_000_000)
        assert path.stat().st_size < MAX_BYTES
        self.refused(path, "too large")

    def refused(self, path: Path, why: str) -> None:
        with pytest.raises(AdaptationError) as caught:
            Adaptation.load(path)
        message = str(caught.value)
        assert message.startswith(str(path)) and why in message and "\n" not in message
