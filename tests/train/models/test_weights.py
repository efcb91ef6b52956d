"""Published weights are read safely and taken strictly."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from train.models.weights import CheckpointError, load_strict, published_file, read_state

SUFFIXES = [".safetensors", ".pt", ".pth", ".bin"]


def tensors() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "half": torch.ones(4).half()}


def write(path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors(), path)
    else:
        torch.save(tensors(), path)
    return path


def assert_same(found: dict[str, Tensor]) -> None:
    assert found.keys() == tensors().keys()
    for name, value in tensors().items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def refused(path: Path, reason: str, key: str | None = None) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_state(path, key)
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tensors_come_back_as_they_were_saved(tmp_path: Path, suffix: str) -> None:
    assert_same(read_state(write(tmp_path / f"model{suffix}")))


@pytest.mark.parametrize("zipped", [True, False])
def test_they_may_lie_under_a_key(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": tensors(), "step": 3}, path, _use_new_zipfile_serialization=zipped)
    assert_same(read_state(path, key="model"))
    refused(path, "'best'", key="best")
    refused(path, "no set of tensors")


@pytest.mark.parametrize("content", [[torch.ones(2)], {"a": 1.0}, {1: torch.ones(2)}])
def test_what_is_no_set_of_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    refused(path, "no set of tensors")


class Evil:
    """Unpickled by an unwary reader, this makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_the_code_not_run(
    tmp_path: Path, suffix: str, zipped: bool
) -> None:
    path, proof = tmp_path / f"model{suffix}", tmp_path / "proof"
    evil = {**tensors(), "evil": Evil(proof)}
    torch.save(evil, path, _use_new_zipfile_serialization=zipped)
    refused(path, "Python code, which is not run")
    assert not proof.exists()
    torch.load(path, weights_only=False)  # the file does work on the unwary
    assert proof.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_with_code_is_not_run_either(tmp_path: Path) -> None:
    path, proof = tmp_path / "model.pt", tmp_path / "proof"
    path.write_bytes(pickle.dumps(Evil(proof)))
    refused(path, "damaged|Python code")  # torch's reader gives up before it sees what it is
    assert not proof.exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"model{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "damaged")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_text_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_text("<!DOCTYPE html>\n<title>Sign in</title>\n" * 20)
    refused(path, "damaged")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_git_lfs_pointer_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    refused(path, "Git LFS pointer")


@settings(max_examples=80)
@given(st.binary(max_size=60), st.sampled_from(SUFFIXES), st.booleans())
def test_no_bytes_lead_to_another_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, suffix: str, patched: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / f"noise{suffix}"
    if patched:
        whole = write(path).read_bytes()
        path.write_bytes(noise + whole[len(noise) :])
    else:
        path.write_bytes(noise)
    try:
        found = read_state(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(value, Tensor) for value in found.values())


def test_a_missing_file_a_folder_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "model.pt", "No such file")
    folder = tmp_path / "folder.pt"
    folder.mkdir()
    refused(folder, "can't be read")
    other = tmp_path / "model.onnx"
    other.write_bytes(b"onnx")
    refused(other, "neither .safetensors nor")


def test_a_missing_published_file_says_what_to_download_and_where_to(tmp_path: Path) -> None:
    folder = tmp_path / "emotion2vec_plus_base"
    with pytest.raises(CheckpointError) as caught:
        published_file(folder, "model.pt", "emotion2vec/emotion2vec_plus_base")
    assert str(caught.value) == (
        f"{folder / 'model.pt'} is missing: download model.pt of "
        f"emotion2vec/emotion2vec_plus_base from the model hub into {folder}"
    )
    folder.mkdir()
    (folder / "model.pt").touch()
    assert published_file(folder, "model.pt", "any/name") == folder / "model.pt"


def network() -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))


def state_of(value: float) -> dict[str, Tensor]:
    return {name: torch.full_like(v, value) for name, v in network().state_dict().items()}


def test_weights_that_fit_are_taken() -> None:
    made = network()
    load_strict(made, {name: value.half() for name, value in state_of(0.5).items()}, "here")
    assert all((value == 0.5).all() for value in made.state_dict().values())
    assert made[0].weight.dtype == torch.float32


def test_all_that_does_not_fit_is_told_at_once_and_nothing_changes() -> None:
    made, given = network(), state_of(1.0)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    del given["2.bias"]
    given["0.weight"] = torch.ones(2, 3)
    given |= {f"extra{k}": torch.ones(1) for k in range(7)}
    with pytest.raises(CheckpointError) as caught:
        load_strict(made, given, "here.pt")
    assert str(caught.value) == (
        "here.pt: not the weights of this model: 1 missing (2.bias); "
        "7 unexpected (extra0, extra1, extra2, extra3, extra4, and 2 more); "
        "1 of another shape (0.weight is (2, 3) instead of (3, 3))"
    )
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    made, given = network(), state_of(1.0)
    given["3.weight"][1, 2] = value
    with pytest.raises(CheckpointError, match=r"here.pt: NaN or infinity .*3\.weight"):
        load_strict(made, given, "here.pt")
    assert not (made[0].weight == 1).any()
