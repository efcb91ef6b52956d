"""Safe and strict reading of published weights."""

from __future__ import annotations

import pickle
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor, nn

from mfer_edge.errors import MferError

PICKLED = (".pt", ".pth", ".bin")
GIT_LFS = b"version https://git-lfs"  # the start of a Git LFS pointer
NAMED = 5  # names that an error lists; the rest is counted


class CheckpointError(MferError):
    """Weights that can't be used."""


def published_file(folder: Path, name: str, hub: str) -> Path:
    """Give the path of a file of a published model.

    Args:
        folder: where the model's files lie.
        name: of the file, there and on the hub.
        hub: the model's name on the model hub.

    Raises:
        CheckpointError: the file is not there, or its folder is closed.
    """
    path = folder / name
    require_file(
        path, f"{path} is missing: download {name} of {hub} from the model hub into {folder}"
    )
    return path


def require_file(path: Path, missing: str) -> None:
    """Check that a file is there.

    Args:
        missing: the error's text when it is not.

    Raises:
        CheckpointError: it is not, or nobody can tell: in a folder without permission, for one.
    """
    try:
        there = stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from error
    if not there:
        raise CheckpointError(missing)


def read_state(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read a checkpoint's tensors, without running code in it.

    Args:
        path: a `.safetensors` file, or a pickled one: `.pt`, `.pth` or `.bin`.
        key: of the tensors in a pickled file; None: they are at its top.

    Raises:
        CheckpointError: the file can't be read, is damaged, or holds something else.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(len(GIT_LFS))
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from error
    if head == GIT_LFS:
        raise CheckpointError(
            f"{path}: a Git LFS pointer instead of the weights: fetch the file itself"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in PICKLED:
        raise CheckpointError(f"{path}: neither .safetensors nor one of {', '.join(PICKLED)}")
    state = _read_pickled(path)
    if key is not None:
        state = state.get(key) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        where = "it" if key is None else f"its entry {key!r}"
        raise CheckpointError(f"{path}: not a checkpoint as expected: {where} is no set of tensors")
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: damaged, or no safetensors file ({error})") from error


def _read_pickled(path: Path) -> object:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any type, depending on the bytes
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            reason = "it holds Python code, which is not run: only tensors are read"
        else:
            reason = f"damaged, or no PyTorch checkpoint ({type(error).__name__})"
        raise CheckpointError(f"{path}: {reason}") from error


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load weights, of which none may be missing, unknown or not finite.

    Args:
        module: to load them into.
        state: tensors named and shaped as the module's own.
        what: name of the weights in errors: their path.

    Raises:
        CheckpointError: they don't fit; the module is unchanged.
    """
    own = module.state_dict()
    require_fit(
        what,
        missing=own.keys() - state.keys(),
        unexpected=state.keys() - own.keys(),
        reshaped=[
            reshaped(name, state[name].shape, own[name].shape)
            for name in own.keys() & state.keys()
            if state[name].shape != own[name].shape
        ],
    )
    require_finite(what, state)
    module.load_state_dict(state)


def reshaped(name: str, given: Collection[int], wanted: Collection[int]) -> str:
    """Description of a wrong shape, for an error."""
    return f"{name} is {tuple(given)} instead of {tuple(wanted)}"


def require_fit(
    what: str, missing: Collection[str], unexpected: Collection[str], reshaped: Collection[str]
) -> None:
    """Raise one error with everything that is wrong with a model's weights.

    Raises:
        CheckpointError: any of the three is not empty.
    """
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names]
    if found:
        raise CheckpointError(f"{what}: not the weights of this model: {'; '.join(found)}")


def require_finite(what: str, state: Mapping[str, Tensor]) -> None:
    """Raise an error if weights are NaN or infinite.

    Raises:
        CheckpointError: there are some; it names the tensors.
    """
    if broken := [name for name, value in state.items() if not value.isfinite().all()]:
        raise CheckpointError(f"{what}: NaN or infinity in {len(broken)} tensors ({_some(broken)})")


def _some(names: Collection[str]) -> str:
    listed = sorted(names)[:NAMED]
    rest = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join(listed + rest)
